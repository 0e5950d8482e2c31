"""The checker's rule of empty inboxes: when a fetch says that a mailbox is empty, no message is in it. Pure; no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from trishula_drill.final import Final, Key, Messages, name_of
from trishula_drill.history import FetchedEmpty, Handled, Receipted
from trishula_router.store.journal import ORIGIN_SHIFT

__all__ = ["false_empties"]

_NEVER = 1 << 63

#: From, until, whose.
_Span = tuple[int, int, Key]


def false_empties(
    empties: Iterable[FetchedEmpty],
    final: Final,
    messages: Messages,
    receipts: Mapping[Key, Receipted],
    effects: Mapping[tuple[str, Key], Sequence[Handled]],
    *,
    nodes: int,
) -> Iterator[tuple[Key, str]]:
    """The messages that an empty mailbox held, each with what happened.

    Args:
        empties: what the node told.
        final, messages: its store.
        receipts: by message.
        effects: by recipient and message, in the order of time.
        nodes: how many there are.
    """
    waits, stays = _waits(final, messages, receipts, effects, nodes), _stays(messages)
    for who, asked in _by_who(empties).items():
        times = [(one.began_ns, one.at_ns) for one in asked]
        for began_ns, at_ns, key in _pierced(times, waits.get(who, []), closed=False):
            later_s = (at_ns - began_ns) / 1e9
            yield key, f"a fetch ({later_s:.3f} s) told {who} that its mailbox is empty while {name_of(key)} was there"
        marks = [(one.high_water, one.high_water) for one in asked if one.epoch == final.epoch]
        for mark, _, key in _pierced(marks, stays.get(who, []), closed=True):
            yield (
                key,
                f"a fetch told {who} that its mailbox is empty up to {mark}, and {name_of(key)} was accepted before "
                "that and settled after it",
            )


def _waits(
    final: Final,
    messages: Messages,
    receipts: Mapping[Key, Receipted],
    effects: Mapping[tuple[str, Key], Sequence[Handled]],
    nodes: int,
) -> Mapping[str, Sequence[_Span]]:
    """For each recipient from the receipt of a message to its effect, in ns."""
    found: dict[str, list[_Span]] = defaultdict(list)
    for (recipient, key), stored in messages.items():
        receipt = receipts.get(key)
        if receipt is None or stored.state not in ("accepted", "delivered", "done"):
            continue
        if receipt.copies >= nodes or receipt.node == final.node:
            ran = effects.get((recipient, key))
            found[recipient].append((receipt.at_ns, ran[0].at_ns if ran else _NEVER, key))
    return found


def _stays(messages: Messages) -> Mapping[str, Sequence[_Span]]:
    """For each recipient from the position of a message to that of its end."""
    found: dict[str, list[_Span]] = defaultdict(list)
    for (recipient, key), stored in messages.items():
        settled = stored.ends[0][0] if stored.ends else _NEVER
        # Where another node accepted or settled it, nothing is known of before and after here.
        if not stored.position >> ORIGIN_SHIFT and (settled == _NEVER or not settled >> ORIGIN_SHIFT):
            found[recipient].append((stored.position, settled, key))
    return found


def _by_who(empties: Iterable[FetchedEmpty]) -> dict[str, list[FetchedEmpty]]:
    found: dict[str, list[FetchedEmpty]] = defaultdict(list)
    for one in empties:
        found[one.who].append(one)
    return found


def _pierced(
    questions: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int, Key]], *, closed: bool
) -> list[tuple[int, int, Key]]:
    """The questions (begin, end) during all of which a span (from, to, key) lasted, with that span's key.

    Args:
        closed: whether a span that begins where the question does counts.
    """
    ordered = sorted(spans)
    found = []
    # Of the spans that begin before a question, the one that lasts longest decides; both are gone through once.
    longest: tuple[int, Key] | None = None
    index = 0
    for begin, end in sorted(questions):
        while index < len(ordered) and (ordered[index][0] < begin or (closed and ordered[index][0] == begin)):
            _, until, key = ordered[index]
            if longest is None or until > longest[0]:
                longest = (until, key)
            index += 1
        if longest is not None and longest[0] > end:
            found.append((begin, end, longest[1]))
    return found
