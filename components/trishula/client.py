"""The client: one member of the bus, in the reactor's thread, for tools that take deliveries as they come.

It has the verbs of :class:`trishula.verbs.Verbs`, and takes messages by being pushed them (:meth:`Client.attach`) or
by :meth:`Client.fetch`. An agent has handlers instead (:class:`trishula.agent.Agent`); a script waits
(:func:`trishula.connect`), an asyncio program awaits (:class:`trishula.AsyncClient`). What joins, rejoins, sends and
asks is the engine beneath (:mod:`trishula.messaging.engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trishula.consumer.messages import Messages
from trishula.contract.addresses import Address
from trishula.contract.deliveries import Delivery, Fetched
from trishula.contract.message import Message
from trishula.contract.receipts import Receipt
from trishula.contract.uris import topic_named
from trishula.errors import TrishulaError
from trishula.messaging.engine import DEFAULT_HEARTBEAT_S, DEFAULT_WINDOW, Engine
from trishula.messaging.entries import Limits
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Surroundings
from trishula.session.attachment import Attached, Observer
from trishula.session.heartbeat import Activity, Heartbeat
from trishula.session.transport import Connection, Endpoint
from trishula.settings import Settings
from trishula.verbs import Verbs
from trishula.vocabulary import renamed

__all__ = ["DEFAULT_HEARTBEAT_S", "DEFAULT_WINDOW", "Client"]


class Client(Verbs):
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
        self._engine = Engine(
            settings, instance=instance, around=around, connection=connection, limits=limits, observer=observer
        )

    @classmethod
    def _of(cls, engine: Engine) -> Client:
        """The client of an engine that somebody else has made: an agent."""
        client = cls.__new__(cls)
        client._engine = engine
        return client

    def _beneath(self) -> Engine:
        return self._engine

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Who we are: our messages are from there, and answers come there."""
        return self._engine.address

    @property
    def settings(self) -> Settings:
        """Where the bus is and who we are."""
        return self._engine.settings

    @property
    def is_ready(self) -> bool:
        """Whether there is a session on which everything is set up."""
        return self._engine.is_ready

    @property
    def end(self) -> TrishulaError | None:
        """Why there will be no session any more: it left, was refused or was taken over; ``None`` before that."""
        return self._engine.end

    @property
    def url(self) -> str | None:
        """The URL of the node it is joined to now."""
        return self._engine.url

    @property
    def node(self) -> str | None:
        """The name of the node that we take deliveries from."""
        return self._engine.node

    @property
    def attached(self) -> Attached | None:
        """What the node answered to our attach on this session."""
        return self._engine.member.attached

    @property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat, with its estimate of the clocks' offset."""
        return self._engine.member.heartbeat

    @property
    def activity(self) -> Activity:
        """What is told with each beat."""
        return self._engine.member.activity

    @property
    def unconfirmed(self) -> int:
        """How many messages have no receipt yet."""
        return len(self._engine.sending)

    def new_id(self) -> str:
        """A new message id."""
        return self._engine.sending.new_id()

    @renamed(timeout_s="timeout")
    async def start(self, timeout: float | None = None) -> None:
        """Join; returns when everything is set up.

        Raises:
            TokenInvalid, TokenMissing: the node refuses us; trying again would not help.
            BusUnreachable: no node let us in within ``timeout`` seconds; the client has stopped trying.
            TrishulaError: neither an asyncio loop nor a reactor runs, so that it would wait for ever.
        """
        await self._engine.start(timeout)

    async def stop(self) -> None:
        """Leave cleanly. What has no receipt fails: as unknown where a node may have it, else as not sent."""
        await self._engine.stop()

    @renamed(timeout_s="timeout")
    async def drained(self, timeout: float) -> bool:
        """Wait until every message has its receipt and every ack its answer; whether that came within ``timeout``."""
        return await self._engine.drained(timeout)

    def forward(
        self, message: Mapping[str, Any], *, on_refused: Callable[[TrishulaError], object] | None = None
    ) -> Pending[Receipt]:
        """Send a message as it stands, by its map: one that came to us by another road, with a timestamp of its own.

        Args:
            message: as it travels (the wire contract's message), without what the node sets.
            on_refused: told each time that a node refuses it for now; it waits, and is offered again.

        Raises:
            TrishulaError: as :meth:`send`.
        """
        pending: Pending[Receipt] = Pending()
        self._engine.sending.post(dict(message), pending.settle, held=on_refused)
        return pending

    # -- taking messages -----------------------------------------------------------------------------------------------

    def attach(
        self,
        on_delivery: Callable[[list[Delivery]], object],
        *,
        capabilities: Iterable[str] = (),
        window: int = DEFAULT_WINDOW,
        heartbeat_s: float = DEFAULT_HEARTBEAT_S,
        on_cancelled: Callable[[str, str], object] | None = None,
    ) -> Pending[Attached | None]:
        """Take deliveries: the node pushes up to ``window`` that are not acknowledged, a sixteenth only if urgent.

        Answers to our own calls are not among them. ``on_delivery`` gets a list and must not raise. It holds for every
        later session as well. Before the first session there is nothing to wait for: the outcome is ``None`` at once.
        ``on_cancelled`` is told of what was delivered and is cancelled by its sender since: its ``from`` and its id.
        """
        return self._engine.attach(
            on_delivery, capabilities=capabilities, window=window, heartbeat_s=heartbeat_s, on_cancelled=on_cancelled
        )

    async def fetch(self, *, max: int = 64, wait_s: float = 0.0, instance: str | None = None) -> Fetched:
        """Take messages: the agent's own mailbox, or with an ``instance`` what came to that address.

        A client that fetches doesn't go back to a better node by itself. If it loses its node, the tokens that it has
        are answered ``False`` by the next one, and their messages come again.

        Args:
            max: how many at most.
            wait_s: how long to wait for the first one if there is none, in seconds.
            instance: ours, for what came to this very address.

        Raises:
            MailboxBusy: a running agent is being pushed them.
            BusUnreachable, OutcomeUnknown: no node says what there is.
        """
        engine = self._engine
        return await engine.receiving.fetch(engine.asking.request, max, wait_s, instance)

    def messages(self, *, wait_s: float | None = None, instance: str | None = None) -> Messages:
        """The messages of a mailbox, one after the other: ``for message in bus.messages():``.

        A message is done when the loop asks for the next one. Whoever leaves the loop before, by an exception or by
        ``break``, gives it back, and it comes again after a pause; ``messages.ack()`` before a ``break`` says that it
        is done all the same. ``messages.nack(reason)`` gives one back and goes on. A body that takes longer than a
        minute says so: ``bus.working(messages.delivery.token, 600)``. In an asyncio program: ``async for``.

        Args:
            wait_s: how long to wait for a message before the iteration ends, in seconds: 0 for what is there now,
                without it for ever, also while no node is there.
            instance: ours, for what came to this very address.

        Raises:
            MailboxBusy: a running agent is being pushed them.
            BusUnreachable, OutcomeUnknown: no node says what there is, and ``wait_s`` is given.
        """
        return Messages(self._engine, lambda left_s: self.fetch(max=1, wait_s=left_s, instance=instance), wait_s)

    def beat(self, heartbeat_s: float = DEFAULT_HEARTBEAT_S) -> None:
        """Tell the directory that the agent lives, on every later session, though nothing is pushed to us.

        For an agent that fetches; said before the start. One that attaches beats anyway.
        """
        self._engine.member.beats_s = heartbeat_s

    def ack_soon(self, token: str) -> None:
        """Acknowledge at the end of this turn, and wait for nothing; a lost ack only means one more delivery."""
        self._engine.settling.ack(token)

    def nack_soon(self, token: str, reason: str, *, requeue: bool) -> None:
        """Give back at the end of this turn, and wait for nothing."""
        self._engine.settling.nack(token, reason, requeue)

    def ack(self, tokens: Sequence[str]) -> Pending[list[bool]]:
        """Acknowledge: for each token, whether its message is done now.

        Raises:
            BusUnreachable: the session went before the answer came. The tokens were that session's; what was not
                acknowledged is delivered again.
        """
        return self._engine.settling.ack_all(tokens)

    def nack(self, tokens: Sequence[str], reason: str, *, requeue: bool = True) -> Pending[list[bool]]:
        """Give back, for another attempt or (``requeue=False``) to the dead letters; errors as :meth:`ack`.

        Raises:
            ArgumentInvalid: the reason is none.
        """
        return self._engine.settling.nack_all(tokens, reason, requeue)

    def surfaced(self, tokens: Sequence[str]) -> Pending[list[bool]]:
        """Say that messages were put into a model's context: for each token, whether that is on record now.

        Say it when the model has them: when its own tool call returned them, or a hook has printed them to it and the
        print is flushed; never because the model was woken. The first time counts, and the message goes on as before:
        ack it when it is done. ``trishula why`` and the sender's status tell it then. A node of the release before
        keeps no such record: that is logged once, and the answers are ``False``.

        Raises:
            BusUnreachable: the session went before the answer came; what comes again is to be said again.
        """
        return self._engine.settling.surfaced(tokens)

    def declare_model(self) -> None:
        """Say that a model reads what comes here, on this session and on each later one.

        Where the node has ``delivery.surface_within``, what is delivered here and is not :meth:`surfaced` by then is
        told as unread: to its sender, to operators, and in ``trishula why``. The first :meth:`surfaced` says it too.
        """
        self._engine.settling.declare_model()

    def working(self, token: str, for_s: float) -> Pending[Any]:
        """Extend the lease of a long job to ``for_s`` seconds from now; the word has left this process on return."""
        return self._engine.working(token, for_s)

    def verified(self, message: Message, signature: str | None) -> Message | None:
        """A message that a node was asked for, with what came of its signature; ``None`` if it must not be taken.

        What is delivered and fetched has been looked at already.
        """
        return self._engine.receiving.answer(message, signature)

    # -- live topics and procedures ------------------------------------------------------------------------------------

    def subscribe(self, topic: str, on_event: Callable[..., object], *, of: str | None = None) -> Pending[None]:
        """Receive what is published on a topic, as arguments: our own agent's topic, another's, or the node's events.

        Live only: nothing is stored, and what happens while there is no session is missed. Who publishes doesn't hear
        it itself. One handler a topic. It is plain or ``async def``; what it raises is logged.

        Args:
            topic: the name that the topic has in ``publish``; or a URI, such as
                :data:`trishula.contract.uris.EVENT_AGENT`, the comings and goings of agents.
            on_event: gets the published arguments.
            of: whose topic it is; our own agent's if absent.

        Raises:
            ValueError: there can be no such topic.
            NotAllowed: the node doesn't let us hear it.
        """
        uri = topic_named(topic, of, self.address.agent)
        return self._engine.live.subscribe(uri, on_event)

    def register(self, procedure: str, endpoint: Endpoint) -> Pending[None]:
        """Offer a procedure for live RPC, on every session from now on.

        A result that can't travel is an error to its caller: the frame would end this session.

        Raises:
            ValueError: it can't have that name.
        """
        return self._engine.live.register(procedure, endpoint)
