"""Whether a name on the command line is anybody's: asked where an answer is empty, which a slip may be the cause of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trishula.contract import uris
from trishula.contract.addresses import AGENT_RULE, is_agent_name

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["require_agent", "require_agent_name"]


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
