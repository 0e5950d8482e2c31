"""How tokens end: ``token rotate``, ``token revoke``, ``token new --not-before``, and what they refuse."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.support.subjects import InSqlite
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import notes_file_of, read_notes
from trishula_router.agents.file import read_agents, update_agents
from trishula_router.agents.revoking import PeerReached, Reached, reached_file_of, shared_file_of
from trishula_router.agents.token_uses import USED, Use, kind_of_place
from trishula_router.agents.tokens import TokenEntry, digest_of, rotated
from trishula_router.commands import token
from trishula_router.settings.crossbar_config import options_of
from trishula_router.store.facts import TokenFacts
from trishula_router.store.journal import Kind
from trishula_router.store.sqlite.holding import Hold

SHIPPED = Path(__file__).resolve().parents[2] / "config"
DAY_S = 86_400.0


def run(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(token, [*arguments, "--state", str(state)])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a node's file, and the agent agni."""
    (tmp_path / "node.sqlite").write_bytes(b"")
    assert run(tmp_path, "new", "agni").exit_code == 0
    return tmp_path


def tokens_of(state: Path, name: str = "agni") -> tuple[TokenEntry, ...]:
    return read_agents(state / "agents.json")[name].tokens


def ids_of(state: Path, name: str = "agni") -> list[str]:
    return [one.sha256[:8] for one in tokens_of(state, name)]


def made_at(state: Path, *instants_s: float) -> None:
    """Have agni's tokens be made at these instants."""
    with update_agents(state / "agents.json") as agents:
        tokens = tuple(TokenEntry(digest_of(f"agni.{at}"), at) for at in instants_s)
        agents["agni"] = replace(agents["agni"], tokens=tokens)


# -- rotate ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_at", "overlap_s", "ends"),
    [
        (None, 3600.0, [4600.0, None]),
        (9000.0, 3600.0, [4600.0, None]),
        (2000.0, 3600.0, [2000.0, None]),
        (1000.0, 3600.0, [None]),
        (None, 0.0, [None]),
    ],
    ids=["for ever", "later", "sooner", "over", "no overlap"],
)
def test_the_old_token_ends_after_the_overlap_and_never_later_than_it_would(
    expires_at: float | None, overlap_s: float, ends: list[float | None]
) -> None:
    old, new = TokenEntry("a" * 64, 1.0, None, expires_at), TokenEntry("b" * 64, 1000.0)
    assert [one.expires_at for one in rotated((old,), new, 1000.0, overlap_s)] == ends


def test_rotate_makes_a_new_token_beside_the_old_one(state: Path) -> None:
    (old,) = ids_of(state)
    before_s = time.time()
    done = run(state, "rotate", "agni", "--json")
    said = json.loads(done.stdout)
    first, second = tokens_of(state)
    assert (done.exit_code, first.sha256[:8], second.sha256) == (0, old, digest_of(said["token"]))
    assert first.expires_at is not None and second.expires_at is None
    assert before_s + 3600 - 1 <= first.expires_at <= time.time() + 3600
    assert [one["id"] for one in said["ends"]] == [old]
    assert said["ends"][0]["at"] == pytest.approx(first.expires_at, abs=0.01)


def test_rotate_without_overlap_ends_all_others_and_writes_the_file(state: Path) -> None:
    run(state, "new", "agni")
    old = ids_of(state)
    done = run(state, "rotate", "agni", "--overlap", "0s", "--write", str(state / "agni.token"), "--expires-in", "1d")
    (only,) = tokens_of(state)
    assert (done.exit_code, done.stdout) == (0, "")
    assert only.sha256 == digest_of((state / "agni.token").read_text().strip())
    assert only.expires_at == pytest.approx(only.created_at + DAY_S, abs=0.01)
    assert (state / "agni.token").stat().st_mode & 0o777 == 0o600
    assert done.stderr.splitlines() == [
        *(f"the token {one} of agni ends at once, and the sessions that joined with it" for one in old),
        f"the agent agni has a new token in {state}/agents.json. It is in {state}/agni.token",
    ]


