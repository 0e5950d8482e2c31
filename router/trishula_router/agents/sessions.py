"""Sessions: which clients are joined to this node, as whom, since when, and how far each session is.

There is one place that knows: :class:`Sessions`. For each session it has one :class:`Session`, from the moment that the
client proved who it is until the session is gone. The other parts of the node ask for that, or are told when a session
joins and when it is gone (:meth:`Sessions.when_joined`, :meth:`Sessions.when_left`). What follows from it each part
decides for itself; what a part learns of a session it writes into the :class:`Session`.

A session goes through the stages of :class:`Stage`, in that order and never back; it may leave some out.

What a session has under way (its messages, its fetches, its holds) is the mail's. The links that peers make to this
node are sessions for Crossbar, and not for this module (:mod:`trishula_router.peers.peer_links`).

Policy only: every verb takes the instants that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

__all__ = ["Session", "Sessions", "Stage"]

#: Sessions that are gone and remembered; what may still come of one comes within the next turns of the reactor.
_GONE_REMEMBERED = 1000


class Stage(IntEnum):
    """How far a session is.

    Attributes:
        AUTHENTICATED: its client proved who it is, and is not joined yet.
        JOINED: it is a session of the router.
        ATTACHED: it consumes a mailbox, or did so until another one took that over.
        LEAVING: this node ends it; the news that it is gone will come.
        GONE: it is no session any more; what is known of it is of the past.
    """

    AUTHENTICATED = 1
    JOINED = 2
    ATTACHED = 3
    LEAVING = 4
    GONE = 5


@dataclass(slots=True, eq=False)
class Session:
    """What is known of a session.

    Attributes:
        number: its WAMP session id.
        agent: whose it is.
        stage: how far it is.
        role: as what it joined; empty until it has.
        client_ip: where it comes from; ``None`` if that is not known.
        token_digest: of the token or key that it proved its identity with; ``None`` if that is not known.
        by_key: whether that is a key.
        was_observer: whether its agent was an observer when it came.
        hears: what it could subscribe to so far: its agent's ``subscribe`` grants.
        authenticated_s: when its client proved who it is, by the clock for spans.
        joined_at: when it joined, ms; ``None`` until it has.
        has_called: whether a call of it was served.
        instance: as which instance it attached or fetched last; ``None``: as the agent itself.
        speaks_for: the addresses of the instances that it speaks for.
        consumes: the addresses whose messages are pushed to it.
        heartbeat_s: how often it beats, as it said when it attached; ``None`` if it said nothing.
        binary: whether it takes bytes in payloads as they are, as it said when it attached or fetched last.
        skews_ms: its clock minus the node's, as its last beats show; of several sessions of an agent each may be on a
            machine of its own.
    """

    number: int
    agent: str
    stage: Stage = Stage.AUTHENTICATED
    role: str = ""
    client_ip: str | None = None
    token_digest: str | None = None
    by_key: bool = False
    was_observer: bool = False
    hears: tuple[str, ...] = ()
    authenticated_s: float = 0.0
    joined_at: int | None = None
    has_called: bool = False
    instance: str | None = None
    speaks_for: set[str] = field(default_factory=set)
    consumes: set[str] = field(default_factory=set)
    heartbeat_s: float | None = None
    binary: bool = False
    skews_ms: list[int] = field(default_factory=list)

    def advance(self, stage: Stage) -> None:
        """Go on to a stage, unless it is further already."""
        self.stage = max(self.stage, stage)

    @property
    def proof(self) -> str:
        """By what it proved whose it is, as records have it: "token" or "key" and its short id; "" if not known."""
        if self.token_digest is None:
            return ""
        return f"{'key' if self.by_key else 'token'} {self.token_digest[:8]}"

    @property
    def is_joined(self) -> bool:
        """Whether it is a session of the router, also one that this node ends."""
        return Stage.JOINED <= self.stage < Stage.GONE

    @property
    def stays(self) -> bool:
        """Whether it is there, or about to join, and this node doesn't end it."""
        return self.stage < Stage.LEAVING


