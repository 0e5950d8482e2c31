"""The verbs that every member of the bus has, in one vocabulary: those of an agent and of a client.

:class:`trishula.agent.Agent` and :class:`trishula.client.Client` have them as they stand here, and return awaitables.
:class:`trishula.async_client.AsyncClient` has the same as coroutines, :class:`trishula.sync.Bus` has the same and
waits; both are documented here. Every ``timeout`` is in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

from trishula.attachments import verbs as attachments
from trishula.contract import uris
from trishula.contract.addresses import BROADCAST
from trishula.contract.answers import AgentInfo, MessageHistory, MessageStatus, agents_in, history_in, states_in
from trishula.contract.message import MailType, Message
from trishula.contract.receipts import Receipt
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending, start
from trishula.send_options import CallOptions, SendOptions
from trishula.vocabulary import renamed
from trishula.work_lease import WorkLease

__all__ = ["Presence", "Verbs"]

T = TypeVar("T")

Presence = Literal["online", "busy", "stale", "offline"]


class Verbs:
    """See the module's docstring."""

    def _beneath(self) -> Engine:
        """What carries them out."""
        raise NotImplementedError

    # -- messages ------------------------------------------------------------------------------------------------------

    def send(
        self,
        to: str,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Pending[Receipt]:
        """Send a message; its receipt says that it is on disk.

        A message of an agent or a client is on its way also if nobody awaits its receipt. Messages of one turn travel
        in one call.

        Args:
            to: an agent, one instance of it (``agni/7f3a``), ``capability:…``, or ``broadcast``.
            type: COMMAND, STATUS, RESULT or ERROR.
            payload: any JSON value (:mod:`trishula.contract.payload` has the rule); it is read now, and what is changed
                in it afterwards doesn't travel.
            timeout: how long to wait for the receipt, in seconds; a message that no node has by then is withdrawn.
                Without it an agent's or a client's message waits for a node as long as it takes; a script waits as long
                as :func:`trishula.connect` or :class:`trishula.AsyncClient` was told to.
            id: chosen if absent; sending again with the same id is safe, also from another process of this agent:
                what is equal is a ``duplicate``, anything else is refused as :class:`~trishula.errors.IdReused`.
            priority: 1 (most urgent) to 5; 3 if absent.
            copies: on how many nodes it must be on disk before the receipt. Without it: on both where there are two
                and they see each other, else on one; the receipt says it. 1: don't wait for the second node. 2: only
                with a second node; while there is none the message waits. After a receipt of fewer than two the
                outbox keeps a message that was sent with this option, and offers it to the other node as well.
            reply_to, procedure, subject, ttl_ms, deadline_at, traceparent: see
                :class:`trishula.contract.message.Message`.
            encrypt: have only the recipient read the payload (:mod:`trishula.contract.encrypted`): whose key must be
                known here, and ours there. All else stays readable. Not to ``broadcast`` or ``capability:…``. A call
                takes an answer only if that is encrypted as well, or an ERROR that is signed.
            on_refused: told each time that a node refuses it for now; it waits, and is offered again.
            attachment: the path of a file of up to 1 GiB that goes with it; the payload is a map then, or nothing. The
                file is on the node's disk before the message is sent, so that messages that are sent meanwhile overtake
                it, and it isn't in the outbox before that: after the end of this process send it again, which goes on
                where it broke off. ``timeout`` begins when the file is there; the file may take as long as it gets on.
            on_progress: told how many bytes of the file are there, of how many; in the loop.

        Raises:
            ArgumentInvalid: it can't be encrypted, or its attachment can't be sent.
            AttachmentsOff, AttachmentTooLarge, AttachmentsFull: the node doesn't take the attachment.
            MessageInvalid, PayloadNotJson, PayloadTooLarge: it is neither stored nor sent.
            MessageSetAside: it can't be sent without the session's end.
            TrishulaError: the node's refusal; of one for now the latest, if there was no other answer in time.
            BusUnreachable: no node was there in time; it was not sent, and will not be.
            OutcomeUnknown: a node may have it; send it again under the same id, or ask for it.
        """
        engine = self._beneath()
        given: dict[str, Any] = {**options}
        attachment, progress = given.pop("attachment", None), given.pop("on_progress", None)
        if attachment is not None:
            return start(
                attachments.send(
                    engine,
                    to,
                    attachment,
                    type=type,
                    payload=payload,
                    timeout_s=timeout,
                    progress=progress,
                    options=given,
                )
            )
        if timeout is None:
            return engine.send(to, type=type, payload=payload, **given)
        message_id = given.get("id")
        if message_id is None:
            message_id = given["id"] = engine.sending.new_id()
        return start(engine.confirmed(engine.send(to, type=type, payload=payload, **given), message_id, timeout))

    def save_attachment(
        self,
        message: Message | str,
        to: str | os.PathLike[str],
        *,
        sender: str | None = None,
        replace: bool = False,
        timeout: float = attachments.PATIENCE_S,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Pending[Path]:
        """Fetch the file that is attached to a message, check it by its digest, and put it somewhere; where it is then.

        What was fetched before the connection broke, or this process ended, is gone on with. The node has the file as
        long as it keeps the message: while that isn't settled, and for ``retention.bodies`` after that.

        Args:
            message: the message, or its id.
            to: a path, or a directory; in that it gets a safe name that is made of what its sender called it.
            sender: of an id: the agent that sent the message; our own if absent.
            replace: whether a file that is there may be replaced.
            timeout: for how many seconds nothing may get on.
            on_progress: told how many bytes are here, of how many; in the loop.

        Raises:
            ArgumentInvalid: the message has no attachment, or the file can't be put there.
            AttachmentUnknown: the node has none of that message, or none for us; another node may have it.
            AttachmentDamaged: it is not what its digest says.
            AttachmentsOff: the node has none at all.
            BusUnreachable, OutcomeUnknown: it got no further for ``timeout`` seconds.
        """
        saved = attachments.save(
            self._beneath(), message, to, sender=sender, timeout_s=timeout, replace=replace, progress=on_progress
        )
        return start(saved)

    def broadcast(
        self,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Pending[Receipt]:
        """Send to every registered agent but our own; arguments and errors as :meth:`send`."""
        return self.send(BROADCAST, type=type, payload=payload, timeout=timeout, **options)

    @renamed(timeout_s="timeout")
    def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, copies: int | None = None, timeout: float | None = None
    ) -> Pending[list[Receipt]]:
        """Send many messages at once, with one outcome for all: the receipts, in order.

        The rule is that of :meth:`send`: whatever is not accepted raises. Each message is sent by itself, so one that
        is refused doesn't keep its neighbours back; when all outcomes are there and there is an error among them,
        :class:`~trishula.errors.NotAllSent` is raised.

        Args:
            messages: maps as they travel (the wire contract's message): ``to``, and what else is wanted; as with
                :meth:`send` the ``type`` is STATUS, ``id`` and ``timestamp`` are set where they are absent.
            copies: on how many nodes they must be on disk before the receipt.
            timeout: in seconds; after it, what has no receipt gets :class:`~trishula.errors.BusUnreachable` if it was
                not sent (it is withdrawn then), else :class:`~trishula.errors.OutcomeUnknown`.

        Raises:
            NotAllSent: some have no receipt; its ``outcomes`` has each one's receipt or error, in order.
            MessageInvalid: one of them is no map; nothing was sent.
        """
        return self._beneath().sending.post_many(messages, copies, timeout)

    @renamed(timeout_s="timeout")
    def cancel(self, *ids: str, timeout: float = 10.0) -> Pending[list[bool]]:
        """Cancel messages that our agent sent: for each, whether it is cancelled now, and was not over before.

        Whoever has it is told, and a call that waits for it ends with
        :class:`~trishula.errors.MessageCancelled`. Errors as :meth:`request`.
        """
        return self.request(uris.MAILBOX_CANCEL, list(ids), timeout=timeout)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Run a procedure of an agent by a durable COMMAND, and wait for its RESULT.

        Unlike :meth:`rpc` it is on disk before it runs. An agent that is away runs it if it comes back within
        ``timeout`` and 30 s more: then it expires, and nothing runs that nobody waits for. ``ttl_ms`` or
        ``deadline_at`` (see :meth:`call_with`) say otherwise.

        Args:
            agent: an agent, one instance of it, or ``capability:…``; not ``broadcast``, which nobody can answer.
            procedure: its name; the arguments behind it are the procedure's.
            timeout: how long to wait for the answer, in seconds.

        Raises:
            ArgumentInvalid: also if ``agent`` is nobody who could be called.
            CallFailed, RemoteError: the procedure failed.
            ProcedureUnknown, ArgumentInvalid: the agent has no such procedure, or it doesn't take these arguments.
            OutcomeUnknown: no answer within ``timeout`` seconds; ``message_id`` is the COMMAND's.
            MessageCancelled: somebody has cancelled it, under our agent's name.
            BusUnreachable: no node was there in time; nothing was sent, and nothing will run.
        """
        return self.call_with(agent, procedure, args, kwargs, timeout=timeout)

    @renamed(timeout_s="timeout")
    def call_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Pending[Any]:
        """:meth:`call` with the procedure's arguments as they are, and with the options of :meth:`send`.

        With the ``id`` of an earlier call, of whichever process of this agent, it asks for its answer: nothing runs
        twice. Without ``ttl_ms`` and ``deadline_at`` the COMMAND lives as long as its caller waits, and 30 s more.
        ``on_warning`` is told at once if the receipt says that the COMMAND is likely to wait.
        """
        return self._beneath().asking.call(agent, procedure, args, kwargs, timeout, dict(options))

    def rpc(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Call an agent's procedure live: nothing is stored, and it must be connected now.

        Raises:
            CallFailed, RemoteError, ArgumentInvalid: the procedure failed.
            ProcedureUnknown: the agent is not connected, or has no such procedure.
            OutcomeUnknown: it was asked, and no answer came within ``timeout`` seconds or before the connection went.
            BusUnreachable: no node was there in time; nobody was asked.
        """
        return self.rpc_with(agent, procedure, args, kwargs, timeout=timeout)

    @renamed(timeout_s="timeout")
    def rpc_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
    ) -> Pending[Any]:
        """:meth:`rpc` with the arguments as they are, also one that is called ``timeout``."""
        return self._beneath().asking.rpc(agent, procedure, args, kwargs, timeout)

    # -- questions to the node -----------------------------------------------------------------------------------------

    @renamed(timeout_s="timeout")
    def request(self, uri: str, *args: Any, timeout: float = 10.0) -> Pending[Any]:
        """Ask a procedure of the contract (``directory.*``, ``audit.*``, …), and get its answer as it travels.

        :mod:`trishula.contract.uris` has the URIs. All of them may be repeated, so one that was cut off is asked again
        on the next session.

        Raises:
            TrishulaError: what the node answered.
            BusUnreachable: no node was there in time.
            OutcomeUnknown: a node was asked and did not answer in time.
        """
        return self._beneath().asking.request(uri, *args, timeout_s=timeout)

    def agents(self, *, timeout: float = 10.0) -> Pending[list[AgentInfo]]:
        """All registered agents, by name: who is there, where, and what they can do. Errors as :meth:`request`."""
        return self._told(agents_in, timeout, uris.DIRECTORY_LIST)

    def find(
        self, capability: str | None = None, *, presence: Presence | None = None, timeout: float = 10.0
    ) -> Pending[list[AgentInfo]]:
        """The agents that can do something, by name; errors as :meth:`request`.

        Args:
            capability: what they announced; whatever they announced if absent.
            presence: ``online``, ``busy``, ``stale`` or ``offline``; whichever if absent.
            timeout: how long to wait for the node, in seconds.
        """
        wanted = {"capability": capability, "presence": presence}
        options = {key: value for key, value in wanted.items() if value is not None}
        return self._told(agents_in, timeout, uris.DIRECTORY_FIND, options)

    def status(self, *ids: str, timeout: float = 10.0) -> Pending[dict[str, MessageStatus]]:
        """Where messages stand that our agent sent or received, by id; errors as :meth:`request`.

        Ids that it has nothing to do with are not in the answer.
        """
        return self._told(states_in, timeout, uris.MAILBOX_STATUS, list(ids))

    def why(self, message_id: str, *, sender: str | None = None, timeout: float = 10.0) -> Pending[MessageHistory]:
        """The whole life of a message that our agent sent or received; errors as :meth:`request`.

        Args:
            message_id: its id.
            sender: whose message, if several senders used the id.
            timeout: how long to wait for the node, in seconds.

        Raises:
            MessageUnknown: there is none, or none that our agent may know of.
        """
        more = [] if sender is None else [{"from": sender}]
        return self._told(history_in, timeout, uris.AUDIT_WHY, message_id, *more)

    # -- work leases -------------------------------------------------------------------------------------------------

    def lease(
        self,
        scope: str,
        *,
        shared: bool = False,
        ttl: float = 120.0,
        timeout: float | None = None,
        note: str = "",
        sure: bool = False,
        take_over: bool = False,
    ) -> WorkLease:
        """Work on something while nobody else does: ``async with agent.lease("path:src/**") as lease:``.

        Entering waits for it, and leaving gives it back; :class:`trishula.work_lease.WorkLease` has the errors, and
        the fencing token as ``lease.fence``.

        Args:
            scope: ``task:NAME``, ``role:NAME``, ``path:PATTERN`` or ``path:TREE:PATTERN``; see
                :mod:`trishula.contract.scopes`.
            shared: whether others may share it who say so too.
            ttl: for how many seconds it stays when our agent has no session any more.
            timeout: how long to wait for it, in seconds; as long as it takes if absent.
            note: what for, in one line that others see.
            sure: whether a lease that not all linked nodes have confirmed is none.
            take_over: whether to end leases in its way whose node can't be reached.
        """
        engine = self._beneath()
        return WorkLease(
            self.request,
            scope,
            shared=shared,
            ttl=ttl,
            timeout=timeout,
            note=note,
            sure=sure,
            take_over=take_over,
            use=engine.sending.new_id(),
            seconds=engine.clock.seconds,
        )

    def _told(self, read: Callable[[object], T], timeout: float, uri: str, *args: Any) -> Pending[T]:
        async def asked() -> T:
            return read(await self.request(uri, *args, timeout=timeout))

        return start(asked())

    # -- live topics ---------------------------------------------------------------------------------------------------

    def publish(self, topic_name: str, *args: Any) -> Pending[None]:
        """Publish on our own agent's topic of that name; live only, and done when the router has it.

        Any agent may hear it: ``subscribe(topic_name, on_event, of="agni")``. It says nothing about who did.

        Args:
            topic_name: words with dots between them, such as ``celsius``.
            args: any JSON values; subscribers get them as arguments.

        Raises:
            PayloadNotJson, PayloadTooLarge: the arguments can't travel (:mod:`trishula.contract.payload`,
                :mod:`trishula.contract.limits`).
        """
        return self._beneath().live.publish(topic_name, *args)
