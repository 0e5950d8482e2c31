"""One vocabulary: Agent, Client, AsyncClient and Bus have the same verbs, arguments, order and documentation."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest

from trishula.agent import Agent
from trishula.async_client import AsyncClient
from trishula.client import Client
from trishula.sync import Bus
from trishula.verbs import Verbs
from trishula.vocabulary import documented_by, renamed

MEMBERS: tuple[type, ...] = (Agent, Client, AsyncClient, Bus)

#: Verbs and attributes that not all four have, or not with the same arguments: who has them, and why.
MEANT = {
    # An agent is pushed its messages, and its handlers take them.
    "fetch": (Client, AsyncClient, Bus),
    "ack": (Client, AsyncClient, Bus),
    "messages": (Client, AsyncClient, Bus),
    "nack": (Client, AsyncClient, Bus),
    "working": (Client, AsyncClient, Bus),
    # A handler says it of the message that it has: current_delivery().surfaced().
    "declare_model": (Client, AsyncClient, Bus),
    "surfaced": (Client, AsyncClient, Bus),
    # Who is connected as whom; an agent's address is its name.
    "address": (Client, AsyncClient, Bus),
    "url": (Client, AsyncClient, Bus),
    # A script's life is its "with", an agent's is its process or its "async with".
    "start": MEMBERS,
    "stop": (Agent, Client, AsyncClient),
    "close": (Bus,),
    "client": (Agent, AsyncClient),
    # What an agent is beside its verbs: handlers, procedures, what others are told of it.
    "add_procedure": (Agent,),
    "busy": (Agent,),
    "capabilities": (Agent,),
    "from_thread": (Agent,),
    "idle": (Agent,),
    "mode": (Agent,),
    "on": (Agent,),
    "on_mode": (Agent,),
    "on_start": (Agent,),
    "over": (Agent,),
    "procedure": (Agent,),
    "run": (Agent,),
    "serve": (Agent,),
    # For tools that take deliveries as they come, in the reactor's thread.
    "ack_soon": (Client,),
    "activity": (Client,),
    "attach": (Client,),
    "attached": (Client,),
    "beat": (Client,),
    "drained": (Client,),
    "end": (Client,),
    "forward": (Client,),
    "heartbeat": (Client,),
    "is_ready": (Client,),
    "nack_soon": (Client,),
    "new_id": (Client,),
    "node": (Client,),
    "register": (Client,),
    "settings": (Client,),
    "unconfirmed": (Client,),
    "verified": (Client,),
}
#: Whose arguments differ, and why.
ARGUMENTS_DIFFER = {
    "start": "joining takes what each kind is made of",
    "stop": "an agent lets its handlers finish",
    "subscribe": "an agent's is a decorator too, and has threads for what blocks",
}


def public(member: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(member) if not name.startswith("_")}


def arguments(function: Any) -> list[tuple[str, Any, Any, Any]]:
    """Names, kinds, defaults and types in order; what comes back differs, as a value does from an awaitable of it."""
    return [
        (each.name, each.kind, each.default, each.annotation)
        for each in inspect.signature(function).parameters.values()
    ]


EVERY = sorted({name for member in MEMBERS for name in public(member)})


@pytest.mark.parametrize("name", EVERY)
def test_all_four_have_it_or_it_is_said_why_not(name: str) -> None:
    assert [member for member in MEMBERS if name in public(member)] == list(MEANT.get(name, MEMBERS))


def test_the_table_names_nothing_that_is_gone() -> None:
    assert MEANT.keys() | ARGUMENTS_DIFFER.keys() <= set(EVERY)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ARGUMENTS_DIFFER])
def test_the_arguments_are_the_same(name: str) -> None:
    verbs = [public(member)[name] for member in MEMBERS if name in public(member)]
    functions = [verb for verb in verbs if inspect.isfunction(verb)]
    assert [arguments(each) for each in functions[1:]] == [arguments(each) for each in functions[:-1]]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_verb_is_documented_and_says_timeout(member: type) -> None:
    for name, value in public(member).items():
        assert inspect.getdoc(value), f"{member.__name__}.{name}"
        if inspect.isfunction(value):
            assert "timeout_s" not in inspect.signature(value).parameters, f"{member.__name__}.{name}"


@pytest.mark.parametrize("member", [AsyncClient, Bus])
@pytest.mark.parametrize("name", ["send", "call", "rpc", "request", "cancel", "send_many", "publish"])
def test_the_documentation_exists_once(member: type, name: str) -> None:
    assert inspect.getdoc(getattr(member, name)) == inspect.getdoc(getattr(Verbs, name))


def test_more_comes_behind_the_first_line() -> None:
    def source() -> None:
        """Do it.

        Slowly.
        """

    @documented_by(source, "And here: at once.")
    def copy() -> None: ...

    assert copy.__doc__ == "Do it.\n\nAnd here: at once.\n\nSlowly."


class Old:
    @renamed(timeout_s="timeout")
    def verb(self, what: str, *, timeout: float = 10.0) -> tuple[str, float]:
        """Documented."""
        return what, timeout


def test_an_old_name_goes_on_working_with_a_warning_at_its_line() -> None:
    old: Any = Old()
    with pytest.warns(DeprecationWarning, match=r"the argument timeout_s of verb\(\) is called timeout now") as caught:
        assert old.verb("a", timeout_s=2.0) == ("a", 2.0)
    assert caught[0].filename == __file__


def test_the_new_name_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Old().verb("a", timeout=2.0) == ("a", 2.0)


def test_both_names_are_one_too_many() -> None:
    old: Any = Old()
    with pytest.raises(TypeError, match="got both timeout and timeout_s"):
        old.verb("a", timeout=1.0, timeout_s=2.0)


@pytest.mark.parametrize(
    ("member", "name"),
    [
        *((member, name) for member in (Agent, Client) for name in ("request", "call_with", "rpc_with", "send_many")),
        *((Bus, name) for name in ("request", "call_with", "rpc_with")),
        (Agent, "start"),
        (Client, "start"),
    ],
)
def test_what_was_called_timeout_s_is_taken(member: type, name: str) -> None:
    verb = getattr(member, name)
    assert "timeout" in inspect.signature(verb).parameters
    # The name is looked at before the verb is carried out, which fails here for want of a bus.
    with pytest.warns(DeprecationWarning, match="timeout_s"), pytest.raises((TypeError, AttributeError)):
        verb(object(), timeout_s=1.0, nonsense_of_this_test=1)
