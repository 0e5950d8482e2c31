"""The shorter way to ask the authorizer: only where Crossbar is as expected, and with the same question."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from trishula_router.upstream.direct_authorizer import answer_directly

ROLES = ("agent", "operator")


def deny_all(
    session: Mapping[str, object], uri: object, action: object, options: Mapping[str, object] | None
) -> dict[str, bool]:
    asked.append((dict(session), uri, action, options))
    return {"allow": False, "disclose": True, "cache": False}


asked: list[object] = []


def dynamic_role() -> SimpleNamespace:
    return SimpleNamespace(_authorizer="a.procedure", authorize=lambda *_: {"allow": True})


def test_the_roles_ask_us_with_who_asks_what_and_the_options() -> None:
    roles = {"agent": dynamic_role(), "operator": dynamic_role(), "node": SimpleNamespace(authorize=None)}
    transport = SimpleNamespace(_router=SimpleNamespace(_roles=roles))

    assert answer_directly(transport, ROLES, deny_all)

    asked.clear()
    session = SimpleNamespace(_authid="dc", _authrole="agent")
    answer = roles["agent"].authorize(session, "a.uri", "call", {"forward_for": []})
    assert answer == {"allow": False, "disclose": True, "cache": False}
    assert asked == [({"authid": "dc", "authrole": "agent"}, "a.uri", "call", {"forward_for": []})]
    assert roles["node"].authorize is None


@pytest.mark.parametrize(
    "transport",
    [
        None,
        SimpleNamespace(),
        SimpleNamespace(_router=SimpleNamespace(_roles=[])),
        SimpleNamespace(_router=SimpleNamespace(_roles={"agent": dynamic_role()})),
        SimpleNamespace(_router=SimpleNamespace(_roles={"agent": dynamic_role(), "operator": SimpleNamespace()})),
    ],
)
def test_a_crossbar_that_is_not_as_expected_is_left_as_it_is(transport: object) -> None:
    roles = getattr(getattr(transport, "_router", None), "_roles", None)
    agent = roles["agent"] if isinstance(roles, dict) else dynamic_role()
    before = agent.authorize
    assert not answer_directly(transport, ROLES, deny_all)
    assert agent.authorize is before
