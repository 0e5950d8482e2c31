"""Recipients: to whom a message goes, and whether its sender may write there. Policy only, no I/O.

=========================  ==========================================  ================================================
``to``                     goes to                                     the sender's ``send`` grants must name
=========================  ==========================================  ================================================
``agni``                   the agent                                   ``agni``, or ``*``
``agni/7f3a``              that instance, if it is there               ``agni``, or ``*``
``capability:deploy``      the mailbox of the capability: whoever      ``capability:deploy``, or ``*``
                           announced it gets it, see ``delivery``
``broadcast``              every registered agent but the sender and   ``broadcast``, or ``*``
                           observers
=========================  ==========================================  ================================================

Nothing goes to an observer: it looks and takes no mail, so that a message to it would wait for nobody.

An agent may always write to itself, and may answer a COMMAND that it was given (:mod:`.replies`) whatever its grants
say, and also if the instance that asked is gone: another one may ask for the answer (:mod:`.outcomes`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trishula.contract.addresses import BROADCAST, Address
from trishula.contract.message import Message
from trishula.errors import AgentUnknown, InstanceUnknown, RecipientForbidden, RecipientUnknown

__all__ = ["Grants", "Recipients", "Registry", "is_reply"]


class Grants(Protocol):
    """What is asked of a principal."""

    @property
    def only_looks(self) -> bool: ...

    def may_send(self, to: str) -> bool: ...


class Registry(Protocol):
    """Who is registered; :class:`trishula_router.agents.principals.Principals` in a node."""

    def audience(self) -> tuple[str, ...]: ...

    def get(self, name: str) -> Grants | None: ...


class Recipients:
    """Finds the addresses of messages.

    Args:
        registry: who may be written to, by whom.
        knows_instance: whether an address with an instance is there.
        expect: told of one that is not, and gets an answer all the same.
    """

    def __init__(
        self, registry: Registry, knows_instance: Callable[[str], bool], expect: Callable[[str], None]
    ) -> None:
        self._registry = registry
        self._knows_instance = knows_instance
        self._expect = expect

    def of_broadcast(self, agent: str) -> tuple[str, ...]:
        """Everybody that a broadcast of an agent is for."""
        return tuple(name for name in self._registry.audience() if name != agent)

    def find(self, agent: str, message: Message, index: int, *, as_answer: bool = False) -> tuple[str, ...]:
        """The addresses that a message goes to.

        Args:
            agent: the session's authid.
            message: one that was checked.
            index: its place in the call, for refusals.
            as_answer: whether it answers a COMMAND, so that it needs no grant, and nobody who is there.

        Raises:
            AgentUnknown, RecipientUnknown, RecipientForbidden, InstanceUnknown: it may not go there.
        """
        principal = self._registry.get(agent)
        if principal is None:
            raise AgentUnknown(f"{agent} is not registered at this node any more")
        grant = _granted_as(message.to)
        if message.to != BROADCAST:
            address = Address.parse(message.to)
            recipient = self._registry.get(address.agent)
            if address.capability is None and recipient is None:
                raise RecipientUnknown(
                    f"{_place(message, index)}, and no agent {address.agent} is registered at this node; check the "
                    f"name, or register it with: trishula token new {address.agent}"
                )
            if address.capability is None and recipient is not None and recipient.only_looks:
                raise RecipientForbidden(
                    f"{_place(message, index)}, and {address.agent} is an observer, which takes no mail; write to an "
                    f"agent, or make {address.agent} one with: trishula token new {address.agent}"
                )
        if not as_answer and not principal.may_send(grant):
            raise RecipientForbidden(
                f"{_place(message, index)}, and the grants of {agent} don't cover it; an operator can add "
                f'"{grant}" to its "send" list in the agents file'
            )
        if message.to == BROADCAST:
            return self.of_broadcast(agent)
        if address.instance is not None and not self._knows_instance(message.to):
            if not as_answer:
                raise InstanceUnknown(
                    f"{_place(message, index)}, and that instance is not there (any more); write to {address.agent}, "
                    "whose mailbox is always there"
                )
            self._expect(message.to)
        return (message.to,)


def is_reply(message: Message) -> bool:
    """Whether a message may be the answer to a COMMAND."""
    return message.type in ("RESULT", "ERROR") and message.reply_to is not None and message.to != BROADCAST


def _place(message: Message, index: int) -> str:
    return f'messages[{index}].to is "{message.to}"'


def _granted_as(to: str) -> str:
    """What a grant must name so that an address may be written to: its agent, or the word as it stands."""
    if to == BROADCAST:
        return to
    address = Address.parse(to)
    return address.agent if address.capability is None else to