def test_rotate_of_an_agent_with_two_valid_tokens_says_what_to_do(state: Path) -> None:
    run(state, "rotate", "agni")
    before = (state / "agents.json").read_bytes()
    done = run(state, "rotate", "agni", "--write", str(state / "no.token"))
    assert (done.exit_code, done.stdout, (state / "no.token").exists()) == (Exit.FAILED, "", False)
    first, second = ids_of(state)
    assert done.stderr.startswith(f"Error: agni has 2 valid tokens, {first} (until 20")
    assert f"), {second} (for ever), and no room for a third: wait until one ends, end one with trishula" in done.stderr
    assert f"trishula token revoke agni --token {first}, or end both now with --overlap 0s\n" in done.stderr
    assert (state / "agents.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rotate", "agni", "--overlap", "2h"), "the token {id} of agni would end at 20"),
        (("revoke", "agni", "--all", "--reason", "x"), "agni: the token {id} made 20"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_a_dry_run_says_what_would_end_and_changes_nothing(state: Path, arguments: tuple[str, ...], said: str) -> None:
    files = {file.name: file.read_bytes() for file in state.iterdir()}
    done = run(state, *arguments, "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith(said.format(id=ids_of(state)[0])) and " would end" in done.stderr
    assert {file.name: file.read_bytes() for file in state.iterdir()} == files
    told = json.loads(run(state, *arguments, "--dry-run", "--json").stdout)
    assert told["dry_run"] is True and "token" not in told


# -- revoke ------------------------------------------------------------------------------------------------------------


def test_revoke_ends_the_token_that_is_named(state: Path) -> None:
    run(state, "new", "agni")
    first, second = ids_of(state)
    done = run(state, "revoke", "agni", "--token", first[:6].upper(), "--reason", "a laptop was lost", "--json")
    assert (done.exit_code, ids_of(state)) == (0, [second])
    (told,) = json.loads(done.stdout)["revoked"]
    assert (told["agent"], told["id"], told["left"]) == ("agni", first, 1)


def test_revoke_ends_what_was_made_before_an_instant(state: Path) -> None:
    made_at(state, 1_770_000_000.0, 1_770_086_400.0)
    run(state, "new", "dc")
    early, late = ids_of(state)
    reason = ("--reason", "a backup was stolen")
    assert run(state, "revoke", "agni", "--before", "2026-02-02T03:00:00Z", *reason).exit_code == 0
    assert ids_of(state) == [late]
    done = run(state, "revoke", "--before", "1d", *reason)
    assert (done.exit_code, ids_of(state), len(ids_of(state, "dc"))) == (0, [], 1), "of all agents"
    assert done.stderr.endswith("agni has no valid token then; make one with: trishula token new agni\n")
    assert early not in done.stderr
    again = run(state, "revoke", "--before", "1d", *reason)
    assert again.exit_code == 0
    assert again.stderr == f"no agent has such a token in {state}/agents.json: nothing ended\n"


def test_revoke_all_leaves_the_agent_registered(state: Path) -> None:
    run(state, "new", "agni")
    assert run(state, "revoke", "agni", "--all", "--reason", "x").exit_code == 0
    assert ids_of(state) == []
    assert "agni" in read_agents(state / "agents.json")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("revoke", "agni", "--reason", "x"), Exit.USAGE, "say which tokens shall end: one of --token PREFIX, "),
        (("revoke", "agni", "--all", "--before", "1d", "--reason", "x"), Exit.USAGE, "say which tokens shall end: one"),
        (("revoke", "--all", "--reason", "x"), Exit.USAGE, "say whose tokens shall end: trishula token revoke NAME"),
        (("revoke", "agni", "--all"), Exit.USAGE, "--reason"),
        (("revoke", "agni", "--all", "--reason", " "), Exit.USAGE, "--reason is ' '; it must have 1 to 300 characters"),
        (("revoke", "agni", "--all", "--reason", "a\nb"), Exit.USAGE, "one line without control characters"),
        (("revoke", "agni", "--token", "abc", "--reason", "x"), Exit.USAGE, "--token must be the first 4 to 64 hexade"),
        (("revoke", "agni", "--token", "agni.secret", "--reason", "x"), Exit.USAGE, "--token must be the first 4 to"),
        (("revoke", "agni", "--before", "soon", "--reason", "x"), Exit.USAGE, "--before is 'soon'; it must be a span"),
        (("revoke", "eve", "--all", "--reason", "x"), Exit.NOT_FOUND, "there is no agent eve in "),
        (("rotate", "eve"), Exit.NOT_FOUND, "there is no agent eve in "),
        (("rotate", "agni", "--overlap", "x"), Exit.USAGE, "--overlap is 'x'; it must be a duration with its unit"),
        (("rotate", "agni", "--overlap", "40000d"), Exit.USAGE, "--overlap is 40000d; it must be at most 36500d"),
        (("rotate", "agni", "--expires-in", "9999999d"), Exit.USAGE, "--expires-in is 9999999d; it must be at most"),
        (("new", "dc", "--expires-in", "9999999d"), Exit.USAGE, "--expires-in is 9999999d; it must be at most 36500d"),
        (
            ("new", "dc", "--not-before", "9999999d"),
            Exit.USAGE,
            "--not-before is '9999999d'; it must be a span such as",
        ),
        (
            ("new", "dc", "--not-before", "noon"),
            Exit.USAGE,
            "or '1d' (from now), or a date such as 2026-11-23T00:00:00",
        ),
    ],
)
def test_what_can_not_be_is_a_sentence_and_changes_nothing(
    state: Path, arguments: tuple[str, ...], code: Exit, sentence: str
) -> None:
    before = (state / "agents.json").read_bytes()
    done = run(state, *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert sentence in done.stderr and "secret" not in done.stderr
    assert (state / "agents.json").read_bytes() == before


def test_a_prefix_that_means_no_token_or_two(state: Path) -> None:
    with update_agents(state / "agents.json") as agents:
        pair = tuple(TokenEntry("abcd" + letter * 60, 1.0) for letter in "12")
        agents["agni"] = replace(agents["agni"], tokens=pair)
    done = run(state, "revoke", "agni", "--token", "abcd", "--reason", "x")
    assert (done.exit_code, "2 tokens of agni begin with abcd; give more digits" in done.stderr) == (Exit.USAGE, True)
    done = run(state, "revoke", "agni", "--token", "beef", "--reason", "x")
    assert done.exit_code == Exit.NOT_FOUND
    assert "no token of agni begins with beef; there are abcd1111, abcd2222" in done.stderr
    assert len(ids_of(state)) == 2


def test_where_the_node_is_linked_it_is_said_that_the_others_do_not_know(state: Path) -> None:
    config = json.loads((SHIPPED / "primary.json").read_text())
    # As files of before, and those who don't want it, don't share.
    del options_of(config)["agents"]
    (state / "crossbar").mkdir()
    (state / "crossbar" / "config.json").write_text(json.dumps(config))
    assert "this node is linked with" not in run(state, "rotate", "agni", "--dry-run").stderr
    told = run(state, "rotate", "agni").stderr.splitlines()
    assert told[-1].startswith("this node is linked with rushabdev: the new token is unknown there, and the old one")


def test_revoke_names_the_linked_nodes_that_it_has_not_reached(state: Path) -> None:
    config = json.loads((SHIPPED / "primary.json").read_text())
    (state / "crossbar").mkdir()
    (state / "crossbar" / "config.json").write_text(json.dumps(config))
    assert run(state, "revoke", "agni", "--all", "--reason", "x", "--dry-run").exit_code == 0
    done = run(state, "revoke", "agni", "--all", "--reason", "x")
    assert done.exit_code == Exit.UNREACHABLE
    assert done.stderr.splitlines()[-1] == (
        f"rushabdev has not been reached, because no node runs on {state} that would tell it: start one; until then it "
        "lets in whoever has such a token"
    )
    again = run(state, "revoke", "agni", "--all", "--reason", "x", "--json")
    told = json.loads(again.stdout)
    assert (again.exit_code, told["revoked"], told["peers"][0]["reached"]) == (Exit.UNREACHABLE, [], False)


@pytest.mark.parametrize(
    ("standing", "sentence"),
    [
        (PeerReached(True, True, True), "rushabdev heeds it too"),
        (
            PeerReached(False, False, True),
            "rushabdev has not been reached: it heeds this when it comes back; until then",
        ),
        (
            PeerReached(False, True, True),
            "rushabdev has not answered within 0.3 s: it heeds this when it gets it; until",
        ),
        (PeerReached(False, True, False), "rushabdev runs an earlier release, which heeds only its own file: run this"),
    ],
    ids=["reached", "away", "slow", "old"],
)
def test_what_is_said_of_a_peer(state: Path, standing: PeerReached, sentence: str) -> None:
    (state / "crossbar").mkdir()
    (state / "crossbar" / "config.json").write_bytes((SHIPPED / "primary.json").read_bytes())
    said = Reached(2**60, {"rushabdev": standing})
    reached_file_of(state / "agents.json").write_bytes(msgspec.json.encode(said))
    node = Hold(state, "a test")
    try:
        done = run(state, "revoke", "agni", "--all", "--reason", "x", "--wait", "0.3s")
    finally:
        node.release()
    assert done.stderr.splitlines()[-1].startswith(sentence)
    assert done.exit_code == (0 if standing.reached else Exit.UNREACHABLE)


@pytest.mark.parametrize(
    ("standing", "sentence"),
    [
        (PeerReached(True, True, True), "rushabdev has this too"),
        (PeerReached(False, False, True), "rushabdev can't be reached now: it gets this when it comes back"),
        (
            PeerReached(False, True, True),
            "rushabdev has not said within 0.2 s that it has this: see trishula node status there",
        ),
        (
            PeerReached(False, True, False),
            "rushabdev does not get this: it does not share agents (agents.shared), or is of an earlier release; make "
            "the change there too",
        ),
        (None, "rushabdev has not got this: the node here did not take it up within 0.2 s"),
    ],
    ids=["reached", "away", "slow", "apart", "asleep"],
)
def test_what_is_said_of_a_peer_that_shares(state: Path, standing: PeerReached | None, sentence: str) -> None:
    config = json.loads((SHIPPED / "primary.json").read_bytes())
    options_of(config)["agents"] = {"shared": True}
    (state / "crossbar").mkdir()
    (state / "crossbar" / "config.json").write_text(json.dumps(config))
    if standing is not None:
        said = Reached(2**60, {"rushabdev": standing})
        shared_file_of(state / "agents.json").write_bytes(msgspec.json.encode(said))
    waiting = ("--wait", "0.2s")
    node = Hold(state, "a test")
    try:
        commands = [("new", "scout"), ("rotate", "scout"), ("grant", "scout", "--serve", "host")]
        for command in commands:
            done = run(state, *command, *waiting)
            assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, sentence)
        told = json.loads(run(state, "grant", "scout", "--serve", "host", "--json", *waiting).stdout)
        is_reached = standing is not None and standing.reached
        assert told["peers"] == [{"node": "rushabdev", "reached": is_reached, "sentence": sentence}]
    finally:
        node.release()
    done = run(state, "new", "helper", *waiting)
    assert done.stderr.splitlines()[-1] == f"rushabdev gets this when a node runs on {state}"


