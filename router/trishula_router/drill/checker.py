"""The checker: a history and what the store holds at the end, to what was promised and not kept. Pure; no I/O.

The promises (DESIGN), each with the word of its :class:`Violation`:

``lost``         a message with a receipt is in the store, readable and unchanged, and ended; if it ended as ``done``,
                 each of its recipients handled it
``changed``      what a receiver got is what the sender gave
``stranger``     only a message's recipients get it, and nobody gets what nobody sent
``twice``        a handler has its effect once for each message, except where its own process was killed within
                 :data:`UNRECORDED_NS` of the first effect, before that was on record: that is counted apart
``order``        messages of one run of a sender with equal urgency have their first effect in the order of sending.
                 One that fetches and is only shown a message at its second attempt (the answer to an earlier fetch was
                 lost) may have been shown later ones in between: sessions that fetch compete, and the lost one holds
                 its messages until the node knows that it is lost
``false empty``  when a fetch says that a mailbox is empty, no message is in it: none that had its receipt before the
                 fetch began and its effect only after the answer; and by the node's own word: none that was accepted
                 up to the answer's ``high_water`` and settled after it
``early``        no message expires before its time to live has passed; a node that is started again takes the machine's
                 clock as it is then
``two ends``     a message has one final state; only ``done`` follows another one, and the record says what the row says
``journal``      the chain, the rows and the bodies verify

What has no receipt may be anywhere or nowhere: nothing was promised. If it is somewhere, the other rules hold for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from trishula_router.drill.history import (
    Delivered,
    Ended,
    Event,
    FetchedEmpty,
    Handled,
    NodeStarted,
    Receipted,
    Refused,
    Sent,
)

__all__ = ["UNRECORDED_NS", "Final", "Stored", "Verdict", "Violation", "check"]

#: Between a handler's effect and the client's record of it lie a few fsyncs; a machine under load takes its time.
UNRECORDED_NS = 1_000_000_000

Key = tuple[str, str]

#: By how much of the time that passes a node's clock may run fast, rounded up.
_FOLLOWED = 0.02

#: Violations by which a message is gone, or not what it was.
_LOSSES = ("lost", "changed")


@dataclass(frozen=True, slots=True)
class Stored:
    """One message for one recipient, as the store holds it at the end.

    Attributes:
        position: of its ``accepted`` record.
        state: its row's word: accepted, delivered, done, dead, expired, cancelled.
        digest: of the payload that is readable there; ``None`` if none is.
        ends: the final states on record, in the order of the journal, each with its position.
    """

    sender: str
    id: str
    recipient: str
    position: int
    state: str
    digest: str | None
    ends: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Final:
    """What the store holds at the end.

    Attributes:
        messages: those of the history; others may be among them and don't matter.
        damages: what ``verify`` found.
        epoch: whose positions they are.
    """

    messages: Sequence[Stored]
    damages: Sequence[str] = ()
    epoch: str = ""


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


def check(events: Iterable[Event], final: Final) -> Verdict:
    """Judge a history by what became of its messages."""
    return _Check(events, final).verdict()


class _Check:
    """The history, sorted by what the rules ask for."""

    def __init__(self, events: Iterable[Event], final: Final) -> None:
        self.final = final
        self.sent: dict[Key, Sent] = {}
        self.receipts: dict[Key, int] = {}
        self.refused: dict[Key, str] = {}
        self.delivered: list[Delivered] = []
        self.effects: dict[tuple[str, Key], list[Handled]] = defaultdict(list)
        self.empties: list[FetchedEmpty] = []
        self.kills: dict[str, int] = {}
        self.aheads_ms: list[int] = []
        self.last_ns = 0
        self.stored: dict[tuple[str, Key], Stored] = {
            (stored.recipient, (stored.sender, stored.id)): stored for stored in final.messages
        }
        self.violations: list[Violation] = []
        self.excused = 0
        for event in sorted(events, key=lambda event: event.at_ns):
            self.last_ns = event.at_ns
            match event:
                case Sent():
                    self.sent.setdefault((event.who, event.id), event)
                case Receipted():
                    self.receipts.setdefault((event.who, event.id), event.at_ns)
                case Refused():
                    self.refused[event.who, event.id] = event.error.partition(":")[0]
                case Delivered():
                    self.delivered.append(event)
                case Handled():
                    self.effects[event.who, (event.sender, event.id)].append(event)
                case FetchedEmpty():
                    self.empties.append(event)
                case Ended(killed=True):
                    self.kills[event.run] = event.at_ns
                case Ended():
                    pass
                case NodeStarted():
                    self.aheads_ms.append(event.ahead_ms)

    def verdict(self) -> Verdict:
        self._journal()
        self._ends()
        self._losses()
        self._expiries()
        self._strangers()
        self._repeats()
        self._order()
        self._false_empties()
        ours = [stored for (_, key), stored in self.stored.items() if key in self.sent]
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

    def _journal(self) -> None:
        for damage in self.final.damages:
            self._tell("journal", ("", ""), damage)

    def _ends(self) -> None:
        for (recipient, key), stored in self.stored.items():
            words = [word for _, word in stored.ends]
            name = f"{_name(key)} for {recipient}"
            if any(later != "done" and later != earlier for earlier, later in pairwise(words)):
                self._tell("two ends", key, f"{name} has several final states on record: {', '.join(words)}")
            elif words and words[-1] != stored.state:
                self._tell("two ends", key, f"{name} is {stored.state}, and the journal says {words[-1]}")
            elif not words and stored.state not in ("accepted", "delivered"):
                self._tell("two ends", key, f"{name} is {stored.state}, and the journal has no record of that")

    def _losses(self) -> None:
        for key in self.receipts:
            sent = self.sent.get(key)
            for recipient in () if sent is None else sent.recipients:
                sentence = self._loss(key, sent.digest if sent else "", recipient)
                if sentence is not None:
                    self._tell("lost", key, f"{_name(key)} for {recipient} has a receipt and {sentence}")

    def _loss(self, key: Key, digest: str, recipient: str) -> str | None:
        stored = self.stored.get((recipient, key))
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

    def _expiries(self) -> None:
        # What its restarts can have put the node's clock forward by, at most.
        jumped_ms = max(self.aheads_ms) - min(self.aheads_ms) if self.aheads_ms else 0
        for (recipient, key), stored in self.stored.items():
            sent = self.sent.get(key)
            if sent is None or stored.state != "expired":
                continue
            passed_ms = (self.last_ns - sent.at_ns) / 1e6 * (1 + _FOLLOWED) + jumped_ms
            if passed_ms < sent.ttl_ms:
                after = f"after {passed_ms / 1000:.0f} s at most, of the {sent.ttl_ms / 1000:.0f} s it had"
                self._tell("early", key, f"{_name(key)} for {recipient} expired {after}")

    def _strangers(self) -> None:
        for key, who, run in (
            *(((one.sender, one.id), one.who, one.run) for one in self.delivered),
            *((key, who, ran[0].run) for (who, key), ran in self.effects.items()),
        ):
            sent = self.sent.get(key)
            if sent is None:
                self._tell("stranger", key, f"{who} (run {run}) got {_name(key)}, which nobody sent")
            elif who not in sent.recipients:
                to = ", ".join(sent.recipients)
                self._tell("stranger", key, f"{who} (run {run}) got {_name(key)}, which is for {to}")
        for (who, key), ran in self.effects.items():
            sent = self.sent.get(key)
            if sent is not None and any(one.digest != sent.digest for one in ran):
                self._tell("changed", key, f"{who} got {_name(key)} with another payload than was sent")

    def _repeats(self) -> None:
        for (who, key), ran in self.effects.items():
            for first, second in pairwise(ran):
                killed_ns = self.kills.get(first.run)
                if killed_ns is not None and first.run != second.run and killed_ns - first.at_ns < UNRECORDED_NS:
                    self.excused += 1
                    continue
                gap_s = (second.at_ns - first.at_ns) / 1e9
                runs = f"runs {first.run} and {second.run}, {gap_s:.3f} s apart"
                self._tell("twice", key, f"{who} handled {_name(key)} twice: {runs}")

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
            line.sort()
            for (_, earlier), (_, later) in pairwise(line):
                if later < earlier:
                    key = names[sender, run, later]
                    sentence = (
                        f"{who} handled {_name(key)} (number {later} of its run) after number {earlier}, "
                        f"both of priority {priority}"
                    )
                    self._tell("order", key, sentence)

    def _false_empties(self) -> None:
        waits: dict[str, list[tuple[int, int, Key]]] = defaultdict(list)
        spans: dict[str, list[tuple[int, int, Key]]] = defaultdict(list)
        never = 1 << 63
        for (recipient, key), stored in self.stored.items():
            received_ns = self.receipts.get(key)
            if received_ns is not None and stored.state in ("accepted", "delivered", "done"):
                ran = self.effects.get((recipient, key))
                waits[recipient].append((received_ns, ran[0].at_ns if ran else never, key))
            settled = stored.ends[0][0] if stored.ends else never
            spans[recipient].append((stored.position, settled, key))
        for who, empties in _by_who(self.empties).items():
            for began_ns, at_ns, key in _pierced(
                [(one.began_ns, one.at_ns) for one in empties], waits.get(who, []), closed=False
            ):
                later_s = (at_ns - began_ns) / 1e9
                sentence = (
                    f"a fetch ({later_s:.3f} s) told {who} that its mailbox is empty while {_name(key)} was there"
                )
                self._tell("false empty", key, sentence)
            marks = [(one.high_water, one.high_water) for one in empties if one.epoch == self.final.epoch]
            for mark, _, key in _pierced(marks, spans.get(who, []), closed=True):
                sentence = (
                    f"a fetch told {who} that its mailbox is empty up to {mark}, and {_name(key)} was accepted before "
                    "that and settled after it"
                )
                self._tell("false empty", key, sentence)


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


def _name(key: Key) -> str:
    return f"{key[1]} from {key[0]}"
