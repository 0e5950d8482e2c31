"""Names of agents and addresses: the grammar, and the one place that parses it.

An *agent* is a named member of the bus; its name is its WAMP ``authid``. An *address* is where a message can go:

===================  ==========================================================================================
``agni``             the agent itself: its durable mailbox
``agni/7f3a``        an *instance*: a further session under the agent's identity, with a mailbox that ends with it
``broadcast``        one delivery for each registered agent but the sender
===================  ==========================================================================================

Nothing here does I/O. Errors are :class:`ValueError` with a sentence that is fit for a person; callers that speak to
the wire wrap them in the typed error of the key they validate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["BROADCAST", "AGENT_RULE", "INSTANCE_RULE", "ID_RULE", "Address", "is_agent_name", "is_message_id"]

BROADCAST = "broadcast"

# Lower case only, because a name becomes a WAMP URI component, a file name in the fallback and a host label in logs:
# two agents that differ by case alone would collide in at least one of them.
_AGENT = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_]{0,31}\Z")
_ID = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}\Z")

AGENT_RULE = "a lower-case letter, then up to 62 of a-z, 0-9 and _"
INSTANCE_RULE = "1 to 32 of a-z, 0-9 and _, not starting with _"
ID_RULE = "1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-', not starting with '.'"

# A name that is also a word of the address grammar would make an address ambiguous.
_RESERVED = frozenset({BROADCAST, "capability"})


def is_agent_name(text: object) -> bool:
    """Whether ``text`` can be the name of an agent."""
    return isinstance(text, str) and _AGENT.match(text) is not None and text not in _RESERVED


def is_message_id(text: object) -> bool:
    """Whether ``text`` can be the id of a message; such an id never is a path, and never a hidden file."""
    return isinstance(text, str) and _ID.match(text) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message can go, short of a broadcast: an agent, or one instance of it."""

    agent: str
    instance: str | None = None

    @classmethod
    def parse(cls, text: object) -> Address:
        """Parse ``agent`` or ``agent/instance``.

        Raises:
            ValueError: if ``text`` is neither; the sentence names the part at fault and its rule.
        """
        if not isinstance(text, str):
            raise ValueError(f"an address is a string, not {type(text).__name__}")
        return _parse(text)

    def __str__(self) -> str:
        return self.agent if self.instance is None else f"{self.agent}/{self.instance}"


# Each message is checked against a handful of addresses, the same ones again and again.
@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    agent, slash, instance = text.partition("/")
    if not is_agent_name(agent):
        raise ValueError(f"an agent's name is {AGENT_RULE}")
    if slash and _INSTANCE.match(instance) is None:
        raise ValueError(f"an instance's name is {INSTANCE_RULE}")
    return Address(agent, instance if slash else None)
