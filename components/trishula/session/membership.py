"""Being a member of the bus: the session and everything that must be set up on each new one.

A :class:`Membership` is *away* or *ready*. After each (re)join it sets up, in this order: procedures and topics; then
the inbox topic and ``attach`` (deliveries may come from then on); then it is ready and tells its *user*. A node that
refuses what we need for good ends the membership, as a wrong token and a takeover do; whatever else goes wrong drops
the session, and the connection's policy decides when to try again. What we may serve each node's own file of agents
says: that one node lets us not is the end if all do, or if none has ever taken us and no other one can be reached.

A *move* to a better node makes before it breaks. While the session goes on, procedures and topics are set up on the
offered link; then sending pauses until the calls under way are answered, so that nothing newer overtakes them over
there; then we attach there. With the answer, or with the first delivery if that is faster, the offered link is the
session, the last acks go out on the old one, and sending goes on. A fault before that leaves everything as it was; if
the old session goes meanwhile, the move is simply a join. Events of the link that is not the session are dropped:
nothing is heard twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from trishula.contract.addresses import Address
from trishula.contract.limits import UNTOLD
from trishula.contract.uris import MAILBOX_ATTACH, inbox_of
from trishula.errors import BusUnreachable, CapabilityForbidden, KeyUnknown, TrishulaError
from trishula.runtime.pending import Pending, resolved, start
from trishula.runtime.surroundings import Surroundings
from trishula.runtime.waiting import sleep, within
from trishula.session.attachment import Attached, Attachment, Observer, User, offers
from trishula.session.begun import Begun
from trishula.session.heartbeat import Activity, Heartbeat
from trishula.session.known_epochs import KnownStores
from trishula.session.transport import Connection, Endpoint, Link, LinkLost
from trishula.settings import Settings

__all__ = ["Membership"]

_log = logging.getLogger("trishula")

#: A node that can't answer an attach by then is left for another.
_SET_UP_TIMEOUT_S = 10.0

#: Sends that are not answered by then are offered again on the node that we move to; it knows them, or takes them.
_STILL_WITHIN_S = 2.0
_STILL_POLL_S = 0.005


class Membership:
    """See the module's docstring; it is the listener (:class:`trishula.session.transport.Listener`) of its
    connection."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        user: User,
        *,
        around: Surroundings,
        connection: Connection,
        observer: Observer | None,
    ) -> None:
        self.settings = settings
        self.address = address
        self.attached: Attached | None = None
        self.attachment: Attachment | None = None
        self.beats_s: float | None = None  # how often to beat without being attached
        #: How much the node takes, as the latest that we attached to told it.
        self.limits = UNTOLD
        self.activity = Activity(around.now_ms)
        self.heartbeat = Heartbeat(around.clock, around.now_ms, self.activity.told)
        self.stores = KnownStores()
        #: What this run of the process has begun, and what the one before it had; ``None`` without a file for it.
        self.begun: Begun | None = None
        self.run = around.word(8)
        self.canaries = ["live"]  # the roads by which canaries are answered
        self.gets_binary = False  # whether the node pushes bytes as they are
        #: Whoever was given tokens by ``fetch`` brings them back some time, and they mean something to one node only.
        self.stays = False
        self._user = user
        self._clock = around.clock
        self._host = around.host
        self._connection = connection
        self._observer = observer
        self._procedures: dict[str, Endpoint] = {}
        self._topics: dict[str, Callable[..., object]] = {}
        self._session: Link | None = None
        # A link to move to, until it is the session.
        self._offered: Link | None = None
        self._ready = self._was_ready = False
        self._end: TrishulaError | None = None
        self._last_fault: TrishulaError | None = None
        self._waiting: list[Pending[None]] = []
        # The nodes that don't let us serve what we announce, and those that could not be reached meanwhile.
        self._forbidden_at: set[str] = set()
        self._missed: set[str] = set()

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def link(self) -> Link | None:
        """The session, if everything is set up on it."""
        return self._session if self._ready else None

    @property
    def has_session(self) -> bool:
        """Whether there is a session, ready or not."""
        return self._session is not None

    @property
    def end(self) -> TrishulaError | None:
        """Why it is over, if it is."""
        return self._end

    async def start(self, timeout_s: float | None) -> None:
        """Join; see :meth:`trishula.client.Client.start`."""
        self._connection.start(self)
        try:
            await self.until_ready(timeout_s)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave, for good."""
        if self._end is None:
            self._finish(BusUnreachable(f"{self.address} has left the bus"))
        await self._connection.stop()

    async def until_ready(self, timeout_s: float | None) -> None:
        """Wait for a session.

        Raises:
            TrishulaError: why there will be none, or :class:`BusUnreachable` if it doesn't come in time.
        """
        if self._end is not None:
            raise self._end
        if self._ready:
            return
        ready: Pending[None] = Pending()
        self._waiting.append(ready)
        await within(self._clock, ready, timeout_s, lambda: self.unreachable(timeout_s))

    async def link_within(self, timeout_s: float) -> tuple[Link, float]:
        """A session, and how much of the time is left then."""
        deadline_s = self._clock.seconds() + timeout_s
        await self.until_ready(timeout_s)
        assert self._session is not None
        return self._session, max(deadline_s - self._clock.seconds(), 0.001)

    def unreachable(self, timeout_s: float | None) -> BusUnreachable:
        """That no session came in time, and what the last attempt said."""
        last = "" if self._last_fault is None else f"; the last attempt: {self._last_fault}"
        return BusUnreachable(
            f"no node could be joined within {timeout_s:g} s: tried {', '.join(self.settings.urls)}{last}"
        )

    # -- what there is to set up ---------------------------------------------------------------------------------------

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        """Offer a procedure on this session and every later one."""
        self._procedures[uri] = endpoint
        if self._offered is not None:
            self._offered.register(uri, endpoint)
        return resolved(None) if self.link is None else self.link.register(uri, endpoint)

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        """Hear a topic on this session and every later one; one handler a topic."""
        self._topics[topic] = handler
        if self._offered is not None:
            self._hear(self._offered, topic, handler)
        return resolved(None) if self.link is None else self._hear(self.link, topic, handler)

    def _hear(self, link: Link, topic: str, handler: Callable[..., object]) -> Pending[None]:
        """Subscribe to a topic on one link; what comes is heard while that link is the session."""

        def heard(*args: Any) -> None:
            if link is self._session:
                handler(*args)

        return link.subscribe(topic, heard)

    def hears(self, topic: str) -> bool:
        """Whether the topic has a handler."""
        return topic in self._topics

    def attach(self, attachment: Attachment) -> Pending[Attached | None]:
        """Take deliveries on this session and every later one."""
        self.attachment = attachment
        if self.link is None:
            return resolved(None)
        return start(self._attach(self.link, attachment))

    async def _attach(self, link: Link, attachment: Attachment) -> Attached | None:
        details: dict[str, Any] = {
            "capabilities": list(attachment.capabilities),
            "window": attachment.window,
            "heartbeat_s": attachment.heartbeat_s,
        }
        if self.address.instance is not None:
            details["instance"] = self.address.instance

        def pushed(*args: Any) -> None:
            if link is self._offered:
                # The node that we move to is faster with this than with its answer.
                self._switch(link)
            if link is self._session:
                attachment.on_inbox(*args)

        # The topic first: what is pushed before we listen would be delivered again only when its lease is over.
        await link.subscribe(inbox_of(self.address), pushed)
        answer = await self._ask_to_attach(link, details, self._life())
        if self.begun is not None:
            self.begun.told()
        if link is self._offered:
            self._switch(link)
        self.attached = self._known_again(link, answer)
        self.limits = self.attached.limits
        if link is self._session:
            self.heartbeat.start(link, attachment.heartbeat_s)
        return self.attached

    def _life(self) -> dict[str, Any]:
        """What the node is told of this process: so a lost session costs no message what is not its fault."""
        life: dict[str, Any] = {"run": self.run, "host": self._host}
        if self.begun is not None and self.begun.after is not None:
            life["after"] = self.begun.after
            life["begun"] = [list(key) for key in self.begun.left]
        return life

    async def _ask_to_attach(self, link: Link, details: dict[str, Any], life: dict[str, Any]) -> object:
        canaries = {} if self.address.instance else {"canaries": self.canaries}  # a script's reach says nothing
        self.gets_binary = False
        for more in offers(self.stores.told(link.url), life, canaries):
            with contextlib.suppress(KeyUnknown):
                answer = await link.call(MAILBOX_ATTACH, [{**details, **more}], timeout_s=_SET_UP_TIMEOUT_S)
                self.gets_binary = "binary" in more
                return answer
        return await link.call(MAILBOX_ATTACH, [details], timeout_s=_SET_UP_TIMEOUT_S)

    def _known_again(self, link: Link, answer: object) -> Attached:
        """The answer; whether its store is the one we knew is for us to see as well."""
        attached = msgspec.convert(answer, Attached)
        changed = self.stores.met(link.url, attached.node, attached.epoch, attached.high_water, attached.epoch_changed)
        return msgspec.structs.replace(attached, epoch_changed=changed)

    async def _set_up(self, link: Link) -> None:
        await self._set_up_names(link)
        if self.attachment is not None:
            await self._attach(link, self.attachment)
        elif self.beats_s is not None:
            self.heartbeat.start(link, self.beats_s)

    async def _set_up_names(self, link: Link) -> None:
        # Asked for all at once, for one round trip; each fault shows when it is awaited.
        asked = [link.register(uri, endpoint) for uri, endpoint in self._procedures.items()]
        asked += [self._hear(link, topic, handler) for topic, handler in self._topics.items()]
        faults = [error for one in asked if (error := await _fault_of(one)) is not None]
        if faults:
            raise faults[0]

    # -- a move --------------------------------------------------------------------------------------------------------

    async def _move(self, link: Link) -> None:
        await self._set_up_names(link)
        if link is self._offered:
            self._user.member_pausing()
        until_s = self._clock.seconds() + _STILL_WITHIN_S
        while link is self._offered and not self._user.is_still and self._clock.seconds() < until_s:
            await sleep(self._clock, _STILL_POLL_S)
        if self.attachment is not None:
            await self._attach(link, self.attachment)
        elif link is self._offered:
            self._switch(link)

    def _switch(self, link: Link) -> None:
        """The link that was offered is the session from now on."""
        old, self._session, self._offered = self._session, link, None
        assert old is not None
        self._user.member_moving(old)
        self._connection.moved()
        if self._observer is not None:
            self._observer.moved(old.url, link.url)

    def _move_ended(self, link: Link, error: BaseException | None) -> None:
        if link is self._session:
            if not self._ready:
                # The old session went in the middle of it.
                self._set_up_ended(link, error)
            elif error is None:
                self._user.member_ready()
            else:
                _log.error("Moved to %s, but could not set up there: %s", link.url, error)
                link.drop()
        elif link is self._offered:
            _log.warning("Could not move to %s: %s", link.url, error)
            self._stay()
            link.drop()

    def _stay(self) -> None:
        if self._offered is not None:
            self._offered = None
            self._user.member_staying()

    # -- what the connection tells -------------------------------------------------------------------------------------

    def link_joined(self, link: Link) -> None:
        self._session = link
        start(self._set_up(link)).when_done(lambda pending: self._set_up_ended(link, pending.error))

    def _set_up_ended(self, link: Link, error: BaseException | None) -> None:
        if link is not self._session or self._end is not None:
            return
        if error is None:
            self._ready = self._was_ready = True
            self._last_fault = None
            self._forbidden_at.clear()
            if self._observer is not None:
                self._observer.joined(link.url)
            self._user.member_ready()
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.resolve(None)
        elif isinstance(error, CapabilityForbidden) and self._hopes(link.url):
            self._last_fault = error
            _log.error("Joined %s, but could not set up there: %s", link.url, error)
            link.drop()
        elif isinstance(error, TrishulaError) and not error.temporary:
            # A node that refuses what we need will refuse it again.
            self.given_up(error)
            self._connection.stop()
        elif not isinstance(error, LinkLost):
            _log.error("Joined %s, but could not set up there: %s", link.url, error)
            link.drop()

    def _hopes(self, url: str) -> bool:
        """Whether a node may let us serve what we announce, now that one doesn't."""
        if not self._forbidden_at:
            self._missed.clear()
        self._forbidden_at.add(url)
        tried = self._forbidden_at if self._was_ready else self._forbidden_at | self._missed
        return not tried.issuperset(self.settings.urls)

    def link_offered(self, link: Link) -> None:
        if not self._ready or self.stays:
            link.drop()
            return
        self._offered = link
        start(self._move(link)).when_done(lambda pending: self._move_ended(link, pending.error))

    def link_withdrawn(self, error: TrishulaError) -> None:
        if self._offered is not None:
            _log.warning("Could not move to %s: %s", self._offered.url, error)
            self._stay()

    def link_lost(self, error: TrishulaError) -> None:
        link = self._session
        # In the middle of a move it goes on, and is a join.
        self._session, self._offered = self._offered, None
        self._ready = False
        self.attached = None
        self._last_fault = error
        self.heartbeat.stop()
        if link is not None:
            # Also if it was not ready yet: tokens of it may have come.
            self._user.member_away(link.ending)
        if link is not None and self._observer is not None and self._end is None:
            self._observer.lost(link.url, error)

    def node_unreachable(self, url: str, error: TrishulaError, retry_in_s: float) -> None:
        self._last_fault = error
        self._missed.add(url)
        if self._observer is not None:
            self._observer.unreachable(error, self._clock.seconds())

    def given_up(self, error: TrishulaError) -> None:
        if self._end is None:
            self._finish(error)
            if self._observer is not None:
                self._observer.ended(error)

    def _finish(self, error: TrishulaError) -> None:
        self._end = error
        self._ready = False
        self.heartbeat.stop()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.reject(error)
        self._user.member_ended(error)


async def _fault_of(pending: Pending[None]) -> BaseException | None:
    try:
        await pending
    except TrishulaError as error:
        return error
    return None
