"""What agents are called in files: TRISHULA v1 has other names for some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trishula.contract.addresses import AGENT_RULE, BROADCAST, is_agent_name

__all__ = ["DEFAULT_NAMES", "Names"]

#: The laptop's agent was called after the machine.
DEFAULT_NAMES: Mapping[str, str] = MappingProxyType({"mac": "dc"})
#: How a file says that it is for everybody.
_ALL = frozenset({BROADCAST, "all", "everyone", "*"})


@dataclass(frozen=True)
class Names:
    """Names in files and names on the bus.

    Attributes:
        ours: a name in files → the agent's name. An agent that is not named here has one name.

    Raises:
        ValueError: two names are said to be one agent's, so that there is no way back.
    """

    ours: Mapping[str, str] = field(default_factory=lambda: DEFAULT_NAMES)

    def __post_init__(self) -> None:
        if len({*self.ours.values()}) < len(self.ours):
            raise ValueError(f"two of the names {', '.join(sorted(self.ours))} are said to be the same agent's")

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> Names:
        """Of ``mac=dc``, …; none at all: every agent has one name.

        Raises:
            ValueError: one is no such pair; the sentence says which.
        """
        ours: dict[str, str] = {}
        for pair in pairs:
            theirs, sign, agent = pair.partition("=")
            if not sign or not theirs or theirs.strip() != theirs or not is_agent_name(agent):
                raise ValueError(
                    f"{pair!r} is no pair of names such as mac=dc: the name in files, '=', and the agent's name "
                    f"({AGENT_RULE})"
                )
            if ours.setdefault(theirs, agent) != agent:
                raise ValueError(f"the name {theirs} is said to be both {ours[theirs]}'s and {agent}'s")
        return cls(ours)

    def to_ours(self, address: str) -> str:
        """The address that a file means; an instance's part stays as it is."""
        if address.lower() in _ALL:
            return BROADCAST
        name, slash, instance = address.partition("/")
        return f"{self.ours.get(name, name)}{slash}{instance}"

    def to_theirs(self, address: str) -> str:
        """The address as a file has it."""
        name, slash, instance = address.partition("/")
        theirs = next((theirs for theirs, agent in self.ours.items() if agent == name), name)
        return f"{theirs}{slash}{instance}"
