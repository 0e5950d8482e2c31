"""Nodes that share their agents: what goes over the link, what is taken, and what is written into whose file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from twisted.internet.defer import fail

from tests.conftest import LoggedErrors
from tests.support.pair import Nodes
from trishula.errors import StorageFull
from trishula_router.agents.change_notes import Author, notes_file_of, read_notes, write_note
from trishula_router.agents.file import read_agents, update_agents
from trishula_router.agents.revoking import PeerReached, read_reached, shared_file_of
from trishula_router.agents.shared_agents import AgentState
from trishula_router.agents.text import AgentEntry, parse_agents
from trishula_router.agents.tokens import TokenEntry
from trishula_router.commands.token_reach import latest_note, wait_for_sharing
from trishula_router.peers.agents_word import Word
from trishula_router.peers.belief import Unbelievable
from trishula_router.peers.journal_exchange import AGENTS
from trishula_router.store.interface import Store
from trishula_router.store.memory import MemoryStore

NEW = AgentEntry(serve=(), tokens=(TokenEntry("a" * 64, 1.0),))


def linked(directory: Path, *sharing: str) -> Nodes:
    names = ("agni", "rushabdev")
    nodes = Nodes(directory, {name: MemoryStore(f"epoch-{name}", name) for name in names}, sharing=sharing)
    nodes.advance(1.0)
    return nodes


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return linked(tmp_path, "agni", "rushabdev")


def file(nodes: Nodes, name: str) -> Path:
    return nodes.rigs[name].agents_file


def register(nodes: Nodes, name: str, agent: str = "scout", record: AgentEntry = NEW) -> None:
    with update_agents(file(nodes, name)) as agents:
        agents[agent] = record


def test_a_change_is_in_the_other_file_within_a_second_and_both_say_the_same(nodes: Nodes) -> None:
    register(nodes, "agni")
    nodes.advance(1.0)
    assert read_agents(file(nodes, "rushabdev"))["scout"] == NEW
    assert nodes.rigs["rushabdev"].node.principals.get("scout") is not None
    digests = {rig.node.principals.digest for rig in nodes.rigs.values()}
    assert len(digests) == 1
    (note,) = read_notes(notes_file_of(file(nodes, "rushabdev")))
    assert note.by == "the node agni"
    said = read_reached(shared_file_of(file(nodes, "agni")))
    assert said is not None and said.peers == {"rushabdev": PeerReached(True, True, True)}


def test_files_that_say_the_same_have_their_tokens_in_the_same_order(nodes: Nodes) -> None:
    later = TokenEntry("b" * 64, 2.0)
    register(nodes, "agni", record=replace(NEW, tokens=(later, *NEW.tokens)))
    nodes.advance(2.0)
    assert read_agents(file(nodes, "agni"))["scout"].tokens == (*NEW.tokens, later)
    assert len({rig.node.principals.digest for rig in nodes.rigs.values()}) == 1


@pytest.mark.parametrize("sharing", [("agni",), ("rushabdev",), ()])
def test_where_one_does_not_share_nothing_is_taken_and_the_other_knows(
    tmp_path: Path, sharing: tuple[str, ...]
) -> None:
    nodes = linked(tmp_path, *sharing)
    register(nodes, "agni")
    nodes.advance(8.0)
    assert "scout" not in read_agents(file(nodes, "rushabdev"))
    state = AgentState((9, "agni", '{"call":[],"operator":true,"send":[]}'))
    told = msgspec.msgpack.encode(Word("agni", "x", True, {"dc": state}))
    nodes.rigs["rushabdev"].node.listener.hear(AGENTS, told, "agni")
    nodes.advance(2.0)
    # It is taken where the option is on, and nowhere else.
    assert read_agents(file(nodes, "rushabdev"))["dc"].operator == ("rushabdev" in sharing)
    said = read_reached(shared_file_of(file(nodes, "agni")))
    if "agni" in sharing:
        assert said is not None and said.peers == {"rushabdev": PeerReached(False, True, False)}
    else:
        assert said is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff" * 40,
        msgspec.msgpack.encode(Word("dc", "x", True)),
        msgspec.msgpack.encode(Word("agni", "x", True, {"dc": AgentState((9, "agni", '{"rule": "all"}'))})),
        msgspec.msgpack.encode(Word("agni", "x", True, {"D C": AgentState()})),
        b"\x00" * (2 * 1024 * 1024),
    ],
)
def test_what_can_not_be_is_refused_and_changes_nothing(nodes: Nodes, text: bytes) -> None:
    before = file(nodes, "rushabdev").read_bytes()
    nodes.rigs["rushabdev"].node.listener.hear(AGENTS, text, "agni")
    nodes.advance(2.0)
    assert file(nodes, "rushabdev").read_bytes() == before
    register(nodes, "agni")
    nodes.advance(1.0)
    assert "scout" in read_agents(file(nodes, "rushabdev"))


def test_a_file_that_is_gone_or_broken_waits_for_an_operator(nodes: Nodes) -> None:
    there = file(nodes, "rushabdev")
    good = there.read_bytes()
    for bad in (None, b"{"):
        there.unlink(missing_ok=True)
        if bad is not None:
            there.write_bytes(bad)
            there.chmod(0o600)
        nodes.advance(1.0)
        register(nodes, "agni", record=replace(NEW, operator=bad is None))
        nodes.advance(3.0)
        assert (there.read_bytes() if there.exists() else None) == bad
        assert set(read_agents(file(nodes, "agni"))) == {"agni", "dc", "rushabdev", "scout"}, "nobody was deleted by it"
    there.write_bytes(good)
    nodes.advance(3.0)
    assert read_agents(there) == read_agents(file(nodes, "agni"))


def test_a_command_that_holds_the_file_keeps_nobody_waiting(nodes: Nodes) -> None:
    with update_agents(file(nodes, "rushabdev")) as agents:
        register(nodes, "agni")
        nodes.advance(2.0)
        agents["helper"] = NEW.__class__(serve=())
    nodes.advance(2.0)
    assert {"scout", "helper"} <= set(read_agents(file(nodes, "rushabdev")))
    assert read_agents(file(nodes, "rushabdev")) == read_agents(file(nodes, "agni"))


def test_many_agents_go_in_words_that_may_be_read(nodes: Nodes) -> None:
    lists = tuple(f"agent_{number}" for number in range(100))
    with update_agents(file(nodes, "agni")) as agents:
        agents.update({f"a_{number}": replace(NEW, send=lists, tokens=()) for number in range(400)})
    nodes.advance(3.0)
    assert read_agents(file(nodes, "rushabdev")) == read_agents(file(nodes, "agni"))


def test_a_node_that_stopped_sharing_says_nothing_of_before(tmp_path: Path, nodes: Nodes) -> None:
    register(nodes, "agni")
    nodes.advance(1.0)
    assert shared_file_of(file(nodes, "agni")).exists()
    nodes.down("agni")
    alone = Nodes(tmp_path, {"agni": nodes.stores["agni"]})
    assert not shared_file_of(file(alone, "agni")).exists()
    assert wait_for_sharing(tmp_path / "agni", file(alone, "agni"), 0.0) == []


def test_a_store_of_a_backup_takes_over_what_the_others_know(tmp_path: Path, nodes: Nodes) -> None:
    register(nodes, "agni")
    nodes.advance(1.0)
    nodes.down("rushabdev")
    with update_agents(file(nodes, "agni")) as agents:
        agents["scout"] = replace(NEW, tokens=(), operator=True)
        del agents["dc"]
    nodes.advance(1.0)
    # Its file says more than this store remembers, and that is older than what was changed meanwhile.
    nodes.stores["rushabdev"] = MemoryStore("another-epoch", "rushabdev")
    there = nodes.boot("rushabdev").agents_file
    nodes.advance(8.0)
    assert read_agents(there) == read_agents(file(nodes, "agni"))
    assert read_agents(there)["scout"] == replace(NEW, tokens=(), operator=True)
    assert "dc" not in read_agents(there)


def test_who_makes_a_token_where_the_file_is_gone_takes_nobody_else_away(nodes: Nodes) -> None:
    there = file(nodes, "rushabdev")
    register(nodes, "agni")
    nodes.advance(1.0)
    all_of_them = read_agents(file(nodes, "agni"))
    there.unlink()
    nodes.advance(30.0)
    register(nodes, "rushabdev", "helper")
    nodes.advance(3.0)
    assert read_agents(file(nodes, "agni")) == {**all_of_them, "helper": NEW}
    assert read_agents(there) == read_agents(file(nodes, "agni"))
    # An editor that removes the file for an instant means what it writes then.
    text = there.read_text()
    there.unlink()
    nodes.advance(1.0)
    there.touch(mode=0o600)
    there.write_text(text.replace('"dc"', '"cd"'))
    nodes.advance(3.0)
    assert set(read_agents(file(nodes, "agni"))) == {"agni", "cd", "helper", "rushabdev", "scout"}


def test_a_node_that_starts_without_its_file_deletes_nobody_and_waits(nodes: Nodes) -> None:
    there = file(nodes, "rushabdev")
    before = read_agents(file(nodes, "agni"))
    nodes.down("rushabdev")
    there.unlink()
    nodes.boot("rushabdev", makes_file=False)
    nodes.advance(5.0)
    assert read_agents(file(nodes, "agni")) == before
    assert not there.exists()
    register(nodes, "rushabdev", "helper")
    nodes.advance(5.0)
    assert read_agents(file(nodes, "agni")) == {**before, "helper": NEW}
    assert read_agents(there) == {**before, "helper": NEW}


def test_what_another_release_remembered_stops_neither_the_node_nor_its_sharing(nodes: Nodes) -> None:
    register(nodes, "agni")
    nodes.advance(1.0)
    before = read_agents(file(nodes, "agni"))
    nodes.down("rushabdev")
    newer = '{"agents":{"scout":{"send":[],"colour":"red","tokens":[]}}}'
    known = [
        '{"grants":[5,"agni","{\\"colour\\":\\"red\\"}"]}',
        '{"grants":[5,"agni","{}",7,{}]}',
        "what",
    ]
    for text in known:
        nodes.stores["rushabdev"].remember({"agents-seen:scout": newer, "agents-known:scout": text})
        nodes.boot("rushabdev")
        nodes.advance(5.0)
        assert read_agents(file(nodes, "rushabdev")) == read_agents(file(nodes, "agni")) == before
        nodes.down("rushabdev")


def test_a_fault_of_sharing_leaves_the_rest_of_the_node_alone(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, logged_errors: LoggedErrors
) -> None:
    sharing = nodes.rigs["rushabdev"].node.sharing
    with monkeypatch.context() as patch:
        patch.setattr(sharing, "_look_at_file", lambda: 1 / 0)
        sharing.look()
        sharing.look()
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    register(nodes, "agni")
    nodes.advance(4.0)
    assert "scout" in read_agents(file(nodes, "rushabdev"))


def test_who_is_registered_while_no_node_runs_is_so_from_then_on(nodes: Nodes) -> None:
    there = file(nodes, "agni")
    nodes.down("agni")
    register(nodes, "rushabdev", record=NEW)
    nodes.advance(1.0)
    with update_agents(there) as agents:
        agents["scout"] = replace(NEW, operator=True)
    nodes.boot("agni")
    nodes.advance(4.0)
    assert read_agents(file(nodes, "rushabdev"))["scout"].operator


def test_a_node_whose_clock_was_years_ahead_shares_again_once_it_is_right(tmp_path: Path) -> None:
    names = ("agni", "rushabdev")
    stores: dict[str, Store] = {name: MemoryStore(f"epoch-{name}", name) for name in names}
    ahead = {"agni": 73 * 366 * 86_400_000}
    nodes = Nodes(tmp_path, stores, sharing=names, aheads_ms=ahead)
    nodes.advance(1.0)
    register(nodes, "agni")
    nodes.advance(3.0)
    assert "scout" not in read_agents(file(nodes, "rushabdev"))
    for restarts in (False, True):
        nodes.rigs["agni"].ahead_ms = ahead["agni"]
        register(nodes, "agni", record=replace(NEW, operator=restarts))
        nodes.advance(3.0)
        if restarts:
            nodes.down("agni")
            ahead.clear()
            nodes.boot("agni")
        nodes.rigs["agni"].ahead_ms = 0
        nodes.advance(5.0)
        assert read_agents(file(nodes, "rushabdev"))["scout"].operator == restarts
        register(nodes, "rushabdev", record=replace(NEW, tokens=()))
        nodes.advance(3.0)
        assert read_agents(file(nodes, "agni"))["scout"].tokens == ()


def test_what_a_full_store_could_not_keep_is_kept_as_it_is_by_then(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = nodes.stores["rushabdev"]
    with monkeypatch.context() as patch:
        patch.setattr(store, "remember", lambda notes: fail(StorageFull("no room")))
        for operator in (False, True):
            register(nodes, "rushabdev", record=replace(NEW, operator=operator))
            nodes.advance(0.5)
    nodes.advance(5.0)
    remembered: list[dict[str, str]] = []
    store.remembered("agents-seen:scout").addCallback(remembered.append)
    assert parse_agents(json.loads(remembered[0]["agents-seen:scout"]))["scout"].operator


def test_a_copy_that_can_not_be_written_does_not_end_the_sharing(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    principals = nodes.rigs["rushabdev"].node.principals
    with monkeypatch.context() as patch:
        patch.setattr(principals, "_kept", file(nodes, "rushabdev") / "no-directory" / "agents.json.good")
        register(nodes, "rushabdev", "helper")
        nodes.advance(1.0)
        assert principals.fault is not None and "copy" in principals.fault
        assert "helper" in read_agents(file(nodes, "agni"))
        register(nodes, "agni")
        nodes.advance(1.0)
        assert "scout" in read_agents(file(nodes, "rushabdev"))


def test_a_peer_that_tells_without_end_is_held_to_a_limit_and_what_is_known_goes_on_changing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trishula_router.peers.agents_word._MOST_AGENTS", 5)
    register(nodes, "agni")
    register(nodes, "agni", "helper")
    nodes.advance(1.0)
    # One more than may be known; and the one that is known goes.
    register(nodes, "agni", "third")
    register(nodes, "agni", record=replace(NEW, tokens=()))
    nodes.advance(3.0)
    there = read_agents(file(nodes, "rushabdev"))
    assert "third" not in there
    assert there["scout"].tokens == (), "a token that was taken away is so everywhere"


def test_no_agent_is_taken_that_is_larger_than_a_word(nodes: Nodes) -> None:
    sharing = nodes.rigs["rushabdev"].node.sharing
    told = 0
    with pytest.raises(Unbelievable, match="it tells more of scout than"):
        while told < 20_000:
            tokens = {f"{told + number:064x}" for number in range(2000)}
            texts = {digest: (9, "agni", f'{{"sha256":"{digest}"}}') for digest in tokens}
            state = AgentState((9, "agni", "{}"), texts)
            sharing.receive("agni", msgspec.msgpack.encode(Word("agni", "x", True, {"scout": state})))
            told += len(tokens)
    nodes.advance(3.0)
    assert read_agents(file(nodes, "agni")) == read_agents(file(nodes, "rushabdev")), "and it can be told on"


def test_a_command_that_failed_on_its_way_has_no_later_one_wait_for_it(tmp_path: Path, nodes: Nodes) -> None:
    there = file(nodes, "agni")
    write_note(notes_file_of(there), Author("root", 2**42), [], (1, 2, 3))
    nodes.advance(1.0)
    said = read_reached(shared_file_of(there))
    assert said is not None and said.number == latest_note(there) == 0
