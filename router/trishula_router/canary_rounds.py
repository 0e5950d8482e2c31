"""The rounds of canaries: sends what :mod:`trishula_router.objectives.canaries` has due, and hears the answers.

A client is asked on the inbox topic of its agent, by an event without deliveries, and answers by a call.
"""

from __future__ import annotations

from trishula.contract.addresses import Address
from trishula_router.objectives.canaries import Flight
from trishula_router.services import Services

__all__ = ["LOOK_S", "CanaryRounds"]

#: So often a canary may be due.
LOOK_S = 1.0
#: What is written over for each canary: so long as a message's acceptance, its way takes a commit.
_NOTE = "canary:last"


class CanaryRounds:
    """See the module's docstring.

    Args:
        services: of the node.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._policy = services.canaries

    async def look(self) -> None:
        """Send the one that is due, and give up those that nobody answered."""
        services, now_s = self._services, self._services.clock.seconds()
        consumers = {one.address: one.session for one in services.consumers.all() if "/" not in one.address}
        self._policy.look(consumers, now_s)
        if services.is_stopping or services.fallback.mode.refuses:
            return
        flight = self._policy.next(consumers, self._may_send, now_s)
        if flight is not None:
            self._push(flight.sender, flight.sessions[0], {"id": flight.id, "to": flight.recipient})

    def _may_send(self, sender: str, recipient: str) -> bool:
        principals = self._services.principals
        found = principals.get(sender)
        return found is not None and found.may_send(recipient) and not principals.is_visitor(recipient)

    async def heard(self, session: int, canary: str) -> bool:
        """A client sends a canary, or has got it; whether the node asked it to."""
        services = self._services
        flight = self._policy.heard(canary, session, services.clock.seconds())
        if flight is not None and flight.leg == "held":
            # What can't be written down is not handed on, and lost; a message would be refused.
            await services.store.remember({_NOTE: canary})
            self._hand(flight)
        return flight is not None

    def _hand(self, flight: Flight) -> None:
        self._policy.handed(flight, self._services.clock.seconds())
        self._push(flight.recipient, flight.sessions[1], {"id": flight.id, "from": flight.sender})

    def _push(self, agent: str, session: int, canary: dict[str, str]) -> None:
        self._services.router.inform(Address(agent), session, {"canary": canary})
