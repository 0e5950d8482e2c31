"""The checker: a history and what the stores hold at the end, to what was promised and not kept. Pure; no I/O.

The promises (DESIGN), each with the word of its :class:`Violation`:

``lost``         a message with a receipt is in the store, readable and unchanged, and ended; if it ended as ``done``,
                 each of its recipients handled it
``dead``         no message is given up: nothing in a drill refuses one, and a fault is none of the message's
``changed``      what a receiver got is what the sender gave
``stranger``     only a message's recipients get it, and nobody gets what nobody sent
``twice``        a handler has its effect once for each message, except where its own process was killed before the
                 first run was on record in the agent's file, as the file itself says: that is counted apart. A script
                 that remembers by its own history has it on record by the effect itself, so nothing excuses it
``unseen``       a handler that runs a second time by that exception is told so (``attempt`` is more than 1), unless a
                 node was killed since the message was sent, and with it perhaps the knowledge of the first delivery
``order``        messages of one run of a sender with equal urgency have their first effect in the order of sending.
                 Of linked nodes: one that was on a single node when it had its receipt may be late where others of its
                 run were accepted by another node, for that one could not know of it.
                 One that fetches and is only shown a message at its second attempt (the answer to an earlier fetch was
                 lost) may have been shown later ones in between: sessions that fetch compete, and the lost one holds
                 its messages until the node knows that it is lost
``false empty``  when a fetch says that a mailbox is empty, no message is in it: none that had its receipt before the
                 fetch began and its effect only after the answer; and by the node's own word: none that was accepted
                 up to the answer's ``high_water`` and settled after it. A node speaks for itself: what had its receipt
                 from another one while it was there alone may be in its mailbox elsewhere
``early``        no message expires before its time to live has passed, whatever clocks say and whoever is started again
``two ends``     a message has one final state; only ``done`` follows another one, and the record says what the row says
``journal``      the chain, the rows and the bodies verify; linked nodes hold each other's journals, whole
``apart``        linked nodes hold the same messages, in the same states

What has no receipt may be anywhere or nowhere: nothing was promised. If it is somewhere, the other rules hold for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from trishula_drill.emptiness import false_empties
from trishula_drill.final import Final, Key, Messages, Stored, at_node, name_of
from trishula_drill.history import (
    Delivered,
    Ended,
    Event,
    FetchedEmpty,
    Handled,
    NodeKilled,
    Receipted,
    Refused,
    Sent,
)
from trishula_router.store.journal import ORIGIN_SHIFT

__all__ = ["Final", "Stored", "Verdict", "Violation", "check"]

#: By how much of the time that passes a node's clock may run fast, rounded up.
_FOLLOWED = 0.02

#: Violations by which a message is gone, or not what it was.
_LOSSES = ("lost", "changed")


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        kind: the word of the promise; see the module's docstring.
        key: of the message: sender and id; empty if it is not about one.
        sentence: what happened.
    """

    kind: str
    key: Key
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        sent: messages that were given to a client.
        receipts: of them, how many got a receipt.
        unpromised: of them, how many got neither a receipt nor a refusal, as their sender was killed.
        refused: of them, how many were refused for good, by the class of the error.
        effects: effects of handlers.
        empties: empty inboxes that were checked.
        excused: effects that came a second time because the process was killed before the first was on record.
        ends: how many ended how.
    """

    violations: tuple[Violation, ...]
    sent: int = 0
    receipts: int = 0
    unpromised: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    effects: int = 0
    empties: int = 0
    excused: int = 0
    ends: Mapping[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """How many messages were lost, or came out changed."""
        return len({violation.key for violation in self.violations if violation.kind in _LOSSES})

    @property
    def twice(self) -> int:
        """How many messages had their effect twice without excuse."""
        return len({violation.key for violation in self.violations if violation.kind == "twice"})


def check(events: Iterable[Event], *finals: Final, is_ordered: bool = True) -> Verdict:
    """Judge a history by what became of its messages.

    Args:
        events: the history.
        finals: one for each node.
        is_ordered: whether ``order`` is promised; it is not where messages come as files as well.
    """
    return _Check(events, finals).verdict(is_ordered)


class _Check:
    """The history, sorted by what the rules ask for."""

    def __init__(self, events: Iterable[Event], finals: Sequence[Final]) -> None:
        self.finals = finals
        self.sent: dict[Key, Sent] = {}
        self.receipts: dict[Key, Receipted] = {}
        self.refused: dict[Key, str] = {}
        self.delivered: list[Delivered] = []
        self.effects: dict[tuple[str, Key], list[Handled]] = defaultdict(list)
        self.empties: list[FetchedEmpty] = []
        self.on_record: dict[str, frozenset[Key]] = {}
        self.node_kills_ns: list[int] = []
        self.last_ns = 0
        self.stores: list[dict[tuple[str, Key], Stored]] = [
            {(stored.recipient, (stored.sender, stored.id)): stored for stored in final.messages} for final in finals
        ]
        self.violations: list[Violation] = []
        self.excused = 0
        for event in sorted(events, key=lambda event: event.at_ns):
            self.last_ns = event.at_ns
            match event:
                case Sent():
                    self.sent.setdefault((event.who, event.id), event)
                case Receipted():
                    self.receipts.setdefault((event.who, event.id), event)
                case Refused():
                    self.refused[event.who, event.id] = event.error.partition(":")[0]
                case Delivered():
                    self.delivered.append(event)
                case Handled():
                    self.effects[event.who, (event.sender, event.id)].append(event)
                case FetchedEmpty():
                    self.empties.append(event)
                case Ended(killed=True, on_record=frozenset(on_record)):
                    self.on_record[event.run] = on_record
                case Ended():
                    pass
                case NodeKilled():
                    self.node_kills_ns.append(event.at_ns)

    def verdict(self, is_ordered: bool) -> Verdict:
        for final, messages in zip(self.finals, self.stores, strict=True):
            self._journal(final)
            self._ends(final, messages)
            self._losses(final, messages)
            self._deaths(final, messages)
            self._expiries(final, messages)
            asked = [one for one in self.empties if len(self.finals) == 1 or one.epoch == final.epoch]
            for key, sentence in false_empties(
                asked, final, messages, self.receipts, self.effects, nodes=len(self.finals)
            ):
                self._tell("false empty", key, sentence)
        self._apart()
        self._strangers()
        self._repeats()
        if is_ordered:
            self._order()
        ours = [stored for (_, key), stored in self.stores[0].items() if key in self.sent]
        return Verdict(
            tuple(self.violations),
            sent=len(self.sent),
            receipts=len(self.receipts),
            unpromised=len(self.sent.keys() - self.receipts.keys() - self.refused.keys()),
            refused=Counter(self.refused.values()),
            effects=sum(map(len, self.effects.values())),
            empties=len(self.empties),
            excused=self.excused,
            ends=Counter(stored.state for stored in ours),
        )

    def _tell(self, kind: str, key: Key, sentence: str) -> None:
        self.violations.append(Violation(kind, key, sentence))

    def _journal(self, final: Final) -> None:
        for damage in final.damages:
            self._tell("journal", ("", ""), damage + at_node(final))

    def _ends(self, final: Final, messages: Messages) -> None:
        for (recipient, key), stored in messages.items():
            # A node keeps its own order; another's records may be of before and of after.
            lines: dict[int, list[str]] = defaultdict(list)
            for position, word in stored.ends:
                lines[position >> ORIGIN_SHIFT].append(word)
            last = {words[-1] for words in lines.values()}
            name = f"{name_of(key)} for {recipient}"
            if any(
                later != "done" and later != earlier for words in lines.values() for earlier, later in pairwise(words)
            ):
                words = ", ".join(word for _, word in stored.ends)
                self._tell("two ends", key, f"{name} has several final states on record{at_node(final)}: {words}")
            elif last and stored.state not in ({"done"} if "done" in last else last):
                says = " and ".join(sorted(last))
                self._tell("two ends", key, f"{name} is {stored.state}{at_node(final)}, and the journal says {says}")
            elif not last and stored.state not in ("accepted", "delivered"):
                self._tell(
                    "two ends", key, f"{name} is {stored.state}{at_node(final)}, and the journal has no record of that"
                )

    def _apart(self) -> None:
        first, *others = self.finals
        for final, messages in zip(others, self.stores[1:], strict=True):
            for recipient, key in sorted(self.stores[0].keys() | messages.keys()):
                states = [
                    stored.state if stored is not None else "not there"
                    for stored in (self.stores[0].get((recipient, key)), messages.get((recipient, key)))
                ]
                if states[0] != states[1]:
                    is_here, is_there = f"{states[0]}{at_node(first)}", f"{states[1]}{at_node(final)}"
                    self._tell("apart", key, f"{name_of(key)} for {recipient} is {is_here} and {is_there}")

    def _losses(self, final: Final, messages: Messages) -> None:
        for key in self.receipts:
            sent = self.sent.get(key)
            for recipient in () if sent is None else sent.recipients:
                sentence = self._loss(messages, key, sent.digest if sent else "", recipient)
                if sentence is not None:
                    sentence = f"{name_of(key)} for {recipient} has a receipt and {sentence}{at_node(final)}"
                    self._tell("lost", key, sentence)

    def _loss(self, messages: Messages, key: Key, digest: str, recipient: str) -> str | None:
        stored = messages.get((recipient, key))
        if stored is None:
            return "is not in the store"
        if stored.digest is None:
            return "can't be read in the store"
        if stored.digest != digest:
            return "is another one in the store"
        if stored.state in ("accepted", "delivered"):
            return f"did not end: it is {stored.state}"
        if stored.state == "done" and (recipient, key) not in self.effects:
            return "is done, and nobody handled it"
        return None

    def _deaths(self, final: Final, messages: Messages) -> None:
        for (recipient, key), stored in messages.items():
            if stored.state == "dead" and key in self.sent:
                self._tell("dead", key, f"{name_of(key)} for {recipient} was given up{at_node(final)}")

    def _expiries(self, final: Final, messages: Messages) -> None:
        for (recipient, key), stored in messages.items():
            sent = self.sent.get(key)
            if sent is None or stored.state != "expired":
                continue
            passed_ms = (self.last_ns - sent.at_ns) / 1e6 * (1 + _FOLLOWED)
            if passed_ms < sent.ttl_ms:
                after = f"after {passed_ms / 1000:.0f} s at most, of the {sent.ttl_ms / 1000:.0f} s it had"
                self._tell("early", key, f"{name_of(key)} for {recipient} expired{at_node(final)} {after}")

    def _strangers(self) -> None:
        for key, who, run in (
            *(((one.sender, one.id), one.who, one.run) for one in self.delivered),
            *((key, who, ran[0].run) for (who, key), ran in self.effects.items()),
        ):
            sent = self.sent.get(key)
            if sent is None:
                self._tell("stranger", key, f"{who} (run {run}) got {name_of(key)}, which nobody sent")
            elif who not in sent.recipients:
                to = ", ".join(sent.recipients)
                self._tell("stranger", key, f"{who} (run {run}) got {name_of(key)}, which is for {to}")
        for (who, key), ran in self.effects.items():
            sent = self.sent.get(key)
            if sent is not None and any(one.digest != sent.digest for one in ran):
                self._tell("changed", key, f"{who} got {name_of(key)} with another payload than was sent")

    def _repeats(self) -> None:
        for (who, key), ran in self.effects.items():
            for first, second in pairwise(ran):
                on_record = self.on_record.get(first.run)
                if on_record is not None and key not in on_record and first.run != second.run:
                    self.excused += 1
                    self._seen(who, key, second)
                    continue
                gap_s = (second.at_ns - first.at_ns) / 1e9
                runs = f"runs {first.run} and {second.run}, {gap_s:.3f} s apart"
                if on_record is not None and key in on_record:
                    runs += ", the first one on record"
                self._tell("twice", key, f"{who} handled {name_of(key)} twice: {runs}")

    def _seen(self, who: str, key: Key, second: Handled) -> None:
        sent = self.sent.get(key)
        began_ns = second.at_ns if sent is None else sent.at_ns
        if second.attempt == 1 and not any(began_ns <= at_ns <= second.at_ns for at_ns in self.node_kills_ns):
            sentence = f"{who} handled {name_of(key)} again in run {second.run}, and its attempt was 1"
            self._tell("unseen", key, sentence)

    def _order(self) -> None:
        lines: dict[tuple[str, str, str, int], list[tuple[int, int]]] = defaultdict(list)
        shown: dict[tuple[str, Key], int] = {}
        for one in self.delivered:
            shown.setdefault((one.who, (one.sender, one.id)), one.attempt)
        for (who, key), ran in self.effects.items():
            sent = self.sent.get(key)
            if sent is not None and shown.get((who, key), 1) == 1:
                lines[sent.who, sent.run, who, sent.priority].append((ran[0].at_ns, sent.number))
        names = {(sent.who, sent.run, sent.number): key for key, sent in self.sent.items()}
        for (sender, run, who, priority), line in lines.items():
            line = self._promised(line, {number: self.receipts.get(names[sender, run, number]) for _, number in line})
            line.sort()
            for (_, earlier), (_, later) in pairwise(line):
                if later < earlier:
                    key = names[sender, run, later]
                    sentence = (
                        f"{who} handled {name_of(key)} (number {later} of its run) after number {earlier}, "
                        f"both of priority {priority}"
                    )
                    self._tell("order", key, sentence)

    def _promised(self, line: list[tuple[int, int]], receipts: Mapping[int, Receipted | None]) -> list[tuple[int, int]]:
        """What of a line has its order promised: all, unless several nodes accepted it."""
        if len({receipt.node for receipt in receipts.values() if receipt is not None}) < 2:
            return line
        kept = []
        for at_ns, number in line:
            receipt = receipts[number]
            if receipt is not None and receipt.copies >= len(self.finals):
                kept.append((at_ns, number))
        return kept
