"""Presence: whether an agent is there, from its own sessions and its own signs of life.

An instance's session doesn't count: a script that asks a question doesn't mean that the agent is up. A sign of life is
a beat or a call; being *sent* something is none.

=============  =========================================================================================================
``online``     a session of it is joined, and its last sign of life is no older than ``stale_after_s``
``busy``       the same, and it said so itself (``state`` "busy", or ``busy_until`` is to come)
``stale``      a session of it is joined, but no sign of life came for ``stale_after_s``: frozen, or cut off
``offline``    no session of it is joined
=============  =========================================================================================================

An agent that said ``busy_until`` is not called stale before that. One that beats seldom, by itself or because the node
told it so, may be silent for three of its beats.

Policy only: :func:`presence_of` decides, and :func:`next_change_at` says when it may decide otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from trishula_router.agents.sessions import Session
from trishula_router.settings.options import PresencePolicy

__all__ = ["PRESENT", "Known", "next_change_at", "presence_of"]

PRESENT = ("online", "busy")

#: A session may be an instance's and say so with its first call: until then it stands for nobody, so that each script
#: doesn't make its agent come and go.
_UNDECIDED_MS = 1000


@dataclass(slots=True)
class Known:
    """What the directory knows of one agent. Instants in ms.

    Attributes:
        capabilities: as the agent announced them at its last attach.
        heartbeat_s: how often it beats, as it said or was told; ``None`` if nobody said anything.
        seen_at: its last sign of life.
        busy_until: until when it said it is busy, by the node's clock.
        says: the state it gave with its last beat.
        load: the load it gave with its last beat, in its own measure.
        beat_at: its last heartbeat.
        progress: what it said of its work with its last beat, and since when it says so.
        turn_until: until when it is in a turn; see :mod:`.turns`.
        turn_doing: what it does in its turn, and since when.
        skew_ms: its clock minus the node's, as its beats show: the least delayed of the last ones counts.
        presence: as last told, and since when, and why.
        look_at: when its presence is to be looked at next, whatever it does.
    """

    capabilities: tuple[str, ...] = ()
    heartbeat_s: float | None = None
    seen_at: int | None = None
    busy_until: int | None = None
    says: str | None = None
    load: float | None = None
    beat_at: int | None = None
    progress: str | None = None
    progress_at: int | None = None
    turn_until: int | None = None
    turn_doing: str | None = None
    turn_since: int | None = None
    skews_ms: list[int] = field(default_factory=list)
    presence: str = "offline"
    since: int | None = None
    reason: str = "it has not been here since the node started"
    look_at: int | None = None

    @property
    def skew_ms(self) -> int | None:
        """Its clock minus the node's: travel time makes every sample too low, so the highest is the nearest."""
        return max(self.skews_ms) if self.skews_ms else None

    def end_turn(self, now: int) -> None:
        """Forget a turn that is over at ``now``."""
        if self.turn_until is not None and self.turn_until <= now:
            self.turn_until = self.turn_doing = self.turn_since = None

    def busy_at(self, now: int) -> int | None:
        """Until when it is busy, by what it said in its beats and of its turn; ``None`` if it is over at ``now``."""
        return max((at for at in (self.busy_until, self.turn_until) if at is not None and now < at), default=None)


def presence_of(known: Known, sessions: Iterable[Session], *, now: int, policy: PresencePolicy) -> tuple[str, str]:
    """(presence, reason) of an agent with those sessions at ``now`` (ms)."""
    if not any(_counts(session, now) for session in sessions):
        return "offline", "no session of it is joined"
    if known.busy_at(now) is not None:
        return "busy", "it said that it is busy until then"
    patience_ms = _patience_ms(known, policy)
    if now - (known.seen_at or 0) > patience_ms:
        return "stale", f"its session is joined, but no sign of life came for more than {patience_ms / 1000:g} s"
    if known.says == "busy":
        return "busy", "it says so in its beats"
    return "online", "its session is joined and it gives signs of life"


def next_change_at(known: Known, sessions: Collection[Session], *, now: int, policy: PresencePolicy) -> int | None:
    """When the presence of an agent may change next if it does nothing (ms); ``None`` if it can't then.

    It may turn out at that instant that nothing changed, because the agent gave a sign of life in the meantime.
    """
    if not any(_counts(session, now) for session in sessions):
        counts_from = [_counts_from(session) for session in sessions if session.instance is None]
        return min(counts_from, default=None)
    if (until := known.busy_at(now)) is not None:
        return until
    stale_at = (known.seen_at or 0) + _patience_ms(known, policy) + 1
    return stale_at if now < stale_at else None


def _counts(session: Session, now: int) -> bool:
    """Whether a session stands for the agent itself."""
    return session.instance is None and (session.has_called or now >= _counts_from(session))


def _counts_from(session: Session) -> int:
    return (session.joined_at or 0) + _UNDECIDED_MS


def _patience_ms(known: Known, policy: PresencePolicy) -> int:
    return round(1000 * max(policy.stale_after_s, 3 * (known.heartbeat_s or 0.0)))
