"""How mends find the parts of Crossbar's router, and tell whether those are built as expected."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trishula_router.upstream.crossbar_parts import Parts, has


def test_the_parts_are_found_behind_a_transport() -> None:
    broker, dealer = SimpleNamespace(_subscription_map=object()), object()
    router = SimpleNamespace(_broker=broker, _dealer=dealer)
    parts = Parts.behind(SimpleNamespace(_router=router))
    assert (parts.router, parts.broker, parts.dealer, parts.topics) == (
        router,
        broker,
        dealer,
        broker._subscription_map,
    )


@pytest.mark.parametrize("transport", [None, SimpleNamespace(), SimpleNamespace(_router=SimpleNamespace())])
def test_what_is_not_there_is_none_and_has_nothing(transport: object) -> None:
    parts = Parts.behind(transport)
    assert (parts.broker, parts.dealer, parts.topics) == (None, None, None)
    assert not has(parts.dealer, verbs=("processCall",))
    assert not has(parts.dealer, tables=("_invocations",))


@pytest.mark.parametrize(
    ("changed", "is_there"),
    [
        ({}, True),
        ({"detach": None}, False),
        ({"call": {}}, False),
        ({"_one": []}, False),
        ({"_other": print}, False),
        ({"more": 1}, True),
    ],
)
def test_every_method_and_every_table_has_to_be_one(changed: dict[str, Any], is_there: bool) -> None:
    part = SimpleNamespace(**{"call": print, "detach": print, "_one": {}, "_other": {}, **changed})
    assert has(part, verbs=("call", "detach"), tables=("_one", "_other")) is is_there


def test_a_name_that_is_gone_is_missed() -> None:
    assert not has(SimpleNamespace(call=print), verbs=("call", "detach"))
    assert not has(SimpleNamespace(call=print), verbs=("call",), tables=("_one",))
