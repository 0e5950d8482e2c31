"""What a joining client is told it is, or why it may not join."""

from __future__ import annotations

from pathlib import Path

import pytest

from trishula.contract import uris
from trishula.errors import NotAllowed, TokenInvalid, TokenMissing, TrishulaError
from trishula_router.agents.authenticator import Authenticator
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.principals import Principals
from trishula_router.agents.tokens import TokenEntry, digest_of

NOW_S = 1_770_000_000.0


def add(path: Path, name: str, operator: bool = False) -> None:
    with update_agents(path) as agents:
        agents[name] = AgentEntry(operator, tokens=(TokenEntry(digest_of(f"{name}.secret"), NOW_S),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.json"
    add(path, "agni")
    add(path, "dc", operator=True)
    return path


def test_the_token_decides_who_it_is_and_in_which_role(path: Path) -> None:
    authenticator = Authenticator(Principals(path))
    agni = {"realm": uris.REALM, "authid": "agni", "role": "agent"}
    details = {"ticket": "agni.secret", "authextra": {"role": "operator"}, "authrole": "operator"}
    assert authenticator.authenticate(uris.REALM, "agni", details, NOW_S) == agni
    assert authenticator.authenticate(uris.REALM, None, details, NOW_S) == agni
    assert authenticator.authenticate(uris.REALM, "", details, NOW_S) == agni
    assert authenticator.authenticate(uris.REALM, "dc", {"ticket": "dc.secret"}, NOW_S)["role"] == "operator"


def test_a_token_made_while_the_node_runs_works_at_once(path: Path) -> None:
    authenticator = Authenticator(Principals(path))
    add(path, "rushabdev")
    joined = authenticator.authenticate(uris.REALM, "rushabdev", {"ticket": "rushabdev.secret"}, NOW_S)
    assert joined["authid"] == "rushabdev"


@pytest.mark.parametrize(
    ("realm", "authid", "ticket", "error", "sentence"),
    [
        (
            "realm1",
            "agni",
            "agni.secret",
            NotAllowed,
            "there is no realm 'realm1' for agents; join the realm \"trishula\"",
        ),
        (None, "agni", "agni.secret", NotAllowed, 'there is no realm None for agents; join the realm "trishula"'),
        (
            "trishula",
            "agni.secret",
            "agni.secret",
            TokenInvalid,
            "the client's authid is no agent's name: that is a lower-case letter, then up to 62 of a-z, 0-9 and _",
        ),
        (
            "trishula",
            7,
            "agni.secret",
            TokenInvalid,
            "the client's authid is no agent's name: that is a lower-case letter, then up to 62 of a-z, 0-9 and _",
        ),
        (
            "trishula",
            None,
            None,
            TokenMissing,
            "a client tried to join without a token; make one with `trishula token new NAME`",
        ),
        (
            "trishula",
            None,
            "secret-of-something",
            TokenInvalid,
            "the token is none of this bus, which are name.secret; use the one made for the agent",
        ),
        (
            "trishula",
            "agni",
            None,
            TokenMissing,
            "agni tried to join without a token; make one with `trishula token new agni`, set TRISHULA_TOKEN",
        ),
        (
            "trishula",
            "agni",
            "dc.secret",
            TokenInvalid,
            "the token is another agent's than agni's; use the one made for agni",
        ),
        (
            "trishula",
            "agni",
            "agni.guess",
            TokenInvalid,
            "the token of agni is wrong or revoked; make a new one with `trishula token new agni` on the node",
        ),
    ],
)
def test_who_may_not_join_is_told_why(
    path: Path, realm: object, authid: object, ticket: object, error: type[TrishulaError], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        Authenticator(Principals(path)).authenticate(realm, authid, {"ticket": ticket}, NOW_S)
    assert caught.value.sentence == sentence