def test_a_token_that_is_revoked_everywhere_is_listed_as_that_and_takes_no_place(state: Path) -> None:
    run(state, "new", "agni")
    first, second = (one.sha256 for one in tokens_of(state))
    (state / "node.sqlite").unlink()
    later_ms = round(time.time() * 1000) + 60_000
    open_and_note(
        state,
        TokenFacts("agni", "revoked", first[:8], "root", "lost", sha256=first, everywhere=True),
        TokenFacts("*", "revoked", "", "ann", "a backup was stolen", before=later_ms, everywhere=True),
    )
    lines = run(state, "list").stdout.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[first[:8], "revoked"], [second[:8], "revoked"]]
    assert lines[0].endswith(", by root: lost") and lines[1].endswith(", by ann: a backup was stolen")
    # Both places are free; and the node whose clock is ahead revoked nothing of what is made now.
    assert run(state, "new", "agni").exit_code == 0
    (made,) = tokens_of(state)
    assert round(made.created_at * 1000) >= later_ms
    assert [line.split()[1] for line in run(state, "list").stdout.splitlines()[1:]] == ["valid"]


def open_and_note(state: Path, *records: TokenFacts) -> None:
    """Have a store of that state remember what records revoke."""
    subject = InSqlite(state)
    for facts in records:
        subject.do(lambda store, facts=facts: store.note(Kind.TOKEN, facts, 1))  # type: ignore[misc]
    subject.close()


