"""Addressing: which addresses messages can go to, and which session may speak for an instance.

Instances that are here are known to :mod:`.instances`; those of other nodes are asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from trishula.contract.addresses import Address, is_capability
from trishula_router.agents.instances import Instances
from trishula_router.agents.principals import Principals
from trishula_router.agents.quotas import Quota, Quotas
from trishula_router.agents.sessions import Session

__all__ = ["Addressing"]


class Addressing:
    """The addresses that a node can reach.

    Args:
        principals: which agents there are.
        instances: those of this node.
        quotas: how many instances a session, and an agent, may have.
        is_elsewhere: whether an instance is with another node, as far as this one has heard.
        seconds: the clock for spans.
    """

    def __init__(
        self,
        principals: Principals,
        instances: Instances,
        quotas: Quotas,
        *,
        is_elsewhere: Callable[[str], bool],
        seconds: Callable[[], float],
    ) -> None:
        self._principals = principals
        self._instances = instances
        self._quotas = quotas
        self._is_elsewhere = is_elsewhere
        self._seconds = seconds

    def reach(self, address: str) -> str | None:
        """Where a message for an address can go: there, to its agent if it is an instance that is gone, or nowhere."""
        if is_capability(address):
            return address
        agent = Address.parse(address).agent
        if self._principals.get(agent) is None:
            return None
        return address if address == agent or self._is_there(address) else agent

    def knows_instance(self, address: str) -> bool:
        """Whether messages to an instance are taken."""
        if self._is_there(address):
            return True
        # After a start any name is taken on trust; it must not be any number of them.
        if self._quotas.agent_is_full(Quota.INSTANCES, self._instances.of_agent(Address.parse(address).agent)):
            return False
        return self._instances.knows(address, self._seconds())

    def expect(self, address: str) -> None:
        """An instance that is gone gets an answer all the same: its mailbox lasts for a grace time again."""
        self._instances.remember(address, self._seconds())

    def _is_there(self, address: str) -> bool:
        # Asked for each message to an instance: most are here, and to look here costs the least.
        return self._instances.is_there(address) or self._is_elsewhere(address)

    def speak_as(self, address: Address, session: Session) -> None:
        """A session speaks for an instance of its agent from now on.

        Raises:
            InstancesExceeded: the session or the agent has enough.
        """
        name, there = str(address), self._instances
        if name not in session.speaks_for:
            known = 0 if there.is_there(name) else there.of_agent(address.agent)
            self._quotas.admit(Quota.INSTANCES, address.agent, len(session.speaks_for), known)
        there.present(name, session)
