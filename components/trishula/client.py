"""The client: one member of the bus, in the reactor's thread. Agents, scripts and tools are made of it.

A client has an *address*: the agent itself, or, with an ``instance``, a further session under its identity
(``agni/7f3a``) with a mailbox of its own. It joins and rejoins by itself; while no node is there, ``send`` queues,
and ``request`` waits as long as its time limit allows.

What is decided elsewhere: the order and repetition of sends in :mod:`trishula.messaging.outbox`, which node and when in
:mod:`trishula.session.reconnect_policy`. What a handler is and when a delivery is acknowledged is
:mod:`trishula.agent`'s affair.

One turn, one call: ``send``, ``ack`` and ``nack`` only write down what is to be done; at the end of the reactor's turn
everything of a kind goes out in one call. Batches are what makes durability cheap.

After each (re)join, in this order: procedures and topics, then the inbox topic and ``attach`` (deliveries may come from
then on), then everything in the outbox that has no receipt. Acks are not repeated on a new session: their tokens mean
something only to the node that gave them; what was not acknowledged is delivered again, and the receiver knows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import msgspec

from trishula.contract import uris
from trishula.contract.addresses import BROADCAST, Address
from trishula.contract.deliveries import Delivery, Fetched
from trishula.contract.message import MailType
from trishula.contract.texts import LINE_RULE, is_line, show_value
from trishula.errors import (
    ArgumentInvalid,
    BusUnreachable,
    KeyUnknown,
    TrishulaError,
)
from trishula.messaging.acks import Settling
from trishula.messaging.calls import Asking
from trishula.messaging.live import pack_arguments, packing
from trishula.messaging.outbox import Limits, Receipt
from trishula.messaging.pending_calls import Calls
from trishula.messaging.receiver import Receiving
from trishula.messaging.sender import Done, Sending
from trishula.runtime.pending import Pending, rejected, start
from trishula.runtime.surroundings import Surroundings, Timer, real
from trishula.runtime.waiting import ended_within, sleep, within
from trishula.send_options import SendOptions
from trishula.session.attachment import Attached, Attachment, Observer
from trishula.session.heartbeat import Activity, Heartbeat
from trishula.session.membership import Membership
from trishula.session.transport import Connection, Ending, Endpoint, Link, LinkLost
from trishula.settings import Settings

__all__ = ["DEFAULT_HEARTBEAT_S", "DEFAULT_WINDOW", "Client"]

_log = logging.getLogger("trishula")

if TYPE_CHECKING:
    # A script has no file, and doesn't load SQLite.
    from trishula.messaging.agent_file import AgentFile, Saved
    from trishula.session.begun import Begun

T = TypeVar("T")

#: What a node takes.
_REASON_LIMIT = 2000
#: How long the socket of a session that was ended may take to close.
_CLOSING_S = 2.0

DEFAULT_WINDOW = 64
DEFAULT_HEARTBEAT_S = 10.0


class Client:
    """See the module's docstring. All methods belong to the reactor's thread.

    Args:
        settings: where the bus is and who we are.
        instance: the name of this instance of the agent; ``None`` to be the agent itself.
        around: clocks and randomness; the real ones if absent.
        connection: how to get links; a WAMP connection if absent.
        limits: how much the outbox takes and sends at once.
        observer: told when the client joins, loses its node, finds none, or comes to its end.
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
        self._around = around = around or real()
        self._clock = around.clock
        if connection is None:
            # Late, because importing Autobahn takes a third of a second that "trishula --help" need not spend.
            from trishula.session.connection import WampConnection

            connection = WampConnection(settings, around)
        self._settling = Settling(self._wake, lambda: self._member.has_session)
        self._calls = Calls()
        self._receiving = Receiving(self._calls, self._settling)
        self._file: AgentFile | None = None
        self._flushing: Timer | None = None
        self._release: Callable[[], None] | None = None
        self._tells_run = True
        self._member = Membership(settings, self.address, self, around=around, connection=connection, observer=observer)
        self._sending = Sending(
            around,
            self._member,
            # The agent itself leaves its name to the node.
            sender=None if instance is None else str(self.address),
            limits=limits or Limits(),
            wake=self._wake,
            keeps=self._hear_of_kept,
        )
        self._asking = Asking(
            self._clock, self._member, self._sending, self._calls, self.send, self._hear_news, str(self.address)
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether there is a session on which everything is set up."""
        return self._member.link is not None

    @property
    def end(self) -> TrishulaError | None:
        """Why there will be no session any more: it left, was refused or was taken over; ``None`` before that."""
        return self._member.end

    @property
    def url(self) -> str | None:
        """The URL of the node we are joined to."""
        return None if self._member.link is None else self._member.link.url

    @property
    def node(self) -> str | None:
        """The name of the node that we take deliveries from."""
        return None if self._member.attached is None else self._member.attached.node

    @property
    def attached(self) -> Attached | None:
        """What the node answered to our attach on this session."""
        return self._member.attached

    @property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat, with its estimate of the clocks' offset."""
        return self._member.heartbeat

    @property
    def activity(self) -> Activity:
        """What is told with each beat; :meth:`beat_soon` after a change."""
        return self._member.activity

    def beat_soon(self) -> None:
        """Tell it now, so that it has left this process when a handler blocks next."""
        self._member.heartbeat.tell()

    @property
    def unconfirmed(self) -> int:
        """How many messages have no receipt yet."""
        return len(self._sending)

    async def start(self, timeout_s: float | None = None) -> None:
        """Join; returns when everything is set up.

        Raises:
            TokenInvalid, TokenMissing: the node refuses us; trying again would not help.
            BusUnreachable: no node let us in within ``timeout_s``; the client has stopped trying.
            TrishulaError: neither an asyncio loop nor a reactor runs, so that it would wait for ever.
        """
        self._around.check_driven()
        if self._release is None:
            self._release = self._around.hold()
        await self._member.start(timeout_s)

    async def stop(self) -> None:
        """Leave cleanly. What has no receipt fails: as unknown where a node may have it, else as not sent."""
        await self._member.stop()
        self._let_go()

    def _let_go(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until every message has its receipt and every ack its answer; whether that came in time."""
        deadline_s = self._clock.seconds() + timeout_s
        while len(self._sending) or not self._settling.is_empty:
            left_s = deadline_s - self._clock.seconds()
            if left_s <= 0 or self._member.end is not None:
                return False
            await sleep(self._clock, min(left_s, 0.02))
        return True

    async def wait(self, pending: Pending[Any], timeout_s: float) -> bool:
        """Wait for an outcome, but only so long; whether it came."""
        return await ended_within(self._clock, pending, timeout_s)

    def sleep(self, seconds: float) -> Pending[None]:
        """Wait."""
        return sleep(self._clock, seconds)

    # What the membership tells (trishula.session.attachment.User).

    def member_ready(self) -> None:
        if self._member.attached is not None:
            self._note_node(self._member.attached)
        self._sending.connected()
        self._wake()

    def member_away(self, ending: Ending | None) -> None:
        self._sending.disconnected(ending)
        self._settling.disconnected()

    def member_pausing(self) -> None:
        self._sending.pause()

    @property
    def is_still(self) -> bool:
        return not self._sending.is_flying

    def member_moving(self, old: Link) -> None:
        if self._file is not None:
            self._file.commit()
        # Tokens of the old node mean nothing to the new one.
        self._settling.flush(old)
        if self._sending.is_flying:
            self._sending.disconnected()

    def member_staying(self) -> None:
        self._sending.resume()

    def member_ended(self, error: TrishulaError) -> None:
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        self._settling.disconnected()
        self._calls.close(error)
        self._sending.close(error)
        if self._release is not None:
            # Its socket is to be closed in good order first.
            self._clock.callLater(_CLOSING_S, self._let_go)

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
        on_refused: Callable[[TrishulaError], object] | None = None,
    ) -> Pending[Receipt]:
        """Send a message; it is on its way also if nobody awaits the outcome.

        Messages of one reactor turn travel in one call. While no node is there the message waits, as long as it takes.

        Args:
            to: an agent, one instance of it (``agni/7f3a``), or ``broadcast``.
            type: COMMAND, STATUS, RESULT or ERROR.
            payload: any JSON value (:mod:`trishula.contract.payload` has the rule); it is read now, and what is changed
                in it afterwards doesn't travel.
            id: chosen here if absent; sending again with the same id is safe, also from another process of this agent:
                what is equal is a ``duplicate``, anything else is refused as :class:`~trishula.errors.IdReused`.
            priority: 1 (most urgent) to 5.
            copies: on how many nodes it must be on disk before the receipt. Without it: on both where there are two
                and they see each other, else on one; the receipt says it. 1: don't wait for the second node. 2: only
                with a second node; while there is none the message waits. After a receipt of fewer than two the
                outbox keeps a message that was sent with this option, and offers it to the other node as well.
            reply_to, procedure, subject, ttl_ms, deadline_at, traceparent: see
                :class:`trishula.contract.message.Message`.
            on_refused: told each time that a node refuses it for now; it waits, and is offered again.

        Returns:
            the awaitable receipt. It raises the node's refusal as its typed error; what the client refuses itself
            (:class:`~trishula.errors.MessageInvalid`, :class:`~trishula.errors.PayloadNotJson`,
            :class:`~trishula.errors.PayloadTooLarge`) is neither stored nor sent;
            :class:`~trishula.errors.MessageSetAside` if it can't be sent without the session's end, and
            :class:`~trishula.errors.OutcomeUnknown` if the client ends before the receipt came.
        """
        wire: dict[str, Any] = {"type": type, "id": id, "to": to, "timestamp": self._around.now_ms()}
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
        if traceparent is not None:
            wire["traceparent"] = traceparent
        pending: Pending[Receipt] = Pending()
        self._sending.post(wire, pending.settle, copies, held=on_refused)
        return pending

    def broadcast(
        self, *, type: MailType = "STATUS", payload: object = None, **options: Unpack[SendOptions]
    ) -> Pending[Receipt]:
        """Send to every registered agent but ourselves; the same options as :meth:`send`."""
        return self.send(BROADCAST, type=type, payload=payload, **options)

    def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, copies: int | None = None, timeout_s: float | None = None
    ) -> Pending[list[Receipt]]:
        """Send many at once, with one awaitable for all: the receipts, in order.

        The rule is that of :meth:`send`: whatever is not accepted raises. Each message is sent by itself, so one that
        is refused doesn't keep its neighbours back; when all outcomes are there and there is an error among them,
        :class:`~trishula.errors.NotAllSent` is raised, whose ``outcomes`` has each one's receipt or error, in order.

        Args:
            messages: maps as they travel (the wire contract's message): ``to``, and what else is wanted; as with
                :meth:`send` the ``type`` is STATUS, ``id`` and ``timestamp`` are set where they are absent.
            copies: on how many nodes they must be on disk before the receipt.
            timeout_s: after it, what has no receipt gets :class:`~trishula.errors.BusUnreachable` if it was not sent
                (it is withdrawn then), else :class:`~trishula.errors.OutcomeUnknown`.

        Raises:
            NotAllSent: some have no receipt.
            MessageInvalid: one of them is no map; nothing was sent.
        """
        return self._sending.post_many(messages, copies, timeout_s)

    def new_id(self) -> str:
        """A new message id."""
        return self._sending.new_id()

    async def confirmed(self, sent: Pending[Receipt], message_id: str, timeout_s: float) -> Receipt:
        """Wait for a receipt, but only so long.

        Raises:
            BusUnreachable: it could not be sent in time; it was withdrawn.
            MailboxFull, RateLimited, StorageFull, CopiesUnavailable: it was refused all the time; it was withdrawn.
            OutcomeUnknown: a node may have it.
        """
        return await within(self._clock, sent, timeout_s, lambda: self._sending.unconfirmed(message_id, timeout_s))

    # -- for agents ----------------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the outbox takes nothing more but replies."""
        return self._sending.is_full

    def reply(self, wire: dict[str, Any], done: Done, held: Callable[[TrishulaError], object]) -> bool:
        """Send the answer to a COMMAND, also if the outbox is full; whether it is on its way.

        ``held`` is called when it was refused for now, so that its way may be long.
        """
        wire.setdefault("timestamp", self._around.now_ms())
        return self._sending.post(wire, done, held=held, is_reply=True)

    def keep_in(self, file: AgentFile, saved: Saved, done_of: Callable[[dict[str, Any]], Done]) -> None:
        """Have an outbox that outlives the process, and send what an earlier run left there.

        Args:
            file: written at the end of each turn, before anything of that turn goes out.
            saved: what it holds.
            done_of: who hears what becomes of a message of an earlier run.
        """
        self._file = file
        self._member.stores.restore(saved.nodes)
        if self._member.attached is not None:
            self._note_node(self._member.attached)
        self._sending.restore(file, saved.messages, done_of)

    @property
    def run(self) -> str:
        """Names this run of the process, for the node."""
        return self._member.run

    def tell_begun(self, begun: Begun) -> None:
        """Tell the node, as we attach, what the last run of this agent had begun."""
        self._member.begun = begun

    def _note_node(self, attached: Attached) -> None:
        if self._file is not None and self.url is not None:
            self._file.note_node(self.url, attached.epoch, attached.high_water)

    # -- the end of a turn ---------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Flush at the end of this turn."""
        if self._flushing is None and (self._member.link is not None or self._file is not None):
            self._flushing = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if self._file is not None:
            # First, so that nothing is offered or acknowledged that we could forget.
            self._file.commit()
        link = self._member.link
        if link is not None:
            self._settling.flush(link)
            self._sending.flush(link)

    # -- calling -------------------------------------------------------------------------------------------------------

    def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Run a procedure of an agent by a durable COMMAND, and wait for its RESULT.

        Unlike :meth:`rpc` it is on disk before it runs. An agent that is away runs it if it comes back within
        ``timeout`` and 30 s more: then it expires, and nothing runs that nobody waits for. ``ttl_ms`` or
        ``deadline_at`` (see :meth:`call_with`) say otherwise.

        Args:
            agent: an agent, one instance of it, or ``capability:…``; not ``broadcast``, which nobody can answer.

        Raises:
            ArgumentInvalid: also if ``agent`` is nobody who could be called.
            CallFailed, RemoteError: the procedure failed.
            ProcedureUnknown, ArgumentInvalid: the agent has no such procedure, or it doesn't take these arguments.
            OutcomeUnknown: no answer within ``timeout`` seconds; ``message_id`` is the COMMAND's.
            MessageCancelled: somebody has cancelled it, under our agent's name.
            BusUnreachable: no node was there in time; nothing was sent, and nothing will run.
        """
        return self.call_with(agent, procedure, args, kwargs, timeout_s=timeout)

    def call_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 10.0,
        **options: Any,
    ) -> Pending[Any]:
        """:meth:`call` with the options of :meth:`send`.

        With the ``id`` of an earlier call, of whichever process of this agent, it asks for its answer: nothing runs
        twice. Without ``ttl_ms`` and ``deadline_at`` the COMMAND lives as long as its caller waits, and 30 s more.
        ``on_warning`` is told at once if the receipt says that the COMMAND is likely to wait.
        """
        fault = _fault_of_callee(agent)
        if fault is not None:
            return rejected(ArgumentInvalid(fault))
        if self._receiving.receiver is None:
            return rejected(
                ArgumentInvalid(f"{self.address} has no inbox for the answer; attach first, or use an instance")
            )
        return start(self._asking.call(agent, procedure, list(args), dict(kwargs or {}), timeout_s, options))

    def _hear_news(self) -> Pending[None] | None:
        """Subscribe to what becomes of sent messages, once."""
        topic = uris.receipts_of(self.address.agent)
        if self._member.hears(topic):
            return None
        heard = self.subscribe(topic, self._news)
        heard.when_done(_log_failure)
        return heard

    def _hear_of_kept(self) -> None:
        # Not before there is something to hear of: each message to a sender that listens costs its node an event.
        heard = self._hear_news()
        if heard is not None:
            heard.when_done(lambda _: self._sending.hears_news())

    def _news(self, reports: object = None, *_: object) -> None:
        self._calls.news(reports)
        self._sending.news(reports)

    def cancel(self, *ids: str, timeout_s: float = 10.0) -> Pending[list[bool]]:
        """Cancel messages that we sent: for each, whether it is cancelled now, and was not over before.

        Whoever has it is told, and a call that waits for it ends with
        :class:`~trishula.errors.MessageCancelled`. Errors as :meth:`request`.
        """
        return self.request(uris.MAILBOX_CANCEL, list(ids), timeout_s=timeout_s)

    def rpc(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Call an agent's procedure live: nothing is stored, and it must be connected now.

        Raises:
            CallFailed, RemoteError, ArgumentInvalid: the procedure failed.
            ProcedureUnknown: the agent is not connected, or has no such procedure.
            OutcomeUnknown: it was asked, and no answer came within ``timeout`` seconds or before the connection went.
            BusUnreachable: no node was there in time; nobody was asked.
        """
        return self.rpc_with(agent, procedure, args, kwargs, timeout_s=timeout)

    def rpc_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Pending[Any]:
        """:meth:`rpc` with the arguments as they are, also one that is called ``timeout``."""
        return self._asking.rpc(agent, procedure, args, kwargs or {}, timeout_s)

    def request(self, uri: str, *args: Any, timeout_s: float = 10.0) -> Pending[Any]:
        """Ask a procedure of the contract (``directory.*``, ``audit.*``, …).

        All of them may be repeated, so one that was cut off is asked again on the next session.

        Raises:
            TrishulaError: what the node answered.
            BusUnreachable: no node was there in time.
            OutcomeUnknown: a node was asked and did not answer in time.
        """
        return start(self._asking.request(uri, args, timeout_s))

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
        """Take deliveries: the node pushes up to ``window`` that are not acknowledged.

        Answers to our own calls are not among them. ``on_delivery`` gets a list and must not raise. It holds for every
        later session as well. Before the first session there is nothing to wait for: the outcome is ``None`` at once.
        ``on_cancelled`` is told of what was delivered and is cancelled by its sender since: its ``from`` and its id.
        """
        self._receiving.receiver = on_delivery
        self._receiving.recalled = on_cancelled
        return self._member.attach(Attachment(self._receiving.pushed, tuple(capabilities), window, heartbeat_s))

    def ack_soon(self, token: str) -> None:
        """Acknowledge at the end of this turn, and wait for nothing; a lost ack only means one more delivery."""
        self._settling.ack(token)

    def nack_soon(self, token: str, reason: str, *, requeue: bool) -> None:
        """Give back at the end of this turn, and wait for nothing."""
        self._settling.nack(token, reason, requeue)

    def ack(self, tokens: Sequence[str]) -> Pending[list[bool]]:
        """Acknowledge: for each token, whether its message is done now.

        Raises:
            BusUnreachable: the session went before the answer came. The tokens were that session's; what was not
                acknowledged is delivered again.
        """
        return self._settling.ack_all(tokens)

    def nack(self, tokens: Sequence[str], reason: str, *, requeue: bool = True) -> Pending[list[bool]]:
        """Give back, for another attempt or (``requeue=False``) to the dead letters; errors as :meth:`ack`.

        Raises:
            ArgumentInvalid: the reason is none.
        """
        if not is_line(reason) or len(reason) > _REASON_LIMIT:
            return rejected(
                ArgumentInvalid(
                    f"reason is {show_value(reason)}; it must be a string of at most {_REASON_LIMIT} characters, "
                    f"{LINE_RULE}"
                )
            )
        return self._settling.nack_all(tokens, reason, requeue)

    def working(self, token: str, for_s: float) -> Pending[Any]:
        """Extend the lease of a long job to ``for_s`` from now; the question has left this process on return."""
        link = self._member.link
        if link is None:
            return rejected(BusUnreachable("the session that the token belongs to is gone"))
        return link.call(uris.MAILBOX_WORKING, [token, for_s], timeout_s=10.0)

    async def fetch(self, *, max: int = 64, wait_s: float = 0.0, instance: str | None = None) -> Fetched:
        """Pull messages instead of being pushed them; the agent's own mailbox without an ``instance``.

        A client that fetches doesn't go back to a better node by itself. If it loses its node, the tokens that it has
        are answered ``False`` by the next one, and their messages come again.

        Raises:
            MailboxBusy: a running agent is being pushed them.
        """
        self._member.stays = True
        url = self.url
        known = self._member.stores.told(url)
        try:
            life = {"run": self.run} if self._tells_run else {}
            fetched = await self._receiving.fetch(self.request, max, wait_s, instance, {**known, **life})
        except KeyUnknown:
            # A node of a former release.
            if not self._tells_run:
                raise
            self._tells_run = False
            fetched = await self._receiving.fetch(self.request, max, wait_s, instance, known)
        if url is None or url != self.url:
            # Another node, or another session: what we said we knew may not have been of its store.
            return msgspec.structs.replace(fetched, epoch_changed=False)
        changed = self._member.stores.met(url, "", fetched.epoch, fetched.high_water, fetched.epoch_changed)
        return msgspec.structs.replace(fetched, epoch_changed=changed)

    # -- live topics and procedures ------------------------------------------------------------------------------------

    def subscribe(self, topic: str, on_event: Callable[..., object]) -> Pending[None]:
        """Receive a topic's events (``uris.topic_of(agent, name)``, ``uris.EVENT_AGENT``, …), as arguments.

        Live only: nothing is stored, and what happens while there is no session is missed. One handler a topic.
        """

        def heard(*args: Any, **_: Any) -> None:
            try:
                on_event(*args)
            except Exception:
                _log.exception("The handler of %s failed", topic)

        return self._member.subscribe(topic, heard)

    def publish(self, topic_name: str, *args: Any) -> Pending[None]:
        """Publish on our own topic of that name; live only, and resolved when the router has it.

        Raises:
            PayloadNotJson, PayloadTooLarge: the arguments can't travel (:mod:`trishula.contract.payload`,
            :mod:`.limits`).
        """
        topic = uris.topic_of(self.address.agent, topic_name)
        try:
            packed, _ = pack_arguments(f"the event on {topic}", args, {}, self._member.limits)
        except TrishulaError as error:
            return rejected(error)
        return start(self._publish(topic, packed))

    async def _publish(self, topic: str, args: Sequence[Any]) -> None:
        link, _ = await self._member.link_within(10.0)
        await link.publish(topic, args)

    def register(self, procedure: str, endpoint: Endpoint) -> Pending[None]:
        """Offer a procedure for live RPC, on every session from now on.

        A result that can't travel is an error to its caller: the frame would end this session.

        Raises:
            ValueError: it can't have that name.
        """
        uri = uris.procedure_of(self.address.agent, procedure)
        return self._member.register(uri, packing(procedure, endpoint, lambda: self._member.limits))


def _fault_of_callee(agent: object) -> str | None:
    """Why nobody of that name can be called."""
    if agent == BROADCAST:
        return (
            'a call waits for one answer, and "broadcast" is everybody: call each agent, or send a COMMAND to broadcast'
        )
    try:
        Address.parse(agent if isinstance(agent, str) else repr(agent))
    except ValueError as error:
        return f"{agent!r} can't be called: {error}"
    return None


def _log_failure(pending: Pending[Any]) -> None:
    if pending.error is not None and not isinstance(pending.error, LinkLost):
        _log.error("%s", pending.error)
