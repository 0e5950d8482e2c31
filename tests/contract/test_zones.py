"""A search that looks only where a question can fit finds what one finds that looks everywhere."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.logs import Logged, logged
from tests.support.stores import open_sqlite
from tests.support.subjects import InSqlite, Peer, Subject, append, copy, one
from trishula_router.health.checks import store_check
from trishula_router.health.trial import Trial
from trishula_router.mail.journal_search import JournalSearch
from trishula_router.mail.told_records import ToldRecords
from trishula_router.store.facts import ArchivedFacts, JoinedFacts, LeftFacts, RefusedFacts
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind
from trishula_router.store.messages import Draft, Return, State
from trishula_router.store.sqlite import zone_terms
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.space import ZONES_FILE_NAME
from trishula_router.store.zones import NoZones
from trishula_router.verbs.audit_options import QueryOptions

__all__ = ["logged"]

AGENTS = ("agni", "dc", "rushabdev/7f3a", "rare", "rare/1")
WORK = "capability:work"


class Everywhere:
    """A store whose zones nobody knows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.zones = NoZones()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[InSqlite]:
    subject = InSqlite(tmp_path, node="agni")
    # Thousands of verbs one by one, and no power cut.
    subject.store._writer._connection.execute("PRAGMA synchronous = OFF")
    yield subject
    subject.close()


def search(store: Any) -> JournalSearch:
    return JournalSearch("agni", store, ToldRecords("agni", store, lambda node: None), list)


def answer(subject: InSqlite, store: Any, **asked: Any) -> tuple[list[dict[str, Any]], int]:
    """All pages of an answer, and how many records were looked at for it."""
    records: list[dict[str, Any]] = []
    after, looked, more = 0, 0, True
    while more:
        options = QueryOptions(**asked, after=after, limit=1000)
        told = subject.calls.wait(Deferred.fromCoroutine(search(store).query(options)))
        records += told["records"]
        assert told["after"] > after or not told["more"], "it goes on"
        after, more = told["after"], told["more"]
        looked += told["looked"]
    return records, looked


def gather(subject: InSqlite) -> None:
    while subject.calls.wait(subject.store.zones.step()):
        pass


QUESTIONS: list[dict[str, Any]] = [
    {},
    *({"agent": agent} for agent in ("agni", "dc", "rare", "rare/1", "rushabdev", "helper", "nobody")),
    *({"agent": "rare", "peer": peer} for peer in ("agni", "dc", "rare", "helper")),
    {"agent": "agni", "peer": "dc"},
    {"agent": "helper", "kind": "accepted"},
    *({"kind": kind} for kind in ("joined", "refused", "dead", "forgotten", "replayed", "surfaced", "mode")),
    {"kinds": ("joined", "dead")},
    *({"type": kind} for kind in ("COMMAND", "ERROR", "STATUS")),
    *({"outcome": outcome} for outcome in ("done", "dead", "expired", "cancelled", "refused")),
    {"outcome": "dead", "kind": "accepted"},
    {"outcome": "dead", "agent": "rare"},
    *({"id": message_id} for message_id in ("m0", "m17", "m600", "m900", "b3", "w5", "w900", "nothing")),
    {"since": 1_900_000},
    {"until": 300_000},
    {"since": 900_000, "until": 1_000_000},
    {"since": 900_000, "until": 1_000_000, "agent": "rare"},
    {"until": 2, "kind": "joined"},
]


