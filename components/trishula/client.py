"""The client: one member of the bus, in the reactor's thread. Agents, scripts and tools are made of it.

A client has an *address*: the agent itself, or, with an ``instance``, a further session under its identity
(``agni/7f3a``) with a mailbox of its own. It joins and rejoins by itself; while no node is there, ``send`` queues,
and ``request`` waits as long as its time limit allows.

What is decided elsewhere: the order and repetition of sends in :mod:`trishula.outbox`, which node and when in
:mod:`trishula.rejoin`. What a handler is and when a delivery is acknowledged is :mod:`trishula.agent`'s affair.

One turn, one call: ``send``, ``ack`` and ``nack`` only write down what is to be done; at the end of the reactor's turn
everything of a kind goes out in one call. Batches are what makes durability cheap.

After each (re)join, in this order: procedures and topics, then the inbox topic and ``attach`` (deliveries may come from
then on), then everything in the outbox that has no receipt. Acks are not repeated on a new session: their tokens mean
something only to the node that gave them; what was not acknowledged is delivered again, and the receiver knows it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from trishula import uris
from trishula.awaiting import Pending, rejected, start
from trishula.calls import Calls
from trishula.deliveries import Delivery, Fetched, read_deliveries
from trishula.errors import (
    ArgumentInvalid,
    BusUnreachable,
    MessageInvalid,
    OutcomeUnknown,
    PayloadNotJson,
    TrishulaError,
)
from trishula.heartbeat import Heartbeat
from trishula.membership import Attached, Attachment, Membership, Observer
from trishula.message import encode_payload
from trishula.names import BROADCAST, ID_RULE, Address, is_message_id
from trishula.outbox import Batch, Entry, Limits, Outbox, Receipt
from trishula.settings import Settings
from trishula.settling import Settling
from trishula.surroundings import Surroundings, Timer, real
from trishula.transport import AnswerLate, Connection, Endpoint, Link, LinkLost

__all__ = ["DEFAULT_HEARTBEAT_S", "DEFAULT_WINDOW", "Client"]

_log = logging.getLogger("trishula")

T = TypeVar("T")

DEFAULT_WINDOW = 64
DEFAULT_HEARTBEAT_S = 10.0
#: A node that has not answered a send by then has trouble of its own; the same ids go out again.
_SEND_TIMEOUT_S = 30.0
#: A long poll ends on the node's side; the client waits so much longer for its answer.
_FETCH_GRACE_S = 10.0

#: Measures a message and finds what can't be written, before it can spoil a call for its neighbours.
_written = msgspec.msgpack.Encoder().encode


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
            from trishula.connection import WampConnection

            connection = WampConnection(settings, around)
        self._outbox = Outbox(random=around.random, limits=limits or Limits())
        self._settling = Settling(self._wake)
        self._calls = Calls()
        self._on_delivery: Callable[[list[Delivery]], object] | None = None
        self._flushing: Timer | None = None
        self._retrying: Timer | None = None
        # Unique without a call for each: a random word per client, a number per message.
        self._id_word = around.word(6)
        self._id_numbers = itertools.count(1)
        self._sender = None if instance is None else str(self.address)
        self._member = Membership(settings, self.address, self, around=around, connection=connection, observer=observer)

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether there is a session on which everything is set up."""
        return self._member.link is not None

    @property
    def url(self) -> str | None:
        """The URL of the node we are joined to."""
        return None if self._member.link is None else self._member.link.url

    @property
    def attached(self) -> Attached | None:
        """What the node answered to our attach on this session."""
        return self._member.attached

    @property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat, with its estimate of the clocks' offset."""
        return self._member.heartbeat

    @property
    def unconfirmed(self) -> int:
        """How many messages have no receipt yet."""
        return len(self._outbox)

    async def start(self, timeout_s: float | None = None) -> None:
        """Join; returns when everything is set up.

        Raises:
            TokenInvalid, TokenMissing: the node refuses us; trying again would not help.
            BusUnreachable: no node let us in within ``timeout_s``; the client has stopped trying.
        """
        await self._member.start(timeout_s)

    async def stop(self) -> None:
        """Leave cleanly. What has no receipt fails: as unknown where a node may have it, else as not sent."""
        await self._member.stop()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until every message has its receipt and every ack its answer; whether that came in time."""
        deadline_s = self._clock.seconds() + timeout_s
        while len(self._outbox) or not self._settling.is_empty:
            left_s = deadline_s - self._clock.seconds()
            if left_s <= 0 or self._member.end is not None:
                return False
            await self._member.sleep(min(left_s, 0.02))
        return True

    async def wait(self, pending: Pending[Any], timeout_s: float) -> bool:
        """Wait for an outcome, but only so long; whether it came."""
        with contextlib.suppress(_Late):
            await self._member.within(_ended(pending), timeout_s, _Late)
        return pending.done

    # What the membership tells (trishula.membership.User).

    def member_ready(self) -> None:
        self._outbox.connected()
        self._settling.connected()
        self._wake()

    def member_away(self) -> None:
        self._outbox.disconnected()
        self._settling.disconnected()

    def member_ended(self, error: TrishulaError) -> None:
        for timer in (self._flushing, self._retrying):
            if timer is not None and timer.active():
                timer.cancel()
        self._flushing = self._retrying = None
        self._settling.disconnected()
        self._calls.close(error)
        self._outbox.close(error)

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(
        self,
        to: str,
        *,
        type: str = "STATUS",
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
    ) -> Pending[Receipt]:
        """Send a message; it is on its way also if nobody awaits the outcome.

        Messages of one reactor turn travel in one call. While no node is there the message waits, as long as it takes.

        Args:
            to: an agent, one instance of it (``agni/7f3a``), or ``broadcast``.
            type: COMMAND, STATUS, RESULT or ERROR.
            payload: any JSON value.
            id: chosen here if absent; sending again with the same id is safe.
            priority: 1 (most urgent) to 5.
            copies: on how many nodes it must be on disk before the receipt.
            reply_to, procedure, subject, ttl_ms, deadline_at, traceparent: see :class:`trishula.message.Message`.

        Returns:
            the awaitable receipt. It raises the node's refusal as its typed error, and
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
        self._post(wire, pending.settle, copies)
        return pending

    def broadcast(self, *, type: str = "STATUS", payload: object = None, **options: Any) -> Pending[Receipt]:
        """Send to every registered agent but ourselves; the same options as :meth:`send`."""
        return self.send(BROADCAST, type=type, payload=payload, **options)

    def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, copies: int | None = None, timeout_s: float | None = None
    ) -> Pending[list[Receipt | TrishulaError]]:
        """Send many at once, with one awaitable for all: for each message, in order, its receipt or its error.

        Args:
            messages: maps as they travel (DESIGN section 3): ``to`` and ``type``, and what else is wanted; ``id`` and
                ``timestamp`` are set where they are absent.
            copies: on how many nodes they must be on disk before the receipt.
            timeout_s: after it, what has no receipt gets :class:`~trishula.errors.BusUnreachable` if it was not sent
                (it is withdrawn then), else :class:`~trishula.errors.OutcomeUnknown`.
        """
        now_ms = self._around.now_ms()
        wires = [{"id": None, "timestamp": now_ms, **message} for message in messages]
        outcome: Pending[list[Receipt | TrishulaError]] = Pending()
        group = _Group(len(wires), outcome)
        if not wires:
            outcome.resolve([])
        slots = [_Slot(group, index) for index in range(len(wires))]
        for slot, wire in zip(slots, wires, strict=True):
            self._post(wire, slot, copies)
        if timeout_s is not None and not outcome.done:
            timer = self._clock.callLater(timeout_s, self._give_up, wires, slots, timeout_s)
            outcome.when_done(lambda _: timer.cancel() if timer.active() else None)
        return outcome

    def _give_up(self, wires: list[dict[str, Any]], slots: list[_Slot], timeout_s: float) -> None:
        for wire, slot in zip(wires, slots, strict=True):
            if slot.is_open:
                slot(self._unconfirmed(wire["id"], timeout_s))

    def new_id(self) -> str:
        """A new message id."""
        return f"{self._id_word}.{next(self._id_numbers)}"

    async def confirmed(self, sent: Pending[Receipt], message_id: str, timeout_s: float) -> Receipt:
        """Wait for a receipt, but only so long.

        Raises:
            BusUnreachable: it could not be sent in time; it was withdrawn.
            OutcomeUnknown: a node may have it.
        """
        return await self._member.within(sent, timeout_s, lambda: self._unconfirmed(message_id, timeout_s))

    def _unconfirmed(self, message_id: str, timeout_s: float) -> TrishulaError:
        if self._outbox.withdraw(message_id):
            return self._member.unreachable(timeout_s)
        return OutcomeUnknown(
            f"the node did not confirm the message {message_id} within {timeout_s:g} s; it may have been accepted: ask "
            f"with trishula why {message_id}, or send it again under the same id",
            message_id=message_id,
        )

    def _post(
        self, wire: dict[str, Any], done: Callable[[Receipt | TrishulaError], object], copies: int | None
    ) -> None:
        """Queue one message, or tell ``done`` at once why not."""
        # What the node would refuse as well is left to it; here is only what could not even be sent.
        if wire["id"] is None:
            wire["id"] = self.new_id()
        elif not is_message_id(wire["id"]):
            done(MessageInvalid(f"message.id is {wire['id']!r}; it must be {ID_RULE}"))
            return
        if not isinstance(wire.get("to"), str):
            done(MessageInvalid(f"message.to is {wire.get('to')!r}; it must be an address or {BROADCAST!r}"))
            return
        if self._sender is not None:
            wire.setdefault("from", self._sender)
        if self._member.end is not None:
            done(self._member.end)
            return
        try:
            size_bytes = len(_written(wire))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            done(PayloadNotJson(f"the message {wire['id']} to {wire['to']} can't be written: {error}"))
            return
        try:
            self._outbox.add(Entry(wire, done, copies=copies, size_bytes=size_bytes))
        except BusUnreachable as error:
            done(error)
            return
        if self._flushing is None:
            self._wake()

    def _wake(self) -> None:
        """Flush at the end of this turn."""
        if self._flushing is None and self._member.link is not None:
            self._flushing = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        link = self._member.link
        if link is None:
            return
        self._settling.flush(link)
        now_s = self._clock.seconds()
        while (batch := self._outbox.take(now_s)) is not None:
            self._offer(link, batch)
        due_s = self._outbox.due_s()
        if due_s is not None and (self._retrying is None or not self._retrying.active()):
            self._retrying = self._clock.callLater(max(due_s - now_s, 0.001), self._retry)

    def _retry(self) -> None:
        self._retrying = None
        self._wake()

    def _offer(self, link: Link, batch: Batch) -> None:
        args: list[Any] = [[entry.wire for entry in batch.entries]]
        if batch.copies is not None:
            args.append({"copies": batch.copies})
        link.call(uris.MAILBOX_SEND, args, timeout_s=_SEND_TIMEOUT_S).when_done(
            lambda pending: self._offered(batch, pending)
        )

    def _offered(self, batch: Batch, pending: Pending[Any]) -> None:
        error = pending.error
        now_s = self._clock.seconds()
        if error is None:
            try:
                receipts = msgspec.convert(pending.result(), list[Receipt])
            except msgspec.ValidationError as fault:
                receipts = []
                _log.error("The node's receipts can't be read: %s", fault)
            self._outbox.answered(batch, receipts, now_s)
        elif isinstance(error, PayloadNotJson):
            self._outbox.split(batch, _faults(batch, error))
        elif isinstance(error, TrishulaError):
            self._outbox.failed(batch, error, now_s)
        else:
            raise error
        if len(self._outbox):
            self._wake()

    # -- calling -------------------------------------------------------------------------------------------------------

    def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Run a procedure of an agent by a durable COMMAND, and wait for its RESULT.

        Unlike :meth:`rpc` it is on disk before it runs, and runs also if the agent comes back only later.

        Raises:
            CallFailed, RemoteError: the procedure failed.
            ProcedureUnknown, ArgumentInvalid: the agent has no such procedure, or it doesn't take these arguments.
            OutcomeUnknown: no answer within ``timeout`` seconds; ``message_id`` is the COMMAND's.
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
        """:meth:`call` with the options of :meth:`send`; with the ``id`` of an earlier call it asks for its answer."""
        if self._on_delivery is None:
            return rejected(
                ArgumentInvalid(f"{self.address} has no inbox for the answer; attach first, or use an instance")
            )
        return start(self._call(agent, procedure, list(args), dict(kwargs or {}), timeout_s, options))

    async def _call(
        self, agent: str, procedure: str, args: list[Any], kwargs: dict[str, Any], timeout_s: float, options: Any
    ) -> Any:
        message_id = options.pop("id", None) or self.new_id()
        answer = self._calls.open(message_id, agent, procedure)
        if answer.done:
            return answer.result()
        started_s = self._clock.seconds()
        news = uris.receipts_of(self.address.agent)
        if not self._member.hears(news):
            # What became of a COMMAND that will never be answered: dead, expired, cancelled.
            self.subscribe(news, self._calls.news).when_done(_log_failure)
        payload = {"args": args, "kwargs": kwargs}
        sent = self.send(agent, type="COMMAND", procedure=procedure, payload=payload, id=message_id, **options)
        sent.when_done(lambda pending: self._calls.sent(message_id, pending.error))

        def late() -> TrishulaError:
            if self._outbox.withdraw(message_id):
                return self._member.unreachable(timeout_s)
            return OutcomeUnknown(
                f"{agent} did not answer {procedure} within {timeout_s:g} s; it may have run, run now or run later: "
                f"ask with trishula why {message_id}",
                message_id=message_id,
            )

        try:
            return await self._member.within(answer, timeout_s - (self._clock.seconds() - started_s), late)
        finally:
            self._calls.done(message_id)

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
        try:
            uri = uris.procedure_of(agent, procedure)
        except ValueError as error:
            return rejected(ArgumentInvalid(str(error)))
        return start(self._rpc(uri, args, kwargs or {}, timeout_s))

    async def _rpc(self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout_s: float) -> Any:
        link, left_s = await self._member.link_within(timeout_s)
        try:
            return await link.call(uri, args, kwargs, timeout_s=left_s)
        except (LinkLost, AnswerLate) as error:
            raise OutcomeUnknown(f"{error}; it may have run or run now") from None

    def request(self, uri: str, *args: Any, timeout_s: float = 10.0) -> Pending[Any]:
        """Ask a procedure of the contract (``directory.*``, ``audit.*``, …).

        All of them may be repeated, so one that was cut off is asked again on the next session.

        Raises:
            TrishulaError: what the node answered.
            BusUnreachable: no node was there in time.
            OutcomeUnknown: a node was asked and did not answer in time.
        """
        return start(self._request(uri, args, timeout_s))

    async def _request(self, uri: str, args: Sequence[Any], timeout_s: float) -> Any:
        deadline_s = self._clock.seconds() + timeout_s
        while True:
            link, left_s = await self._member.link_within(deadline_s - self._clock.seconds())
            try:
                return await link.call(uri, args, timeout_s=left_s)
            except AnswerLate as error:
                raise OutcomeUnknown(f"{error}; ask again") from None
            except LinkLost as error:
                if self._clock.seconds() >= deadline_s:
                    raise OutcomeUnknown(f"{error}; ask again") from None
                if self._member.link is link:
                    # Its loss has not been told yet; without this we would spin.
                    await self._member.sleep(0.01)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def attach(
        self,
        on_delivery: Callable[[list[Delivery]], object],
        *,
        capabilities: Iterable[str] = (),
        window: int = DEFAULT_WINDOW,
        heartbeat_s: float = DEFAULT_HEARTBEAT_S,
    ) -> Pending[Attached | None]:
        """Take deliveries: the node pushes up to ``window`` that are not acknowledged.

        Answers to our own calls are not among them. ``on_delivery`` gets a list and must not raise. It holds for every
        later session as well. Before the first session there is nothing to wait for: the outcome is ``None`` at once.
        """
        self._on_delivery = on_delivery
        return self._member.attach(Attachment(self._inbox_event, tuple(capabilities), window, heartbeat_s))

    def _inbox_event(self, raw: object = None, *_: object) -> None:
        deliveries, unreadable = read_deliveries(raw)
        for fault in unreadable:
            _log.error("A delivery can't be read and is refused: %s", fault.reason)
            if fault.token:
                self.nack_soon(fault.token, f"the receiver can't read it: {fault.reason}", requeue=False)
        calls = self._calls
        if calls.is_busy:
            others = []
            for delivery in deliveries:
                if calls.answered(delivery.message):
                    self._settling.ack(delivery.token)
                else:
                    others.append(delivery)
            deliveries = others
        if deliveries and self._on_delivery is not None:
            self._on_delivery(deliveries)

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
        """Give back, for another attempt or (``requeue=False``) to the dead letters; errors as :meth:`ack`."""
        return self._settling.nack_all(tokens, reason, requeue)

    def working(self, token: str, for_s: float) -> Pending[Any]:
        """Extend the lease of a long job to ``for_s`` from now."""
        link = self._member.link
        if link is None:
            return rejected(BusUnreachable("the session that the token belongs to is gone"))
        return link.call(uris.MAILBOX_WORKING, [token, for_s], timeout_s=10.0)

    async def fetch(self, *, max: int = 64, wait_s: float = 0.0, instance: str | None = None) -> Fetched:
        """Pull messages instead of being pushed them; the agent's own mailbox without an ``instance``.

        Raises:
            MailboxBusy: a running agent is being pushed them.
        """
        details: dict[str, Any] = {"max": max, "wait_s": wait_s}
        if instance is not None:
            details["instance"] = instance
        raw = await self.request(uris.MAILBOX_FETCH, details, timeout_s=wait_s + _FETCH_GRACE_S)
        fields: dict[str, Any] = raw if isinstance(raw, dict) else {}
        deliveries, unreadable = read_deliveries(fields.get("deliveries"))
        for fault in unreadable:
            _log.error("A delivery can't be read and is refused: %s", fault.reason)
            self.nack_soon(fault.token, f"the receiver can't read it: {fault.reason}", requeue=False)
        return msgspec.convert({**fields, "deliveries": deliveries}, Fetched)

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
        """Publish on our own topic of that name; live only, and resolved when the router has it."""
        return start(self._publish(uris.topic_of(self.address.agent, topic_name), args))

    async def _publish(self, topic: str, args: Sequence[Any]) -> None:
        link, _ = await self._member.link_within(10.0)
        await link.publish(topic, args)

    def register(self, procedure: str, endpoint: Endpoint) -> Pending[None]:
        """Offer a procedure for live RPC, on every session from now on.

        Raises:
            ValueError: it can't have that name.
        """
        return self._member.register(uris.procedure_of(self.address.agent, procedure), endpoint)