class Sessions:
    """The sessions of a node."""

    def __init__(self) -> None:
        self._all: dict[int, Session] = {}
        # Of each agent: first those that joined, in the order of joining, mixed with those that have not yet.
        self._of_agent: dict[str, dict[int, Session]] = {}
        # Those that have not joined yet, in the order of their coming.
        self._awaited: dict[int, Session] = {}
        self._gone: dict[int, None] = {}
        self._tell_joined: list[Callable[[Session], object]] = []
        self._tell_left: list[Callable[[Session], object]] = []

    # -- who is told ---------------------------------------------------------------------------------------------------

    def when_joined(self, tell: Callable[[Session], object]) -> None:
        """Tell somebody of each session that joins, once; those that are told are told in the order of asking."""
        self._tell_joined.append(tell)

    def when_left(self, tell: Callable[[Session], object]) -> None:
        """Tell somebody of each session that had joined and is gone; likewise."""
        self._tell_left.append(tell)

    # -- what becomes of a session -------------------------------------------------------------------------------------

    def authenticated(
        self, number: int, agent: str, now_s: float, *, token_digest: str | None = None, client_ip: str | None = None
    ) -> Session:
        """A client proved who it is, and gets a session; ``now_s`` is the clock for spans."""
        if (before := self._all.get(number)) is not None:
            self._forget(before)
        session = Session(number, agent, token_digest=token_digest, client_ip=client_ip, authenticated_s=now_s)
        self._awaited[number] = self._add(session)
        return session

    def _add(self, session: Session) -> Session:
        self._all[session.number] = session
        self._of_agent.setdefault(session.agent, {})[session.number] = session
        return session

    def joined(self, number: int, agent: str, role: str, client_ip: str | None, now: int) -> Session:
        """A session joined: by the router's news, or by its first call, which may overtake the news.

        Args:
            number: its WAMP session id.
            agent: whose it is, as the router vouches for.
            role: as what it joined.
            client_ip: where it comes from, if that is known.
            now: the wall clock in ms.
        """
        session = self._all.get(number)
        if session is None:
            session = self._add(Session(number, agent))
        if session.stage > Stage.AUTHENTICATED:
            return session
        session.advance(Stage.JOINED)
        session.role, session.joined_at = role, now
        session.client_ip = client_ip or session.client_ip
        self._awaited.pop(number, None)
        of_agent = self._of_agent[session.agent]
        of_agent[number] = of_agent.pop(number)
        for tell in self._tell_joined:
            tell(session)
        return session

    def leaving(self, number: int) -> None:
        """This node ends a session."""
        session = self._all.get(number)
        if session is not None and session.is_joined:
            session.advance(Stage.LEAVING)

    def withdrawn(self, session: Session) -> None:
        """A client that proved who it is is not let in all the same, or never joined."""
        self._forget(session)

    def left(self, number: int) -> None:
        """A session is gone, whether this node knew it or not."""
        self._gone[number] = None
        if len(self._gone) > _GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        session = self._all.get(number)
        if session is None:
            return
        had_joined = session.is_joined
        self._forget(session)
        if had_joined:
            for tell in self._tell_left:
                tell(session)

    def _forget(self, session: Session) -> None:
        session.advance(Stage.GONE)
        self._all.pop(session.number, None)
        self._awaited.pop(session.number, None)
        others = self._of_agent[session.agent]
        others.pop(session.number, None)
        if not others:
            del self._of_agent[session.agent]

    # -- answers -------------------------------------------------------------------------------------------------------

    def __getitem__(self, number: int) -> Session:
        return self._all[number]

    def get(self, number: int) -> Session | None:
        """A session that is not gone."""
        return self._all.get(number)

    def is_gone(self, number: int) -> bool:
        """Whether a session is known to be gone."""
        return number in self._gone

    @property
    def count(self) -> int:
        """How many are joined."""
        return len(self._all) - len(self._awaited)

    def all(self) -> Iterator[Session]:
        """Those that are joined."""
        return (session for session in self._all.values() if session.is_joined)

    def awaited(self) -> Collection[Session]:
        """Those that have not joined yet, the oldest first."""
        return self._awaited.values()

    def of_agent(self, agent: str) -> Collection[Session]:
        """Those of an agent that are joined, in the order of joining."""
        return [session for session in self._of_agent.get(agent, {}).values() if session.is_joined]

    def is_older(self, one: int, other: int) -> bool:
        """Whether a session joined before another one of its agent."""
        session = self._all.get(one)
        order = [] if session is None else [its.number for its in self.of_agent(session.agent)]
        return one in order and other in order and order.index(one) < order.index(other)

    def staying(self, agent: str) -> int:
        """How many of an agent are there, or about to join, and are not ended by this node."""
        return sum(session.stays for session in self._of_agent.get(agent, {}).values())
