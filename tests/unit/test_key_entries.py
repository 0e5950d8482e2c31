"""Keys in the file of agents: what is kept of them, what is refused, and that what holds of tokens holds of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.earlier import earlier_release
from tests.support.keys import Pair
from trishula.contract.signing_key import is_sound_key
from trishula.errors import TokenInvalid
from trishula.session.wamp_errors import error_of_leaving
from trishula_router.agents.changes import changes_between, outline_of
from trishula_router.agents.file import AgentsFileError, read_agents, update_agents
from trishula_router.agents.key_proofs import KeyProof, proof_of
from trishula_router.agents.principals import Principals
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import (
    TokenEntry,
    digest_of,
    digest_of_key,
    find_key,
    find_token,
    key_entry,
    with_new_token,
)
from trishula_router.store.facts import TokenFacts, write_facts
from trishula_router.store.journal import Kind
from trishula_router.store.revoked import revocations_in

NOW_S = 1_770_000_000.0
ONE, OTHER = Pair(bytes(32)), Pair(bytes([1]) * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.json"
    with update_agents(path) as agents:
        token = TokenEntry(digest_of("agni.secret"), NOW_S)
        agents["agni"] = AgentEntry(tokens=(token, key_entry(ONE.public, NOW_S, None, NOW_S + 100.0)))
        agents["dc"] = AgentEntry(operator=True, tokens=(key_entry(OTHER.public, NOW_S),))
    return path


def raw_tokens(path: Path, agent: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())["agents"][agent]["tokens"]
    return found


def test_the_file_has_the_public_key_in_the_place_of_a_hash_and_is_read_as_it_was_written(path: Path) -> None:
    assert raw_tokens(path, "agni")[1] == {
        "ed25519": ONE.public,
        "created_at": "2026-02-02T02:40:00.000Z",
        "not_before": None,
        "expires_at": "2026-02-02T02:41:40.000Z",
    }
    token, key = read_agents(path)["agni"].tokens
    assert (token.kind, key.kind, key.ed25519) == ("token", "key", ONE.public)
    assert key == key_entry(ONE.public, NOW_S, None, NOW_S + 100.0)


def edit(path: Path, change: dict[str, object], agent: str = "agni", index: int = 1) -> str:
    raw = json.loads(path.read_text())
    raw["agents"][agent]["tokens"][index].update(change)
    path.write_text(json.dumps(raw))
    with pytest.raises(AgentsFileError) as caught:
        read_agents(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("value", ["", "ab", 7, None, "AB" * 32, "0x" + "ab" * 31, ["ab" * 32]])
def test_what_is_no_public_key_is_refused_and_not_shown(path: Path, value: object) -> None:
    assert edit(path, {"ed25519": value}) == (
        'agents.agni.tokens[1].ed25519 is "…"; it must be a public key, 64 hexadecimal digits in lower case, as '
        "`trishula token key` prints it"
    )


def test_an_entry_is_a_key_or_a_token_and_a_key_is_one_agents(path: Path) -> None:
    assert "ed25519: it must go, or sha256 must: an entry is a key or a token" in edit(path, {"sha256": "ab" * 32})
    raw = json.loads(path.read_text())
    del raw["agents"]["agni"]["tokens"][1]["sha256"]
    path.write_text(json.dumps(raw))
    assert edit(path, {"ed25519": ONE.public}, "dc", 0) == (
        f'agents.dc.tokens[0].ed25519 is "{ONE.public}"; it must be another key than agents.agni.tokens[1].ed25519'
    )


def test_no_token_has_the_digest_of_a_key() -> None:
    entry = key_entry(ONE.public, NOW_S)
    assert find_key([entry], ONE.public) is entry and find_key([entry], OTHER.public) is None
    # Not even if somebody found the text: it has a byte that no text has.
    faked = TokenEntry(digest_of("agni.secret"), NOW_S, ed25519=ONE.public)
    assert find_token([faked], "agni.secret") is None
    assert digest_of_key(ONE.public) not in (digest_of(ONE.public), digest_of(f"ed25519:{ONE.public}"))


def test_of_two_valid_ones_each_may_be_a_key() -> None:
    token, first, second = TokenEntry("a" * 64, 1.0), key_entry(ONE.public, 2.0), key_entry(OTHER.public, 3.0)
    assert with_new_token((token,), first, 10.0) == ((token, first), 0)
    assert with_new_token((token, first), second, 10.0) == ((first, second), 1)


def sentence(principals: Principals, name: str | None, proof: KeyProof, now_s: float = NOW_S) -> str:
    with pytest.raises(TokenInvalid) as caught:
        principals.check_key(name, proof, now_s)
    return caught.value.sentence


def test_whoever_has_the_key_is_told_all_and_whoever_has_not_nothing(path: Path) -> None:
    principals = Principals(path)
    mine, dcs = KeyProof(ONE.public, is_good=True), KeyProof(OTHER.public, is_good=True)
    assert principals.check_key("agni", mine, NOW_S).name == "agni"
    assert principals.check_key(None, dcs, NOW_S).role == "operator"
    assert sentence(principals, "agni", mine, NOW_S + 100.0).startswith(
        "the key of agni expired at 2026-02-02 02:41:40"
    )
    assert sentence(principals, "agni", dcs) == "the key is another agent's than agni's; use the one made for agni"
    # Without a good signature nobody learns whose key it is, or whether there is such an agent.
    unproven = [
        sentence(principals, name, KeyProof(key)) for name in ("agni", "nobody") for key in (ONE.public, "ab" * 32)
    ]
    assert len({one.replace("nobody", "agni") for one in unproven}) == 1


def test_a_key_that_is_revoked_anywhere_is_gone_with_its_sessions_and_no_file_brings_it_back(path: Path) -> None:
    principals = Principals(path)
    digest = digest_of_key(ONE.public)
    assert principals.reason_to_leave("agni", digest, NOW_S) is None
    facts = TokenFacts("agni", "revoked", digest[:8], "ann", "lost", sha256=digest, everywhere=True, is_key=True)
    principals.revoke(revocations_in(Kind.TOKEN, round(NOW_S * 1000), write_facts(facts)))
    assert principals.reason_to_leave("agni", digest, NOW_S) == (
        "the key of agni that this session joined with was revoked, so the session was ended; make a new one with "
        "`trishula token key agni` on the agent's machine"
    )
    assert "is unknown here or was revoked" in sentence(principals, "agni", KeyProof(ONE.public, is_good=True))
    with update_agents(path) as agents:
        agents["agni"] = AgentEntry(tokens=(key_entry(ONE.public, NOW_S + 50.0),))
    assert principals.reload_if_changed()
    assert "is unknown here or was revoked" in sentence(principals, "agni", KeyProof(ONE.public, is_good=True))


def test_the_records_say_that_it_is_a_key(path: Path) -> None:
    outline = outline_of(read_agents(path)["agni"], round(NOW_S * 1000))
    assert outline.keys == [digest_of_key(ONE.public)[:8]]
    (grants, token, key) = changes_between({}, {"agni": outline})
    assert grants.token == "" and token.token == digest_of("agni.secret")[:8] and key.token == outline.keys[0]


TEXT = bytes([3]) * 32


@pytest.mark.parametrize(
    ("signature", "is_good"),
    [
        (ONE.sign(TEXT), True),
        (ONE.sign(TEXT) + TEXT.hex(), True),
        (ONE.sign(TEXT).upper(), True),
        # What the client says to have signed is not what counts.
        (ONE.sign(bytes(32)) + bytes(32).hex(), False),
        (OTHER.sign(TEXT), False),
        (ONE.sign(TEXT)[:-1], False),
        (ONE.sign(TEXT) + "ab", False),
        (ONE.sign(TEXT) + "\n", False),
        ("", False),
        (None, False),
        (b"\0" * 64, False),
    ],
)
def test_a_signature_is_good_for_what_was_to_be_signed_alone(signature: object, is_good: bool) -> None:
    assert proof_of(ONE.public, TEXT, signature) == KeyProof(ONE.public, is_good=is_good)
    assert proof_of(ONE.public, None, signature) == KeyProof(ONE.public)
    assert proof_of(ONE.public.upper(), TEXT, signature) == KeyProof(None)


SMALL = ("00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f", "ed" + "ff" * 31)


@pytest.mark.parametrize("key", SMALL)
def test_a_key_with_which_one_signature_does_for_many_texts_is_none(key: str, path: Path) -> None:
    assert not is_sound_key(key)
    for signature in ("00" * 64, "01" + "00" * 63, key + "00" * 32):
        for text in range(32):
            assert not proof_of(key, bytes([text]) * 32, signature).is_good
    assert "it must be a public key" in edit(path, {"ed25519": key})


EARLIER_NODE = """
import sys
from pathlib import Path
from trishula.errors import TokenInvalid
from trishula_router.agents.file import AgentsFileError, read_agents, update_agents
from trishula_router.agents.principals import Principals