def test_the_last_use_of_a_token_is_listed(state: Path) -> None:
    (used,) = tokens_of(state)
    run(state, "new", "agni")
    (state / "node.sqlite").unlink()
    subject = InSqlite(state)
    use = Use(1_770_000_000_000, kind_of_place("10.1.2.3"))
    subject.do(lambda store: store.remember({USED + used.sha256: msgspec.json.encode(use).decode()}))
    subject.close()
    first, second = run(state, "list").stdout.splitlines()[1:]
    assert ", used 2026-02-0" in first and first.endswith(" from a private network")
    assert second.endswith(", never used here")
    told = json.loads(run(state, "list", "--json").stdout)[0]["tokens"]
    assert [(one["used_at"], one["used_from"]) for one in told] == [
        ("2026-02-02T02:40:00Z", "a private network"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1", "this machine"),
        ("::1", "this machine"),
        ("::ffff:127.0.0.1", "this machine"),
        ("192.168.1.2", "a private network"),
        ("fd00::1", "a private network"),
        ("8.8.8.8", "the internet"),
        (None, "an unknown place"),
        ("unix", "an unknown place"),
    ],
)
def test_the_kind_of_an_address(address: str | None, place: str) -> None:
    assert kind_of_place(address) == place


# -- not before --------------------------------------------------------------------------------------------------------