def live(subject: InSqlite, peer: Peer | None, count: int, seed: int) -> None:
    """Thousands of records of all sorts; terms are gathered meanwhile, now and then."""
    chance = random.Random(seed)
    wait, store = subject.calls.wait, subject.store
    # They wait for company.
    written: list[Deferred[Any]] = []
    soon = written.append
    at = 1000
    waiting: list[tuple[int, str]] = []
    dead: list[int] = []
    batch: list[tuple[Draft, str]] = []
    for number in range(count):
        at += chance.randrange(2000)
        sender = chance.choice(AGENTS[:2]) if chance.random() < 0.995 else chance.choice(AGENTS)
        recipient = WORK if number % 9 == 5 else chance.choice(AGENTS[:3]) if chance.random() < 0.995 else "rare"
        kind = "COMMAND" if chance.random() < 0.3 else "STATUS" if chance.random() < 0.99 else "ERROR"
        prefix = "w" if recipient == WORK else "b" if number % 50 == 3 else "m"
        recipients = AGENTS[:2] if prefix == "b" else (recipient,)
        draft = Draft(sender, f"{prefix}{number}", recipients, kind, 3, at + 10**7, b"{}", digest=str(number))
        batch.append((draft, recipient))
        if len(batch) == 8:
            accepted = append(subject, *(one for one, _ in batch), at=at)
            waiting += [(it, to) for it_all, (_, to) in zip(accepted, batch, strict=True) for it in it_all.positions]
            batch.clear()
        if peer is not None and number % 7 == 1:
            # Offered to another node as well, or only there.
            append(peer, draft if number % 2 else Draft("dc", f"p{number}", ("agni",), "STATUS", 3, at + 10**7, b"{}"))
        if chance.random() < 0.004:
            soon(store.note(Kind.JOINED, JoinedFacts("late", 7, "agent"), at))
        if chance.random() < 0.003:
            soon(store.note(Kind.REFUSED, RefusedFacts("rare", "trishula.error.x", "no"), at))
        if peer is not None and number % 200 == 199:
            copied = copy(subject, peer)
            while copied.arrived:
                waiting += [(it.position, it.recipient) for it in copied.arrived]
                copied = copy(subject, peer)
        # Some wait for long before anything becomes of them.
        while len(waiting) > 500 or (waiting and chance.random() < 0.4):
            position, to = waiting.pop(chance.randrange(min(len(waiting), 5)))
            holder = chance.choice(("agni", "helper")) if to == WORK else to
            soon(store.deliver([(position, 1)], holder, 1, at))
            if chance.random() < 0.1:
                soon(store.give_back([Return(position, 1, 0)], "again", at))
                soon(store.deliver([(position, 2)], holder, 1, at))
            if chance.random() < 0.02:
                soon(store.surface([(position, 1)], holder, 1, at))
            state = (
                State.DONE if chance.random() < 0.98 else chance.choice([State.DEAD, State.EXPIRED, State.CANCELLED])
            )
            soon(store.settle([position], state, None, at))
            if state is State.DEAD:
                dead.append(position)
        if dead and chance.random() < 0.01:
            revived = dead.pop(0)
            wait(store.replay({revived: at + 10**7}, at, "an operator"))
            waiting.append((revived, "agni"))
        if number % 400 == 399:
            soon(store.forget(0, 300, before=at - 600_000, dead_before=0, at=at))
        if chance.random() < 0.02:
            wait(store.zones.step())
    for verb in written:
        wait(verb)


@pytest.mark.parametrize("is_linked", [False, True])
def test_no_question_misses_a_record(here: InSqlite, is_linked: bool) -> None:
    peer = Peer("rushabdev") if is_linked else None
    live(here, peer, 1000, seed=is_linked)
    gather(here)
    nodes = (None, "rushabdev") if is_linked else (None,)
    for question in QUESTIONS:
        for node in nodes:
            asked = question if node is None else {**question, "node": node}
            found = answer(here, here.store, **asked)[0]
            missed = [record for record in answer(here, Everywhere(here.store), **asked)[0] if record not in found]
            assert missed == [], asked
            assert found == answer(here, Everywhere(here.store), **asked)[0], asked