file, kept, public = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
principals = Principals(file, kept)
file.write_text(sys.argv[4])
assert not principals.reload_if_changed()
print(principals.fault)
principals.check_token("agni", "agni.secret", 1_770_000_000.0)
for ticket in (public, f"agni.{public}", f"agni.ed25519:{public}"):
    try:
        principals.check_token("agni", ticket, 1_770_000_000.0)
    except TokenInvalid:
        continue
    print("LET IN")
print(Principals(file, kept).names())
"""


def test_an_earlier_node_refuses_a_file_with_a_key_and_lets_nobody_in_by_one(path: Path, tmp_path: Path) -> None:
    # As it is when an operator copies the file to a linked node that is not upgraded yet.
    with_key = path.read_text()
    with update_agents(path) as agents:
        agents["agni"] = AgentEntry(tokens=(TokenEntry(digest_of("agni.secret"), NOW_S),), serve=())
        agents["dc"] = AgentEntry(operator=True, serve=())
    sources = earlier_release(tmp_path / "earlier")
    line = [sys.executable, "-c", EARLIER_NODE, str(path), str(tmp_path / "kept"), ONE.public, with_key]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": sources}, timeout=60.0)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "agents.agni.tokens[1].ed25519" in said and "it is an unknown key" in said
    assert "the node goes on with what it said last" in said and "LET IN" not in said
    assert said.rstrip().endswith("('agni', 'dc')")


def test_a_client_with_a_key_is_told_that_an_earlier_node_takes_none() -> None:
    error = error_of_leaving("ws://agni:8765/ws", "wamp.error.no_auth_method", "cannot authenticate [2] using any of …")
    assert isinstance(error, TokenInvalid)
    assert error.sentence.startswith("the node at ws://agni:8765/ws takes no keys: it is of an earlier release, or its")
