"""A linked node with a valid key that lies: what it can claim in its own journal, and what comes of that.

What it claims of others' journals, hellos and presences :mod:`tests.integration.test_stolen_key` has, with the key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from tests.support.nodes import START_MS, Rig
from tests.support.stores import result_of
from tests.support.subjects import InSqlite, append, draft, is_sound, open_ids
from trishula.contract import uris
from trishula.evidence.chain import GENESIS, digest_of
from trishula_router.clocks.clock import WRONG_CLOCK_MS
from trishula_router.peers.journal_exchange import HELLO, JOURNAL
from trishula_router.store.interface import Copied, Store
from trishula_router.store.lease_facts import LEASES, read_lease
from trishula_router.store.memory import MemoryStore
from trishula_router.store.runs import Extract, JournalForked, Particulars, Remembered, Rest

#: The lying node, and the epoch of its store.
LIAR, EPOCH = "rushabdev", "ab" * 8
FAR = 2**62


class Liar:
    """Writes a journal of its own, each record chained as it should be, whatever it says."""

    def __init__(self) -> None:
        self.records: list[tuple[int, str, bytes, bytes]] = []
        self.messages: dict[int, Particulars] = {}
        self.bodies: dict[int, bytes] = {}
        self.own_epochs: dict[int, tuple[str, str]] = {}

    def says(self, kind: str, facts: object, at: int = START_MS) -> int:
        text = facts if isinstance(facts, bytes) else msgspec.json.encode(facts)
        previous = self.records[-1][3] if self.records else GENESIS
        sequence = len(self.records) + 1
        self.records.append((at, kind, text, digest_of(previous, sequence, at, kind, text)))
        return sequence

    def accepts(self, at: int = START_MS, particulars: dict[str, Any] | None = None, **facts: Any) -> int:
        message = {"from": "dc", "id": f"m{len(self.records)}", "to": "agni", "type": "STATUS", **facts}
        body = msgspec.json.encode({**message, "timestamp": START_MS, "payload": 1, "priority": 3})
        told = {"priority": 3, "bytes": len(body), "sha256": sha256(body).hexdigest(), **message}
        sequence = self.says("accepted", told, at)
        more = {"expires_at": START_MS + 10**8, "by_deadline": False, "body": sequence, **(particulars or {})}
        self.messages[sequence], self.bodies[sequence] = Particulars(**more), body
        return sequence

    def extract(self, **more: Any) -> Extract:
        parts = {
            "epoch": EPOCH, "first": 1, "previous": GENESIS, "records": self.records, "messages": self.messages,
            "bodies": self.bodies, "revived": {}, "origins": self.own_epochs,
        }  # fmt: skip
        return Extract(**{**parts, **more})


def journal(extract: Extract, writer: str = LIAR) -> bytes:
    return msgspec.msgpack.encode({"node": LIAR, "writer": writer, "extract": extract, "sent_at": START_MS})


class Linked:
    """agni, which runs, and the liar at the other end of its link."""

    def __init__(self, directory: Path) -> None:
        self.rig = Rig(directory, MemoryStore("epoch-of-agni", "agni"), Clock(), name="agni", peers=(LIAR,)).start()
        self.dc, self.agni = self.rig.join("dc"), self.rig.join("agni")
        self.rig.attach(self.agni)
        self._lies = self._served = 0

    def hello(self, epoch: str = EPOCH, held: dict[str, int] | None = None, **more: Any) -> None:
        word = {"node": LIAR, "epoch": epoch, "held": held or {}, "sent_at": self.rig.now(), "base": 0, **more}
        self.rig.node.listener.hear(HELLO, msgspec.msgpack.encode(word), LIAR)
        self.rig.settle()

    def hears(self, extract: Extract, writer: str = LIAR) -> None:
        self.rig.node.listener.hear(JOURNAL, journal(extract, writer), LIAR)
        self.rig.settle()

    def is_lied_to(self, lie: Callable[[Liar], object]) -> None:
        """By a liar that begins its store anew for each lie: what is refused would keep the next one away."""
        self._lies += 1
        liar, epoch = Liar(), f"{self._lies:016x}"
        lie(liar)
        self.is_lied_to_with(liar.extract(epoch=epoch))

    def is_lied_to_with(self, extract: Extract) -> None:
        """By a liar whose store is of that epoch."""
        self.hello(extract.epoch)
        self.hears(extract)

    def still_serves(self) -> None:
        """Whatever was said: messages of agents here are accepted, handed out and done."""
        self._served += 1
        own = f"own{self._served}"
        (receipt,) = self.rig.send(self.dc, {"type": "STATUS", "id": own, "to": "agni"})
        assert receipt["status"] == "accepted"
        pushed = self.rig.pushed(self.agni)
        assert own in [one["message"]["id"] for one in pushed]
        self.rig.ack(self.agni, *(one["token"] for one in pushed))
        assert self.rig.states(self.dc, own) == {own: "done"}


def copied_to(extract: Extract, store: Store) -> Deferred[Copied]:
    return store.copy(LIAR, extract)


@pytest.fixture
def linked(tmp_path: Path) -> Linked:
    return Linked(tmp_path)


NUMBERS = (0, -1, FAR, -FAR, 2**63 - 1, 2**63, 2**64 - 1)
LIES: dict[str, Any] = {
    **{f"accepted at {n}": lambda it, n=n: it.accepts(at=n) for n in NUMBERS if n < 2**63},
    **{f"expires at {n}": lambda it, n=n: it.accepts(particulars={"expires_at": n}) for n in NUMBERS},
    **{f"body of record {n}": lambda it, n=n: it.accepts(particulars={"body": n}) for n in NUMBERS},
    **{f"state {n}": lambda it, n=n: it.accepts(particulars={"state": n}) for n in (*NUMBERS, 9)},
    **{f"life {n}": lambda it, n=n: it.accepts(particulars={"life": n}) for n in NUMBERS},
    **{f"hop {n}": lambda it, n=n: it.accepts(to="capability:x", particulars={"hop": n}) for n in NUMBERS},
    **{f"accepted for others at {n}": lambda it, n=n: it.accepts(particulars={"accepted_at": n}) for n in NUMBERS},
    **{f"priority {n}": lambda it, n=n: it.accepts(priority=n) for n in NUMBERS},
    **{f"{n} bytes": lambda it, n=n: it.accepts(bytes=n) for n in NUMBERS},
    **{f"use {n}": lambda it, n=n: it.accepts(use=n) for n in NUMBERS},
    **{f"from {n!r}": lambda it, n=n: it.accepts(**{"from": n}) for n in ("", "ghost", "node:x", "a\nb", "x" * 9999)},
    **{f"to {n!r}": lambda it, n=n: it.accepts(to=n) for n in ("", "ghost", "%%", "broadcast", "capability:")},
    **{f"id {n!r}": lambda it, n=n: it.accepts(id=n) for n in ("", "../x", "\x1b[2J", "x" * 9999)},
    **{f"type {n!r}": lambda it, n=n: it.accepts(type=n) for n in ("", "NONE", "HEARTBEAT")},
    **{f"facts {n[:9]!r}": lambda it, n=n: it.says("accepted", n) for n in (b"", b"\xff", b"[" * 20_000, b"7")},
    **{
        f"{kind} of {n[:9]!r}": lambda it, kind=kind, n=n: it.says(kind, n)
        for kind in ("done", "delivered", "returned", "replayed", "handed", "lease", "mode", "token", "clock_set",
                     "archived", "redacted", "purged", "surfaced", "forgotten", "grants", "link", "x" * 5000)
        for n in (b"", b"{}", b'{"messages":[-1]}', b'{"messages":[9223372036854775808]}',
                  b'{"messages":[[7,9223372036854775807]]}', b'{"messages":"x"}', b"[" * 20_000)
    },
}  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_no_lie_keeps_a_node_from_serving(linked: Linked, part: int, logged_errors: LoggedErrors) -> None:
    for name, lie in list(LIES.items())[part::4]:
        linked.is_lied_to(lie)
        linked.still_serves()
        assert logged_errors.failures == [], name
    linked.rig.advance(70.0)
    linked.is_lied_to(partial(Liar.says, kind="done", facts={"messages": []}))
    linked.still_serves()
    assert not result_of(linked.rig.store.verify()).damages
    # And operators can read what it wrote.
    boss = linked.rig.join("agni", operator=True)
    assert len(linked.rig.call(boss, uris.AUDIT_QUERY, {"node": "*", "limit": 1000})["records"]) > len(LIES) / 8
    linked.rig.call(boss, uris.AUDIT_RECORDS, {"node": LIAR})


def test_no_record_of_a_peer_is_told_as_another_nodes(linked: Linked) -> None:
    facts = {"node": "agni", "seq": 10**6, "at": 1, "agent": "dc", "error": "x"}
    linked.is_lied_to(partial(Liar.says, kind="refused", facts={**facts, "kind": "done"}))
    boss = linked.rig.join("agni", operator=True)
    (told,) = linked.rig.call(boss, uris.AUDIT_QUERY, {"node": LIAR})["records"]
    assert (told["node"], told["seq"], told["at"], told["kind"]) == (LIAR, 1, START_MS, "refused")


def test_no_lie_harms_a_store_on_disk(tmp_path: Path) -> None:
    here = InSqlite(tmp_path, node="agni")
    here.store._writer._connection.execute("PRAGMA synchronous = OFF")
    taken = 0
    for number, (name, lie) in enumerate(LIES.items()):
        liar, epoch = Liar(), f"{number:016x}"
        lie(liar)
        try:
            here.do(partial(copied_to, liar.extract(epoch=epoch)))
            taken += 1
        except JournalForked:
            pass
        except Exception as error:
            raise AssertionError(name) from error
    append(here, draft("own"))
    assert "own" in open_ids(here) and is_sound(here) and taken > len(LIES) / 2
    here.reopen()
    assert "own" in open_ids(here) and is_sound(here)
    here.close()


def test_no_stamp_of_a_peer_keeps_leases_from_being_granted_and_read(linked: Linked) -> None:
    boss = linked.rig.join("agni")
    for stamp in (2**52, linked.rig.now() + 2 * WRONG_CLOCK_MS):
        facts = {"lease": f"l{stamp}", "stamp": stamp, "node": LIAR, "holder": "dc", "scope": f"path:{stamp}"}
        linked.is_lied_to(partial(Liar.says, kind="lease", facts={"what": "granted", "ttl_ms": 9, **facts}))
    told = linked.rig.begin(boss, uris.LEASE_CLAIM, "path:src", None)
    linked.rig.advance(3.0)
    assert 0 < result_of(told)["fence"] < linked.rig.now() + 10_000
    remembered = result_of(linked.rig.store.remembered(LEASES)).values()
    assert sum(read_lease(text.encode()) is not None for text in remembered) >= 1


def test_a_peer_can_not_put_the_bus_into_fallback_for_ever(linked: Linked) -> None:
    mode = {"mode": "fallback", "sends": False, "reason": "mine", "by": "dc"}
    linked.is_lied_to(partial(Liar.says, kind="mode", facts={**mode, "since": 2**52}))
    linked.still_serves()
    # As any node may: and any operator may end it.
    linked.is_lied_to(partial(Liar.says, kind="mode", facts={**mode, "since": linked.rig.now() + 1}))
    assert linked.rig.node.fallback.mode.refuses
    boss = linked.rig.join("agni", operator=True)
    linked.rig.call(boss, uris.ADMIN_FALLBACK, "off", {"reason": "a lie"})
    linked.still_serves()


def test_other_words_are_not_put_into_a_message_that_is_handed_on(linked: Linked) -> None:
    # The journal of a node that is away is handed on by others: its chain proves the records, and they the bodies.
    honest = Liar()
    sequence = honest.accepts(id="pay-10")
    body = honest.bodies[sequence].replace(b'"payload":1', b'"payload":9')
    linked.hello()
    linked.hears(honest.extract(epoch="cd" * 8, bodies={sequence: body}), writer="laptop")
    assert linked.rig.pushed(linked.agni) == []
    assert "not that of its message" in linked.rig.node.peering.faults[LIAR]
    assert not result_of(linked.rig.store.verify()).damages
    linked.hears(honest.extract(epoch="cd" * 8), writer="laptop")
    assert [one["message"]["id"] for one in linked.rig.pushed(linked.agni)] == ["pay-10"]
    assert linked.rig.node.peering.faults == {}


def test_a_message_is_as_long_as_it_is_and_fills_nobodys_mailbox(linked: Linked) -> None:
    for size in (2**31, 2**52):
        linked.is_lied_to(partial(Liar.accepts, bytes=size, id=f"long{size}"))
    assert linked.rig.node.mailroom.totals()[1] < 10_000
    linked.still_serves()


KNOWN: dict[str, Any] = {
    "sequence": 1, "sender": "dc", "id": "gone", "recipient": "agni", "type": "STATUS", "digest": "", "use": 0,
    "state": 1, "accepted_at": START_MS, "expires_at": START_MS + 10**8, "life": 0, "priority": 3, "size_bytes": 9,
}  # fmt: skip
REMEMBERED: dict[str, dict[str, Any]] = {
    f"{key} {str(lie)[:20]!r}": {"id": f"gone{key}{number}", key: lie}
    for key in KNOWN
    for number, lie in enumerate(("", "\x1b[2J", "ghost", "x" * 9999) if isinstance(KNOWN[key], str) else NUMBERS)
}


def left(number: int, told: dict[str, Any]) -> Extract:
    """What a liar claims to have left of a journal that was cut: one message."""
    one = Remembered(**{**KNOWN, **told})
    last = max(1, min(one.sequence, 2**53 - 1))
    return Liar().extract(epoch=f"{number:016x}", records=[], rest=Rest([], last, b"", last, {}, [one]))


def test_no_lie_on_messages_whose_records_were_cut_keeps_a_node_from_serving(
    linked: Linked, logged_errors: LoggedErrors
) -> None:
    for number, (name, told) in enumerate(REMEMBERED.items(), 1):
        linked.is_lied_to_with(left(number, told))
        linked.still_serves()
        assert logged_errors.failures == [], name
    assert not result_of(linked.rig.store.verify()).damages
    linked.rig.call(linked.dc, uris.MAILBOX_SEARCH, {})


def test_no_lie_on_messages_whose_records_were_cut_harms_a_store_on_disk(tmp_path: Path) -> None:
    here = InSqlite(tmp_path, node="agni")
    here.store._writer._connection.execute("PRAGMA synchronous = OFF")
    for number, (name, told) in enumerate(REMEMBERED.items(), 1):
        try:
            here.do(partial(copied_to, left(number, told)))
        except JournalForked:
            pass
        except Exception as error:
            raise AssertionError(name) from error
    append(here, draft("own"))
    here.reopen()
    assert "own" in open_ids(here) and is_sound(here)
    here.close()


def test_what_is_left_of_one_journal_takes_no_place_of_another(tmp_path: Path) -> None:
    here = InSqlite(tmp_path, node="agni")
    # A place in a store is the number of the journal, and its sequence behind that: of journal 1 this one is of 3.
    place = 2 << 48 | 2
    rest = Rest([], place, b"", place, {}, [Remembered(**{**KNOWN, "sequence": place})])
    with pytest.raises(JournalForked, match="is told out of order"):
        here.do(partial(copied_to, Liar().extract(epoch="ef" * 8, records=[], rest=rest)))
    for epoch in ("cb" * 8, "cc" * 8, "cd" * 8):
        honest = Liar()
        for number in range(3):
            honest.accepts(id=f"{epoch[:2]}{number}")
        here.do(partial(copied_to, honest.extract(epoch=epoch)))
    assert len(open_ids(here)) == 9 and is_sound(here)
    here.close()


@pytest.mark.parametrize("fork", ["another record", "a gap", "backwards", "a digest of its own"])
def test_a_fork_or_a_gap_of_its_own_chain_changes_nothing(linked: Linked, fork: str) -> None:
    liar = Liar()
    liar.accepts(id="first")
    linked.hello()
    linked.hears(liar.extract())
    held = [(one.epoch, one.sequence) for one in linked.rig.store.origins()]
    forked = Liar()
    forked.accepts(id="other")
    forked.accepts(id="more")
    told = forked.extract()
    if fork == "a gap":
        told = msgspec.structs.replace(told, first=7)
    elif fork == "backwards":
        told = msgspec.structs.replace(told, records=told.records[::-1])
    elif fork == "a digest of its own":
        told = msgspec.structs.replace(told, first=2, previous=bytes(32))
    linked.hears(told)
    assert [(one.epoch, one.sequence) for one in linked.rig.store.origins()][1:] == held[1:]
    assert [one["message"]["id"] for one in linked.rig.pushed(linked.agni)] == ["first"]
    linked.still_serves()


def test_what_it_claims_to_have_left_in_an_archive_takes_nothing_away(linked: Linked) -> None:
    (receipt,) = linked.rig.send(linked.dc, {"type": "STATUS", "id": "kept", "to": "agni"})
    own = linked.rig.store.epoch
    for rest in (
        Rest([], 2**53 - 2, bytes(32), 2**53 - 1), Rest([3, 2], 5, bytes(32), 6), Rest([1] * 100, 100, bytes(32), 100),
        Rest([], 5, b"", 5, {"revoked:token:x": "{}", "anything": "else", f"lease:{'x' * 99}": "[" * 9999}),
    ):  # fmt: skip
        linked.is_lied_to(partial(Liar.says, kind="archived", facts={"last": 2**52, "epoch": own}))
        linked.hears(Liar().extract(epoch="ef" * 8, rest=rest))
    linked.still_serves()
    assert linked.rig.store.base().sequence == 0 and receipt["status"] == "accepted"
