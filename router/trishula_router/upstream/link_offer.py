"""What a node offers to the links that end in it: its names, and the room for an agent that moves here.

:func:`offer_names` is called once by the node's embedded session, before any link is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autobahn.wamp.message import Unregistered

from trishula.contract import uris
from trishula_router.realm import LINK_ROLE
from trishula_router.upstream.link_names import Names

__all__ = ["making_way", "offer_names"]


async def offer_names(session: Any) -> None:
    """Tell the peers' links which names the sessions of this router are behind, now and whenever that changes.

    Args:
        session: embedded in the router; in a role that may do everything.
    """
    router = session._transport._router
    names = Names(
        router._broker._subscription_map,
        router._dealer._registration_map,
        lambda change: session.publish(uris.LINK_CHANGED, change),
    )
    # Not on_create and on_delete: where a link is the first or the last, they don't tell of the others.
    for topic, look in (
        ("wamp.subscription.on_subscribe", names.subscription_changed),
        ("wamp.subscription.on_unsubscribe", names.subscription_changed),
        ("wamp.registration.on_register", names.registration_changed),
        ("wamp.registration.on_unregister", names.registration_changed),
    ):
        await session.subscribe(lambda _, number, look=look: look(number), topic)
    await session.register(names.all, uris.LINK_NAMES)


def making_way(session: Any, authorize: Any) -> Any:
    """The authorizer, so that a link gives way to a session of the node's own that may register a name.

    It is done with the permission, because Crossbar then looks at once whether the name is free.
    """
    router = session._transport._router

    def authorize_and_make_way(
        who: Mapping[str, object], uri: object, action: object, options: Mapping[str, object] | None
    ) -> dict[str, bool]:
        answer: dict[str, bool] = authorize(who, uri, action, options)
        if action == "register" and answer["allow"] and who.get("authrole") != LINK_ROLE:
            _give_way(router, str(uri))
        return answer

    return authorize_and_make_way


def _give_way(router: Any, uri: str) -> None:
    """Take the links off a name that a session of the node's own is about to register.

    Without it an agent that moves here is told "procedure already exists" for as long as its old node believes in its
    old session. Crossbar's own ``Dealer.removeCallee`` fails with an AttributeError (26.10.1, not reported).
    """
    dealer = router._dealer
    registration = dealer._registration_map.get_observation(uri)
    for callee in [] if registration is None else list(registration.observers):
        if callee._authrole != LINK_ROLE:
            continue
        _, was_last = dealer._registration_map.drop_observer(callee, registration)
        dealer._session_to_registrations[callee].discard(registration)
        if was_last:
            dealer._registration_map.delete_observation(registration)
        router.send(callee, Unregistered(0, registration=registration.id))
