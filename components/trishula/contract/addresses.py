"""Names of agents and addresses: the grammar, and the one place that parses it.

An *agent* is a named member of the bus; its name is its WAMP ``authid``. An *address* is where a message can go:

===================  ==========================================================================================
``agni``             the agent itself: its durable mailbox
``agni/7f3a``        an *instance*: a further session under the agent's identity, with a mailbox that ends with it
``capability:NAME``  whichever present agent announced that capability: exactly one of them
``broadcast``        one delivery for each registered agent but the sender
===================  ==========================================================================================

Nothing here does I/O. Errors are :class:`ValueError` with a sentence that is fit for a person; callers that speak to
the wire wrap them in the typed error of the key they validate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "AGENT_RULE",
    "BROADCAST",
    "CAPABILITY_RULE",
    "ID_RULE",
    "INSTANCE_RULE",
    "Address",
    "agent_of",
    "is_agent_name",
    "is_capability",
    "is_instance_name",
    "is_message_id",
    "is_nodes_own",
]

BROADCAST = "broadcast"
_CAPABILITY_PREFIX = "capability:"
_NODE_PREFIX = "node:"

# Lower case only, because a name becomes a WAMP URI component, a file name in the fallback and a host label in logs:
# two agents that differ by case alone would collide in at least one of them.
_AGENT = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_]{0,31}\Z")
_CAPABILITY = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")
_ID = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}\Z")

AGENT_RULE = "a lower-case letter, then up to 62 of a-z, 0-9 and _"
INSTANCE_RULE = "1 to 32 of a-z, 0-9 and _, not starting with _"
CAPABILITY_RULE = "a lower-case letter, then up to 62 of a-z, 0-9, '_', '.' and '-'"
ID_RULE = "1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-', not starting with '.'"

# A name that is also a word of the address grammar would make an address ambiguous.
_RESERVED = frozenset({BROADCAST, "capability"})


def is_agent_name(text: object) -> bool:
    """Whether ``text`` can be the name of an agent."""
    return isinstance(text, str) and _AGENT.match(text) is not None and text not in _RESERVED


def is_instance_name(text: str) -> bool:
    """Whether an instance of an agent can have that name."""
    return _INSTANCE.match(text) is not None


def is_message_id(text: object) -> bool:
    """Whether ``text`` can be the id of a message; such an id never is a path, and never a hidden file."""
    return isinstance(text, str) and _ID.match(text) is not None


def is_nodes_own(message_id: str) -> bool:
    """Whether only a node may use that id, for what it says itself."""
    return message_id.startswith(_NODE_PREFIX)


def is_capability(text: str) -> bool:
    """Whether an address (one that was checked) names a capability, not an agent."""
    return text.startswith(_CAPABILITY_PREFIX)


def agent_of(address: str) -> str:
    """Whose an address is that was checked: the agent's, of which it may be an instance."""
    return address.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message can go, short of a broadcast: an agent, one instance of it, or a capability.

    Attributes:
        agent: the agent's name; ``""`` if it is a capability, so that it never is anybody's own.
        instance: the instance's name.
        capability: what whoever gets it must be able to do.
    """

    agent: str
    instance: str | None = None
    capability: str | None = None

    @classmethod
    def parse(cls, text: object) -> Address:
        """Parse ``agent``, ``agent/instance`` or ``capability:name``.

        Raises:
            ValueError: if ``text`` is none of them; the sentence names the part at fault and its rule.
        """
        if not isinstance(text, str):
            raise ValueError(f"an address is a string, not {type(text).__name__}")
        return _parse(text)

    def __str__(self) -> str:
        if self.capability is not None:
            return _CAPABILITY_PREFIX + self.capability
        return self.agent if self.instance is None else f"{self.agent}/{self.instance}"


# Each message is checked against a handful of addresses, the same ones again and again.
@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    if is_capability(text):
        capability = text.removeprefix(_CAPABILITY_PREFIX)
        if _CAPABILITY.match(capability) is None:
            raise ValueError(f"a capability's name is {CAPABILITY_RULE}")
        return Address("", None, capability)
    agent, slash, instance = text.partition("/")
    if not is_agent_name(agent):
        raise ValueError(f"an agent's name is {AGENT_RULE}")
    if slash and not is_instance_name(instance):
        raise ValueError(f"an instance's name is {INSTANCE_RULE}")
    return Address(agent, instance if slash else None)
