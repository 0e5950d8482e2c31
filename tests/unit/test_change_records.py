"""Changes of tokens and grants on record: by commands, by hand, while no node runs, and once each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from trishula.contract import uris
from trishula.errors import StorageFull
from trishula_router.agents import file as file_module
from trishula_router.agents.change_notes import Author, Note, done_notes, notes_file_of, read_notes, write_note
from trishula_router.agents.changes import Change, Outline, Revoked, changes_between
from trishula_router.agents.file import AgentEntry, stamp_of, update_agents
from trishula_router.agents.tokens import TokenEntry
from trishula_router.store.facts import TokenFacts
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore

OLD, NEW = TokenEntry("a" * 64, 1.0), TokenEntry("b" * 64, 2.0)
ROOT = Author("root", START_MS, "a laptop was lost")
AGENT = "agent; send *; call *; serve what no other is granted"
OPERATOR = AGENT.replace("agent", "operator", 1)


# -- what changed ------------------------------------------------------------------------------------------------------


def with_tokens(over: tuple[str, ...] = (), **ends: int | None) -> dict[str, Outline]:
    return {"agni": Outline("agent", ends, list(over))}


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (with_tokens(), with_tokens(a=None), ["new"]),
        (with_tokens(a=None), with_tokens(a=5), ["rotated"]),
        (with_tokens(a=5), with_tokens(a=None), ["rotated"]),
        (with_tokens(a=None), with_tokens(), ["revoked"]),
        (with_tokens(a=5), with_tokens(("a",), a=5), ["expired"]),
        (with_tokens(("a",), a=5), with_tokens(("a",), a=5), []),
        (with_tokens(("a",), a=5), with_tokens(), []),
        (with_tokens(("a",), a=5), with_tokens(a=9), ["new"]),
        (with_tokens(a=None), with_tokens(a=5, b=None), ["rotated", "new"]),
    ],
)
def test_what_became_of_a_token(before: dict[str, Outline], after: dict[str, Outline], what: list[str]) -> None:
    assert [change.what for change in changes_between(before, after)] == what


def test_grants_come_before_tokens_and_agents_in_order() -> None:
    before = {"dc": Outline("x", {"c": None})}
    after = {"agni": Outline("y", {"a": None})}
    assert changes_between(before, after) == [
        Change("agni", before=None, after="y"),
        Change("agni", "a", "new"),
        Change("dc", before="x", after=None),
        Change("dc", "c", "revoked"),
    ]


# -- the notes ---------------------------------------------------------------------------------------------------------


def test_notes_outlive_a_torn_line_and_a_file_that_grew_long(tmp_path: Path) -> None:
    file = tmp_path / "agents.json.changes"
    assert read_notes(file) == []
    write_note(file, ROOT, [Change("agni", "aaaaaaaa", "new")], None)
    with file.open("ab") as torn:
        torn.write(b'{"number": 2, "at"')
    write_note(file, ROOT, [Change("agni", "bbbbbbbb", "new")], None)
    told = [(one.number - START_MS, one.changes[0].token) for one in read_notes(file)]
    assert told == [(0, "aaaaaaaa"), (1, "bbbbbbbb")]
    many = [Change("agni", f"{number:08x}", "new") for number in range(500)]
    for _ in range(20):
        write_note(file, ROOT, many, None)
    assert file.stat().st_size < 400 * 1024
    numbers = [one.number - START_MS for one in read_notes(file)]
    assert numbers[-1] == 21 and numbers == list(range(numbers[0], 22)) and numbers[0] > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agents.json.changes"]


# -- a node ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("e1")


AGENTS = {"agni": AgentEntry(tokens=(OLD,)), "boss": AgentEntry(operator=True)}


def start(directory: Path, store: MemoryStore, clock: Clock, agents: dict[str, AgentEntry] | None = None) -> Rig:
    return Rig(directory, store, clock, agents=AGENTS if agents is None else agents).start()


def change(rig: Rig, edit: Callable[[dict[str, AgentEntry]], None], who: Author | None = None) -> None:
    with update_agents(rig.agents_file, who=who) as agents:
        edit(agents)


def have(name: str, **what: Any) -> Callable[[dict[str, AgentEntry]], None]:
    def edit(agents: dict[str, AgentEntry]) -> None:
        agents[name] = replace(agents.get(name, AgentEntry()), **what)

    return edit


def on_record(rig: Rig) -> list[dict[str, Any]]:
    """What the journal tells of tokens and grants, without places and times."""
    boss = rig.join("boss", operator=True)
    told = [
        record
        for kind in ("grants", "token")
        for record in rig.call(boss, uris.AUDIT_QUERY, {"kind": kind, "limit": 100})["records"]
    ]
    rig.leave(boss)
    keys = ("agent", "what", "token", "before", "after", "by", "reason", "until")
    return [{key: record[key] for key in keys if key in record} for record in told]


def test_a_command_is_on_record_with_who_and_why(tmp_path: Path, store: MemoryStore, clock: Clock) -> None:
    rig = start(tmp_path, store, clock)
    assert on_record(rig) == [], "what stood in the file before the node ever looked is nobody's change"
    ending = replace(OLD, expires_at=START_MS / 1000 + 60)
    change(rig, have("agni", tokens=(ending, NEW)), ROOT)
    rig.advance(0.25)
    by = {"by": "root", "reason": "a laptop was lost"}
    assert on_record(rig) == [
        {"agent": "agni", "what": "rotated", "token": "aaaaaaaa", **by, "until": START_MS + 60_000},
        {"agent": "agni", "what": "new", "token": "bbbbbbbb", **by},
    ]
    rig.advance(60)
    assert on_record(rig)[2:] == [{"agent": "agni", "what": "expired", "token": "aaaaaaaa", "by": ""}]
    change(rig, have("agni", tokens=()), ROOT)
    rig.advance(0.25)
    assert on_record(rig)[3:] == [{"agent": "agni", "what": "revoked", "token": "bbbbbbbb", **by}]


def test_an_edit_by_hand_is_on_record_as_that(tmp_path: Path, store: MemoryStore, clock: Clock) -> None:
    rig = start(tmp_path, store, clock)
    # The same change as somebody noted long ago, and undone by hand since.
    change(rig, have("agni", operator=True), ROOT)
    rig.advance(0.25)
    change(rig, have("agni", operator=False))
    rig.advance(0.25)
    change(rig, have("agni", operator=True))
    rig.advance(0.25)
    with update_agents(rig.agents_file) as agents:
        del agents["agni"]
    rig.advance(0.25)
    hand = {"by": "edited by hand"}
    assert on_record(rig) == [
        {"agent": "agni", "before": AGENT, "after": OPERATOR, "by": "root", "reason": "a laptop was lost"},
        {"agent": "agni", "before": OPERATOR, "after": AGENT, **hand},
        {"agent": "agni", "before": AGENT, "after": OPERATOR, **hand},
        {"agent": "agni", "before": OPERATOR, "after": None, **hand},
        {"agent": "agni", "what": "revoked", "token": "aaaaaaaa", **hand},
    ]


def test_a_restart_writes_nothing_twice_and_what_changed_meanwhile(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock)
    change(rig, have("agni", tokens=(OLD, NEW)), ROOT)
    rig.advance(0.25)
    (made,) = on_record(rig)
    rig.crash()
    records = {**AGENTS, "agni": AgentEntry(tokens=(OLD, NEW))}
    again = start(tmp_path, store, clock, records)
    again.advance(1)
    assert on_record(again) == [made]
    again.crash()
    change(again, have("agni", tokens=(NEW,)), ROOT)
    third = start(tmp_path, store, clock, {**AGENTS, "agni": AgentEntry(tokens=(NEW,))})
    revoked = {"agent": "agni", "what": "revoked", "token": "aaaaaaaa", "by": "root", "reason": "a laptop was lost"}
    assert on_record(third) == [made, revoked]
    third.crash()
    assert on_record(start(tmp_path, store, clock, {**AGENTS, "agni": AgentEntry(tokens=(NEW,))})) == [made, revoked]


def test_what_commands_did_before_the_first_start_is_on_record(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = Rig(tmp_path, store, clock, agents={"boss": AgentEntry(operator=True)})
    change(rig, have("agni", tokens=(OLD,)), ROOT)
    started = start(tmp_path, store, clock, {"boss": AgentEntry(operator=True), "agni": AgentEntry(tokens=(OLD,))})
    by = {"by": "root", "reason": "a laptop was lost"}
    assert on_record(started) == [
        {"agent": "agni", "before": None, "after": AGENT, **by},
        {"agent": "agni", "what": "new", "token": "aaaaaaaa", **by},
    ]


def test_a_note_tells_of_the_digits_of_a_hash_and_no_more(tmp_path: Path, store: MemoryStore, clock: Clock) -> None:
    rig = start(tmp_path, store, clock)
    change(rig, have("agni", tokens=(OLD, NEW)), ROOT)
    (note,) = read_notes(notes_file_of(rig.agents_file))
    changes = [Change("agni", "bbbbbbbb", "new")]
    assert note == Note(START_MS, START_MS, "root", "a laptop was lost", changes, stamp_of(rig.agents_file))
    assert "b" * 9 not in notes_file_of(rig.agents_file).read_text()


def test_changes_after_the_notes_were_deleted_are_told_with_who_and_why(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock)
    for at in range(3):
        change(rig, have("agni", tokens=(OLD,) if at % 2 else (OLD, NEW)), Author("root", START_MS + at, "x"))
        rig.advance(0.25)
    assert len(on_record(rig)) == 3
    notes_file_of(rig.agents_file).unlink()
    change(rig, have("agni", operator=True), Author("ann", START_MS + 1000, "y"))
    rig.advance(0.25)
    assert [one["by"] for one in on_record(rig)] == ["ann", "root", "root", "root"]


def test_numbers_grow_also_when_the_clock_was_set_back_and_behind_those_of_an_earlier_release(tmp_path: Path) -> None:
    file = tmp_path / "agents.json.changes"
    file.write_text('{"number": 7, "at": 5, "by": "root"}\n')
    for at in (START_MS, START_MS - 60_000):
        write_note(file, Author("root", at), [], (1, 2, 3))
    assert [one.number for one in read_notes(file)] == [7, START_MS, START_MS + 1]
    assert [one.number for one in done_notes(file, None)] == [7], "of those of an earlier release nobody knows better"


class Killed(BaseException):
    """The command is killed there."""


def kill_at(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(file_module, what, kill)


def test_the_note_of_a_killed_command_explains_no_later_equal_edit_by_hand(
    tmp_path: Path, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(tmp_path, store, clock)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "_put")
        change(rig, have("agni", operator=True), ROOT)
    rig.advance(0.25)
    assert len(read_notes(notes_file_of(rig.agents_file))) == 1 and on_record(rig) == []
    # By hand, to the byte what the command would have written.
    text = (tmp_path / "agents.json.new").read_bytes()
    rig.agents_file.write_bytes(text)
    rig.advance(0.25)
    (told,) = on_record(rig)
    assert (told["after"], told["by"]) == (OPERATOR, "edited by hand")


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen at once", "seen after the next change"])
def test_a_command_that_was_killed_behind_its_change_is_told_of(
    is_seen: bool, tmp_path: Path, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(tmp_path, store, clock)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "mark_done")
        change(rig, have("agni", operator=True), ROOT)
    if is_seen:
        rig.advance(0.25)
    change(rig, have("boss", tokens=(NEW,)), Author("ann", START_MS + 1, "y"))
    rig.advance(0.25)
    assert [(one["agent"], one["by"]) for one in on_record(rig)] == [("agni", "root"), ("boss", "ann")]


def test_of_several_notes_of_one_change_the_latest_tells_of_it(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock)
    for who, operator in (("root", True), ("root", False), ("ann", True)):
        change(rig, have("agni", operator=operator), Author(who, START_MS, f"{who} says so"))
    rig.advance(0.25)
    (told,) = on_record(rig)
    assert (told["by"], told["reason"]) == ("ann", "ann says so")


# -- everywhere --------------------------------------------------------------------------------------------------------


def everywhere(rig: Rig) -> list[dict[str, Any]]:
    boss = rig.join("boss", operator=True)
    records = rig.call(boss, uris.AUDIT_QUERY, {"kind": "token", "limit": 100})["records"]
    rig.leave(boss)
    keys = ("agent", "token", "sha256", "before", "by", "reason")
    return [{key: one[key] for key in keys if key in one} for one in records if one.get("everywhere")]


def test_what_is_revoked_everywhere_is_written_once_and_heeded(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock)
    by = {"by": "root", "reason": "a laptop was lost"}
    change(rig, have("agni", tokens=()), root_revokes(Revoked("agni", 9000)))
    rig.advance(0.5)
    expected = [
        {"agent": "agni", "token": "aaaaaaaa", "sha256": "a" * 64, **by},
        {"agent": "agni", "token": "", "before": 9000, **by},
    ]
    assert everywhere(rig) == expected
    # An old file that is put in place brings nothing back.
    change(rig, have("agni", tokens=(OLD, TokenEntry("c" * 64, 8.9), TokenEntry("d" * 64, 9.0))))
    rig.advance(0.25)
    assert valid(rig) == ["d" * 64]
    rig.crash()
    records = {**AGENTS, "agni": AgentEntry(tokens=(OLD, TokenEntry("d" * 64, 9.0)))}
    again = start(tmp_path, store, clock, records)
    again.advance(1)
    assert (everywhere(again), valid(again)) == (expected, ["d" * 64])


def root_revokes(revoked: Revoked) -> Author:
    return Author(ROOT.by, ROOT.at, ROOT.reason, revoked)


def valid(rig: Rig) -> list[str]:
    """The tokens of agni with which a session may stay."""
    principals = rig.node.principals
    tokens = principals.records["agni"].tokens
    return [one.sha256 for one in tokens if principals.reason_to_leave("agni", one.sha256, START_MS / 1000) is None]


def test_it_is_written_also_if_nothing_of_it_is_in_the_file(tmp_path: Path, store: MemoryStore, clock: Clock) -> None:
    rig = start(tmp_path, store, clock)
    change(rig, lambda agents: None, root_revokes(Revoked("*", 500)))
    rig.advance(0.5)
    by = {"by": "root", "reason": "a laptop was lost"}
    assert everywhere(rig) == [{"agent": "*", "token": "", "before": 500, **by}]
    assert valid(rig) == ["a" * 64], "it was made later"


def test_a_killed_command_revokes_nothing(
    tmp_path: Path, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(tmp_path, store, clock)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "_put")
        change(rig, have("agni", tokens=()), root_revokes(Revoked("agni", 9000)))
    rig.advance(1)
    assert everywhere(rig) == [] and valid(rig) == ["a" * 64]


def test_a_command_that_was_killed_behind_its_file_revokes_all_the_same(
    tmp_path: Path, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(tmp_path, store, clock)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "mark_done")
        # The node looks between the two files, and finds nothing that is done.
        patch.setattr(file_module, "write_note", seen_by(rig, write_note))
        change(rig, lambda agents: None, root_revokes(Revoked("*", 9000)))
    assert everywhere(rig) == []
    rig.advance(0.5)
    assert len(everywhere(rig)) == 1 and valid(rig) == []


def seen_by(rig: Rig, write: Callable[..., int]) -> Callable[..., int]:
    def write_and_look(*arguments: Any) -> int:
        number = write(*arguments)
        rig.advance(0.5)
        return number

    return write_and_look


def test_a_full_store_delays_it_and_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    store = FullStore("e1")
    rig = start(tmp_path, store, clock)
    store.is_full = True
    change(rig, lambda agents: None, root_revokes(Revoked("*", 9000)))
    rig.advance(3)
    assert valid(rig) == ["a" * 64]
    store.is_full = False
    rig.advance(3)
    assert valid(rig) == [] and len(everywhere(rig)) == 1


class FullStore(MemoryStore):
    is_full = False

    def note(self, kind: Kind, facts: Any, at: int) -> Deferred[None]:
        if self.is_full and kind is Kind.TOKEN:
            return fail(StorageFull("the disk is full"))
        return super().note(kind, facts, at)


def test_what_an_earlier_release_copied_is_heeded_once_this_one_runs(tmp_path: Path, clock: Clock) -> None:
    store = MemoryStore("e1")
    facts = TokenFacts("agni", "revoked", "aaaaaaaa", "root", sha256="a" * 64, everywhere=True)
    store.note(Kind.TOKEN, facts, 1)
    store._notes.clear()
    rig = start(tmp_path, store, clock)
    assert valid(rig) == []
    rig.crash()
    assert valid(start(tmp_path, store, clock)) == []
