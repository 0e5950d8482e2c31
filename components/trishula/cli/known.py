"""What a node knows: agents of a name, where an answer is empty; and procedures that nodes of before don't have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.words import plain
from trishula.contract import uris
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.errors import KeyUnknown, NodeStopping, NotAllowed, ProcedureUnknown, TrishulaError

if TYPE_CHECKING:
    from trishula.cli.state import State
    from trishula.sync import Bus

__all__ = ["ask_each_node", "ask_journal", "ask_newer", "require_agent", "require_agent_name"]

#: What every agent may ask, so that a refusal means a node that doesn't know it; the rest is the operators'.
_EVERYBODYS = tuple(f"{uri.rpartition('.')[0]}." for uri in (uris.LEASE_LIST, uris.DIRECTORY_LIST, uris.MAILBOX_SEND))


def require_agent_name(name: str, option: str) -> None:
    """Refuse what can't be an agent's name.

    Raises:
        click.UsageError: it breaks the rule.
    """
    if not is_agent_name(name):
        raise click.UsageError(f"{option} is {name!r}; an agent's name is {AGENT_RULE}")


def require_agent(bus: Bus, name: str) -> None:
    """Refuse an agent that the node doesn't know.

    Raises:
        AgentUnknown: no agent of that name is registered.
    """
    bus.request(uris.DIRECTORY_GET, name.partition("/")[0])


def ask_newer(bus: Bus, uri: str, *args: Any, timeout_s: float = 10.0) -> Any:
    """Ask what a node of an earlier release doesn't know; it has ``timeout_s`` to answer.

    Raises:
        ProcedureUnknown: the node is well and doesn't know it.
        NotAllowed: the caller may not, or the node doesn't know it: to an agent, both look the same.
    """
    try:
        return bus.request(uri, *args, timeout=timeout_s)
    except NodeStopping:
        # A router says the same of a procedure that it hasn't and of one that goes because the node stops.
        try:
            told = bus.request(uris.NODE_STATUS)
        except NotAllowed:
            # That is the operators' to know.
            raise ProcedureUnknown(
                f"the node doesn't answer {uri}: it is about to stop, or runs an earlier version, which an operator "
                "would have to update"
            ) from None
    except NotAllowed as error:
        if not uri.startswith(_EVERYBODYS):
            raise
        raise NotAllowed(f"{error}; a node of an earlier version, which doesn't know {uri}, says the same") from None
    raise ProcedureUnknown(
        f"the node {plain(told.get('node'))} runs version {plain(told.get('version'))}, which doesn't answer "
        f"{uri} yet; update it"
    )


def ask_journal(bus: Bus, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask ``trishula.audit.query`` of a node's store and of its archive; one of an earlier release of its store."""
    try:
        answer: dict[str, Any] = bus.request(uris.AUDIT_QUERY, {**question, "archive": True}, timeout=timeout_s)
    except KeyUnknown:
        answer = bus.request(uris.AUDIT_QUERY, question, timeout=timeout_s)
    return answer


def ask_each_node(state: State, uri: str, *args: Any) -> tuple[dict[str, dict[str, Any]], dict[str, TrishulaError]]:
    """Ask every node that the URL or the profile names what has ``node`` in its answer, as operators and observers may.

    Returns:
        The answers by the nodes' names, each node once; and why there is none, by URL.

    Raises:
        TrishulaError: nobody can be asked at all: there is no token, say.
    """
    answers: dict[str, dict[str, Any]] = {}
    faults: dict[str, TrishulaError] = {}
    for url, one in list(state.each_node()):
        try:
            with one.bus(looks_only=True) as bus:
                told = ask_newer(bus, uri, *args)
            answers.setdefault(str(told["node"]), told)
        except TrishulaError as error:
            faults[url] = error
    return answers, faults