def test_what_is_rare_is_found_without_reading_the_rest(here: InSqlite) -> None:
    for number in range(8):
        append(here, *(Draft("dc", f"m{number}-{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(500)))
        if number == 4:
            one(here, "the one", "rare", at=5)
    gather(here)
    for asked in ({"agent": "rare"}, {"id": "the one"}, {"agent": "rare", "peer": "dc"}):
        records, looked = answer(here, here.store, **asked)
        assert [record["id"] for record in records] == ["the one"]
        # Its zone, and the end of the journal that has no terms yet.
        assert looked <= 2 * 512
        assert answer(here, Everywhere(here.store), **asked)[1] == 4001
    assert answer(here, here.store, kind="dead") == ([], 0)


def test_what_nothing_was_gathered_of_is_read(here: InSqlite) -> None:
    one(here, "m1", "rare")
    assert [record["id"] for record in answer(here, here.store, agent="rare")[0]] == ["m1"]


@pytest.mark.parametrize("damage", ["gone", "of another store", "garbled"])
def test_a_file_that_is_no_use_is_made_anew(tmp_path: Path, here: InSqlite, damage: str) -> None:
    append(here, *(Draft("dc", f"m{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(600)))
    gather(here)
    here.close()
    file = tmp_path / ZONES_FILE_NAME
    if damage == "gone":
        file.unlink()
    elif damage == "garbled":
        file.write_bytes(b"no database at all, but some bytes" * 100)
    else:
        (tmp_path / "other").mkdir()
        other = open_sqlite(tmp_path / "other", here.calls, epoch="epoch-2")
        here.calls.wait(other.zones.step())
        here.calls.wait(other.close())
        file.write_bytes((tmp_path / "other" / ZONES_FILE_NAME).read_bytes())
    here.reopen_closed()
    assert len(answer(here, here.store, agent="agni")[0]) == 600
    gather(here)
    assert answer(here, here.store, agent="nobody") == ([], 89)
    assert len(answer(here, here.store, agent="agni")[0]) == 600


@pytest.mark.parametrize("grown", [0, 2000])
def test_a_file_that_knows_more_than_its_store_is_made_anew(tmp_path: Path, here: InSqlite, grown: int) -> None:
    """The store's file was put back by hand, so its epoch is the same; what came since is not what is gathered."""
    append(here, *(Draft("dc", f"m{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(600)))
    here.close()
    kept = (tmp_path / FILE_NAME).read_bytes()
    here.reopen_closed()
    append(here, *(Draft("dc", f"lost{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(2000)))
    gather(here)
    here.close()
    (tmp_path / FILE_NAME).write_bytes(kept)
    if grown:
        # Nobody gathers in this run: a command, or a node whose index was given up.
        here.reopen_closed()
        one(here, "the one", "rare", at=5)
        append(here, *(Draft("dc", f"n{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(grown)))
        here.close()
    here.reopen_closed()
    if not grown:
        one(here, "the one", "rare", at=5)
    assert [record["id"] for record in answer(here, here.store, agent="rare")[0]] == ["the one"]
    assert len(answer(here, here.store, agent="agni")[0]) == 600 + grown
    gather(here)
    assert [record["id"] for record in answer(here, here.store, agent="rare")[0]] == ["the one"]


def test_a_file_whose_store_has_grown_is_kept(tmp_path: Path, here: InSqlite) -> None:
    append(here, *(Draft("dc", f"m{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(1200)))
    gather(here)
    append(here, *(Draft("dc", f"n{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(1200)))
    here.close()
    here.reopen_closed()
    # What was gathered before is there at once: no step was taken yet.
    assert here.calls.wait(here.store._zones._on_thread(_zones_of)) == [0, 1]


def _zones_of(index: sqlite3.Connection) -> list[int]:
    return [zone for (zone,) in index.execute("SELECT zone FROM zone ORDER BY zone")]


def test_without_a_file_every_question_is_answered_all_the_same(tmp_path: Path, here: InSqlite) -> None:
    (tmp_path / ZONES_FILE_NAME).mkdir()
    one(here, "m1", "rare")
    assert [record["id"] for record in answer(here, here.store, agent="rare")[0]] == ["m1"]
    assert here.calls.wait(here.store.zones.step()) == 0


@pytest.mark.parametrize("when", ["at the opening", "later", "full"])
def test_an_index_that_fails_is_told_as_what_it_is(tmp_path: Path, here: InSqlite, logged: Logged, when: str) -> None:
    one(here, "m1", "rare")
    if when == "at the opening":
        (tmp_path / ZONES_FILE_NAME).mkdir()
    else:
        assert here.calls.wait(here.store.zones.step()) == 0
        broken = "DROP TABLE term" if when == "later" else "PRAGMA max_page_count = 1"
        thread = here.store._zones._thread
        assert thread is not None
        here.calls.wait(thread.submit(lambda connection: connection.execute(broken)))
        if when == "full":
            append(here, *(Draft("dc", f"n{it}", (f"a{it}",), "STATUS", 3, 10**9, b"{}") for it in range(2000)))
    assert [record["id"] for record in answer(here, here.store, agent="rare")[0]] == ["m1"]
    assert here.calls.wait(here.store.zones.step()) == 0
    condition = here.store.condition()
    told = " ".join([*logged.sentences("warn"), *logged.sentences("error")])
    for text in (told, str(condition.index_fault)):
        assert ZONES_FILE_NAME in text and "nothing is lost" in text and "slower" in text
    # Who reads that the store failed stops the node.
    assert condition.fault is None and "the store" not in told and "its store" not in told
    check = store_check(condition, Trial(), 0.0)
    assert not check.degraded, "what is wrong with the store itself comes first"
    proof = Trial()
    proof.begin(0.0)
    proof.passed(0.0)
    check = store_check(condition, proof, 1.0)
    assert check.ok and check.degraded and ZONES_FILE_NAME in check.reason


def test_zones_that_were_cut_are_dropped(here: InSqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_terms, "_WORTH_DROPPING", 2)
    append(here, *(Draft("dc", f"m{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(3000)))
    here.do(lambda store: store.settle(list(range(1, 3001)), State.DONE, None, 200))
    here.do(lambda store: store.forget(0, 5000, before=10**6, dead_before=10**6, at=300))
    gather(here)
    (last,) = here.do(lambda store: store.records(after=3001, limit=1))
    facts = ArchivedFacts(1, 3002, "00" * 32, last.digest.hex(), 3002, "a-file", "00" * 32)
    here.do(lambda store: store.archived(facts, 400))
    here.do(lambda store: store.cut(5000))
    append(here, *(Draft("dc", f"n{it}", ("agni",), "STATUS", 3, 10**9, b"{}") for it in range(600)))
    gather(here)
    index = here.store._zones
    rows = here.calls.wait(index._on_thread(lambda connection: connection.execute("SELECT zone FROM zone").fetchall()))
    assert min(zone for (zone,) in rows) >= 5


def test_a_question_about_a_copy_that_was_cut_tells_whose_archive_has_the_rest(subject: Subject) -> None:
    source = Peer("rushabdev")
    source.do(lambda store: store.note(Kind.LEFT, LeftFacts("agni", 7), 50))
    source.do(lambda store: store.note(Kind.LEFT, LeftFacts("agni", 7), 60))
    copy(subject, source)
    subject.do(lambda store: store.cut_copy(1, 1, 10))

    def told(**asked: Any) -> Any:
        answer = Deferred.fromCoroutine(search(subject.store).query(QueryOptions(**asked)))
        return subject.do(lambda store: answer)

    assert told(node="rushabdev")["archived_to"] == 1
    assert told(node="*")["archived_of"] == {"rushabdev": 1}
    assert "archived_to" not in told(node="rushabdev", after=1) | told(node="rushabdev", since=61)
    assert "archived_of" not in told(node="*", since=61)
    assert "archived_to" not in told()