def test_a_token_for_later_is_listed_with_its_time(state: Path) -> None:
    run(state, "new", "guest", "--not-before", "2100-12-01T08:00:00Z", "--expires-in", "1d")
    (guest,) = tokens_of(state, "guest")
    assert guest.not_before == datetime(2100, 12, 1, 8, tzinfo=UTC).timestamp()
    assert guest.expires_at == guest.not_before + DAY_S
    line = run(state, "list").stdout.splitlines()[-1]
    assert "not yet valid  made 20" in line and ", from 2100-12-01T" in line and ", until 2100-12-02T" in line


# -- the note beside the file ------------------------------------------------------------------------------------------


def test_each_command_notes_who_why_and_what_and_no_secret(state: Path) -> None:
    (first,) = ids_of(state)
    secret = run(state, "rotate", "agni", "--reason", "each month").stdout.strip()
    second = digest_of(secret)[:8]
    run(state, "revoke", "agni", "--token", first, "--reason", "lost")
    run(state, "grant", "agni", "--serve", "host", "--reason", "it deploys")
    file = notes_file_of(state / "agents.json")
    notes = read_notes(file)
    assert [one.reason for one in notes] == [None, "each month", "lost", "it deploys"]
    assert [one.number for one in notes] == sorted({one.number for one in notes})
    assert {one.by for one in notes} == {notes[0].by} and notes[0].by
    told = [[(one.token, one.what) for one in note.changes] for note in notes]
    assert told == [
        [("", None), (first, "new")],
        [(first, "rotated"), (second, "new")],
        [(first, "revoked")],
        [("", None)],
    ]
    assert notes[3].changes[0].before == "agent; send *; call *; serve nothing"
    assert notes[3].changes[0].after == "agent; send *; call *; serve host"
    assert secret.partition(".")[2] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_dry_run_writes_no_file_for_a_token_that_was_not_made(state: Path) -> None:
    assert run(state, "rotate", "agni", "--dry-run", "--write", str(state / "agni.token")).exit_code == 0
    assert not list(state.glob("*agni.token*"))
