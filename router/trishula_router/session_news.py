"""Who is told when a session joins, and when it is gone, in that order."""

from __future__ import annotations

from trishula_router.agents.session_records import SessionRecords
from trishula_router.services import Services

__all__ = ["tell_of_sessions"]


def tell_of_sessions(services: Services) -> None:
    """Have them told, as soon as there is a node, and not at a start: a node that is never started has sessions too.

    The message that a node sends to itself goes through such a one, and failed with a KeyError while a start did this.
    """
    records = SessionRecords(services.note)
    joined, left = services.sessions.when_joined, services.sessions.when_left
    joined(services.measures.joined)
    joined(services.admission.joined)
    joined(services.directory.joined)
    joined(records.joined)
    joined(lambda session: services.neighbourhood.joined(session.agent))
    left(services.joins.left)
    left(services.directory.left)
    # First, or what it had would be pushed to it again.
    left(services.consumers.left)
    left(lambda session: services.delivery.session_left(session.number))
    left(lambda session: services.surfacing.left(session.number))
    left(lambda session: services.intake.holds.left(session.number))
    left(lambda session: services.instances.left(session, services.clock.seconds()))
    left(records.left)
    left(lambda session: services.tell_presence())
