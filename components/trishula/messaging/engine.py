"""What drives a member of the bus: from its verbs to the session beneath, and back.

An engine has an *address*: the agent itself, or, with an ``instance``, a further session under its identity
(``agni/7f3a``) with a mailbox of its own. It joins and rejoins by itself; while no node is there, what is sent waits in
the outbox, and questions wait as long as their time limit allows. Clients and agents are made of it.

What is decided elsewhere: the order and repetition of sends in :mod:`trishula.messaging.outbox`, which node and when in
:mod:`trishula.session.reconnect_policy`, when a delivery is acknowledged in :mod:`trishula.consumer.dispatcher`.

One turn, one call: what is to be sent, acknowledged and given back is only written down; at the end of the reactor's
turn everything of a kind goes out in one call. Batches are what makes durability cheap.

After each (re)join, in this order: procedures and topics, then the inbox topic and ``attach`` (deliveries may come from
then on), then everything in the outbox that has no receipt. Acks are not repeated on a new session: their tokens mean
something only to the node that gave them; what was not acknowledged is delivered again, and the receiver knows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from trishula import tracing
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.deliveries import Delivery, running
from trishula.contract.message import MailType
from trishula.contract.receipts import Receipt
from trishula.contract.traces import child_of
from trishula.errors import BusUnreachable, TrishulaError
from trishula.messaging.acks import Settling
from trishula.messaging.calls import Asking
from trishula.messaging.draining import Drain
from trishula.messaging.entries import Limits
from trishula.messaging.live import Live
from trishula.messaging.news import News
from trishula.messaging.own_keys import encrypting, signing, verifier_of
from trishula.messaging.pending_calls import Calls
from trishula.messaging.receiver import Receiving
from trishula.messaging.second_road import SecondRoad, is_of_second_road
from trishula.messaging.sender import Done, Sending
from trishula.runtime.pending import Pending, rejected, resolved
from trishula.runtime.surroundings import Surroundings, Timer, real
from trishula.runtime.waiting import ended_within, within
from trishula.session.attachment import Attached, Attachment, Observer
from trishula.session.membership import Membership
from trishula.session.transport import Connection, Ending, Link
from trishula.settings import Settings

__all__ = ["DEFAULT_HEARTBEAT_S", "DEFAULT_WINDOW", "Engine"]

if TYPE_CHECKING:
    # A script has no file, and doesn't load SQLite.
    from trishula.messaging.agent_file import AgentFile, Saved
    from trishula.session.begun import Begun

#: Messages in a client's hands at a time.
DEFAULT_WINDOW = 64
DEFAULT_HEARTBEAT_S = 10.0
#: How long the socket of a session that was ended may take to close.
_CLOSING_S = 2.0


class Engine:
    """See the module's docstring. All methods belong to the reactor's thread.

    Args:
        settings: where the bus is and who we are.
        instance: the name of this instance of the agent; ``None`` to be the agent itself.
        around: clocks and randomness; the real ones if absent.
        connection: how to get links; a WAMP connection if absent.
        limits: how much the outbox takes and sends at once.
        observer: told when the engine joins, loses its node, finds none, or comes to its end.

    Attributes:
        member: which node, and what is set up on each session.
        sending: messages on their way out.
        receiving: messages on their way in.
        settling: acks and nacks.
        asking: questions that wait for an answer.
        clock, around: for whoever waits, and for work that blocks.
        live: live topics and procedures.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        instance: str | None = None,
        around: Surroundings | None = None,
        connection: Connection | None = None,
        limits: Limits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.address = Address.parse(settings.agent if instance is None else f"{settings.agent}/{instance}")
        self.settings = settings
        tracing.switch_on(os.environ)
        self.around = around = around or real()
        self.clock = around.clock
        if connection is None:
            # Late, because importing Autobahn takes a third of a second that "trishula --help" need not spend.
            from trishula.session.connection import WampConnection

            connection = WampConnection(settings, around)
        self._drain = Drain(self.clock, lambda: not len(self.sending) and self.settling.is_empty)
        self.settling = Settling(self.wake, lambda: self.member.has_session, self._drain.emptied, self.clock)
        self._calls = Calls()
        self._file: AgentFile | None = None
        self._second_road: SecondRoad | None = None
        self._flushing: Timer | None = None
        self._release: Callable[[], None] | None = None
        self.member = Membership(settings, self.address, self, around=around, connection=connection, observer=observer)
        self.receiving = Receiving(self._calls, self.settling, self.member)
        self._encrypt = encrypting(settings, str(self.address))
        self.receiving.verifier = verifier_of(settings, self.address, around.now_ms)
        self.live = Live(self.member, self.address.agent)
        self.sending = Sending(
            around,
            self.member,
            # The agent itself leaves its name to the node.
            sender=None if instance is None else str(self.address),
            limits=limits or Limits(),
            wake=self.wake,
            under_replicated=lambda: self._news.hear_of_copies(),
            emptied=self._drain.emptied,
            sign=signing(settings, str(self.address)),
        )
        self._news = News(self.address.agent, self.member, self.live, self._calls, self.sending.replication_news)
        self.asking = Asking(
            self.clock,
            self.member,
            self.sending,
            self._calls,
            self.send,
            self._news.hear,
            lambda: self.receiving.receiver is not None,
            self.receiving.answer,
            str(self.address),
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether there is a session on which everything is set up."""
        return self.member.link is not None

    @property
    def end(self) -> TrishulaError | None:
        """Why there will be no session any more: it left, was refused or was taken over; ``None`` before that."""
        return self.member.end

    @property
    def url(self) -> str | None:
        """The URL of the node we are joined to."""
        return None if self.member.link is None else self.member.link.url

    @property
    def node(self) -> str | None:
        """The name of the node that we take deliveries from."""
        return None if self.member.attached is None else self.member.attached.node

    def beat_soon(self) -> None:
        """Tell it now: it has left this process when a handler blocks next."""
        self.member.heartbeat.tell()

    async def start(self, timeout_s: float | None = None) -> None:
        """Join; returns when everything is set up.

        Raises:
            TokenInvalid, TokenMissing: the node refuses us; trying again would not help.
            BusUnreachable: no node let us in within ``timeout_s``; the client has stopped trying.
            TrishulaError: neither an asyncio loop nor a reactor runs, so that it would wait for ever.
        """
        self.around.check_driven()
        if self._release is None:
            self._release = self.around.hold()
        await self.member.start(timeout_s)

    async def stop(self) -> None:
        """See :meth:`trishula.client.Client.stop`."""
        await self.member.stop()
        self._let_go()

    def _let_go(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until every message has its receipt and every ack its answer; whether that came in time."""
        return await self._drain.within(timeout_s)

    async def wait(self, pending: Pending[Any], timeout_s: float) -> bool:
        """Wait for an outcome, but only so long; whether it came."""
        return await ended_within(self.clock, pending, timeout_s)

    # What the membership tells (trishula.session.attachment.User).

    def member_ready(self) -> None:
        if self.member.attached is not None:
            self._note_node(self.member.attached)
        self.sending.connected()
        self.wake()

    def member_away(self, ending: Ending | None) -> None:
        self.sending.disconnected(ending)
        self.settling.disconnected()

    def member_pausing(self) -> None:
        self.sending.pause()

    @property
    def is_still(self) -> bool:
        return not self.sending.is_flying

    def member_moving(self, old: Link) -> None:
        if self._file is not None:
            self._file.commit()
        # Tokens of the old node mean nothing to the new one.
        self.settling.flush(old, at_once=True)
        self.settling.moved()
        if self.sending.is_flying:
            self.sending.disconnected()

    def member_staying(self) -> None:
        self.sending.resume()

    def member_ended(self, error: TrishulaError) -> None:
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        # First: what the end settles below has no receipt.
        self._drain.ended()
        self.settling.disconnected()
        self._calls.close(error)
        self.sending.close(error)
        if self._release is not None:
            # Its socket is to be closed in good order first.
            self.clock.callLater(_CLOSING_S, self._let_go)

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(
        self,
        to: str,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        id: str | None = None,
        priority: int = 3,
        reply_to: str | None = None,
        procedure: str | None = None,
        subject: str | None = None,
        ttl_ms: int | None = None,
        deadline_at: int | None = None,
        traceparent: str | None = None,
        copies: int | None = None,
        encrypt: bool = False,
        on_refused: Callable[[TrishulaError], object] | None = None,
    ) -> Pending[Receipt]:
        """See :meth:`trishula.verbs.Verbs.send`."""
        wire: dict[str, Any] = {"type": type, "id": id, "to": to, "timestamp": self.around.now_ms()}
        if payload is not None:
            wire["payload"] = payload
        if priority != 3:
            wire["priority"] = priority
        if reply_to is not None:
            wire["reply_to"] = reply_to
        if procedure is not None:
            wire["procedure"] = procedure
        if subject is not None:
            wire["subject"] = subject
        if ttl_ms is not None:
            wire["ttl_ms"] = ttl_ms
        if deadline_at is not None:
            wire["deadline_at"] = deadline_at
        if encrypt:
            wire["id"] = id or self.sending.new_id()
            if (fault := self._encrypt(wire, self.member.limits.payload_bytes)) is not None:
                return rejected(fault)
        span = None
        if traceparent is None:
            traceparent, span = tracing.carry_on(wire, running.get(), self.around.word)
        if traceparent is not None:
            wire["traceparent"] = traceparent
        pending: Pending[Receipt] = Pending()
        done: Done = pending.settle if span is None else span.ending(pending.settle)
        self.sending.post(wire, done, copies, held=on_refused)
        return pending

    def carried(self, traceparent: str | None) -> str | None:
        """The trace context of what is sent on account of a message that has this one; ``None`` if there is none."""
        return None if traceparent is None else child_of(traceparent, self.around.word(8))

    async def confirmed(self, sent: Pending[Receipt], message_id: str, timeout_s: float) -> Receipt:
        """Wait for a receipt, but only so long.

        Raises:
            BusUnreachable: it could not be sent in time; it was withdrawn.
            MailboxFull, RateLimited, StorageFull, CopiesUnavailable: it was refused all the time; it was withdrawn.
            OutcomeUnknown: a node may have it.
        """
        return await within(self.clock, sent, timeout_s, lambda: self.sending.unconfirmed(message_id, timeout_s))

    # -- for agents ----------------------------------------------------------------------------------------------------

    def reply(
        self, wire: dict[str, Any], done: Done, held: Callable[[TrishulaError], object], *, encrypt: bool = False
    ) -> bool:
        """Send the answer to a COMMAND, also if the outbox is full; whether it is on its way.

        ``held`` is called when it was refused for now, so that its way may be long.
        """
        wire.setdefault("timestamp", self.around.now_ms())
        if encrypt and (fault := self._encrypt(wire := dict(wire), self.member.limits.payload_bytes)) is not None:
            done(fault)
            return False
        return self.sending.post(wire, done, held=held, is_reply=True)

    def keep_in(self, file: AgentFile, saved: Saved, done_of: Callable[[dict[str, Any]], Done]) -> None:
        """Have an outbox that outlives the process, and send what an earlier run left there.

        Args:
            file: written at the end of each turn, before anything of that turn goes out.
            saved: what it holds.
            done_of: who hears what becomes of a message of an earlier run.
        """
        self._file = file
        self.member.stores.restore(saved.nodes)
        if self.member.attached is not None:
            self._note_node(self.member.attached)
        self.sending.restore(file, saved.messages, done_of)

    def open_second_road(self, road: SecondRoad) -> None:
        """Let deliveries that come by another road than a node be settled there."""
        self._second_road = self.settling.second_road = road
        self.receiving.answers = {}

    @property
    def run(self) -> str:
        """Names this run of the process, for the node."""
        return self.member.run

    def tell_begun(self, begun: Begun) -> None:
        """Tell the node, as we attach, what the last run of this agent had begun."""
        self.member.begun = begun

    def _note_node(self, attached: Attached) -> None:
        if self._file is not None and self.url is not None:
            self._file.note_node(self.url, attached.epoch, attached.high_water)

    # -- the end of a turn ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Flush at the end of this turn."""
        if self._flushing is None and (self.member.link or self._file or self._second_road) is not None:
            self._flushing = self.clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if self._file is not None:
            # First, so that nothing is offered or acknowledged that we could forget.
            self._file.commit()
        if self._second_road is not None:
            self._second_road.flush()
        if (link := self.member.link) is not None:
            # The node does one after the other. A model's answer comes after what it has read; for acks nobody waits.
            self.settling.flush_surfaced(link)
            self.sending.flush(link)
            self.settling.flush(link)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def attach(
        self,
        on_delivery: Callable[[list[Delivery]], object],
        *,
        capabilities: Iterable[str] = (),
        window: int = DEFAULT_WINDOW,
        heartbeat_s: float = DEFAULT_HEARTBEAT_S,
        on_cancelled: Callable[[str, str], object] | None = None,
    ) -> Pending[Attached | None]:
        """See :meth:`trishula.client.Client.attach`."""
        self.receiving.receiver = on_delivery
        if self.receiving.verifier is not None:
            self.receiving.verifier.capabilities = capabilities = tuple(capabilities)
        self.receiving.recalled = on_cancelled
        return self.member.attach(Attachment(self.receiving.pushed, tuple(capabilities), window, heartbeat_s))

    def working(self, token: str, for_s: float) -> Pending[Any]:
        """Extend the lease of a long job to ``for_s`` from now; the question has left this process on return."""
        if is_of_second_road(token):
            # Nobody else waits for it.
            return resolved(None)
        link = self.member.link
        if link is None:
            return rejected(BusUnreachable("the session that the token belongs to is gone"))
        return link.call(uris.MAILBOX_WORKING, [token, for_s], timeout_s=10.0)