class _Group:
    """The outcomes of :meth:`Client.send_many`, until the last one is there."""

    __slots__ = ("left", "outcome", "outcomes")

    def __init__(self, count: int, outcome: Pending[list[Receipt | TrishulaError]]) -> None:
        self.left = count
        self.outcome = outcome
        self.outcomes: list[Any] = [None] * count


class _Slot:
    """Where one outcome of a group goes."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: _Group, index: int) -> None:
        self._group = group
        self._index = index

    @property
    def is_open(self) -> bool:
        """Whether its outcome is not there yet."""
        return self._group.outcomes[self._index] is None

    def __call__(self, outcome: Receipt | TrishulaError) -> None:
        group = self._group
        if group.outcomes[self._index] is not None:
            # It was given up before.
            return
        group.outcomes[self._index] = outcome
        group.left -= 1
        if group.left == 0:
            group.outcome.resolve(group.outcomes)


def _faults(batch: Batch, error: PayloadNotJson) -> dict[str, TrishulaError]:
    """Which messages of a call that could not be written are at fault; all, if none can be told apart."""
    faults: dict[str, TrishulaError] = {}
    for entry in batch.entries:
        try:
            encode_payload(entry.wire, path=f"message {entry.id}", limit_bytes=2**63)
        except PayloadNotJson as fault:
            faults[entry.id] = fault
    return faults or {entry.id: error for entry in batch.entries}


def _log_failure(pending: Pending[Any]) -> None:
    if pending.error is not None and not isinstance(pending.error, LinkLost):
        _log.error("%s", pending.error)


class _Late(Exception):
    """The time is over; never seen outside of this module."""


def _ended(pending: Pending[Any]) -> Pending[None]:
    """That there is an outcome, whatever it is."""
    ended: Pending[None] = Pending()
    pending.when_done(lambda _: ended.resolve(None))
    return ended
