"""The bus for scripts: the verbs of :class:`~trishula.async_client.AsyncClient`, each of which waits for its outcome.

::

    import trishula

    with trishula.connect() as bus:                      # TRISHULA_URL, TRISHULA_TOKEN or a profile file
        print(bus.call("agni", "host_report", timeout=10))
        bus.send("rushabdev", type="STATUS", payload={"release": "2.1"})
        for message in bus.messages(wait_s=0):           # what is in the agent's own mailbox
            print(message.sender, message.payload)

A script is an *instance* of its agent: its address is ``agni/7f3a…``, so that answers to its calls come to a mailbox of
its own and not to a running agent's. ``fetch`` without an instance takes from the agent's mailbox all the same;
:class:`~trishula.errors.MailboxBusy` says that a running agent is being pushed them.

The reactor runs in a thread of its own (crochet); every method may be called from any other thread. A process has one
reactor: in a process that runs an agent already, this uses the agent's. A bus belongs to the process that joined with
it: after ``fork`` every verb in the child says so at once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

import crochet
from twisted.internet.defer import Deferred
from twisted.python import threadable

from trishula.async_client import AsyncClient, Onlooker
from trishula.attachments.verbs import PATIENCE_S
from trishula.client import Client
from trishula.consumer.messages import SyncMessages
from trishula.consumer.unfetched import ASK_TIMEOUT_S
from trishula.contract.addresses import BROADCAST, Address
from trishula.contract.answers import AgentInfo, MessageHistory, MessageStatus
from trishula.contract.deliveries import Fetched
from trishula.contract.message import MailType, Message
from trishula.contract.receipts import Receipt
from trishula.errors import OutcomeUnknown, TrishulaError
from trishula.key_settings import GivenKeys
from trishula.runtime.forks import check_process, check_reactor
from trishula.runtime.surroundings import use_monotonic_timers
from trishula.send_options import CallOptions, SendOptions
from trishula.verbs import Presence, Verbs
from trishula.vocabulary import documented_by, renamed
from trishula.work_lease import BlockingLease

__all__ = ["Bus", "connect", "look"]

T = TypeVar("T")

#: Every verb has a time limit of its own; the thread that waits for it gives it so much more.
_SLACK_S = 30.0
#: Three years: what a thread can be told to wait.
_FOR_EVER_S = 1e8


def connect(
    url: str | Sequence[str] | None = None,
    agent: str | None = None,
    token: str | None = None,
    *,
    profile: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
    timeout: float = 10.0,
    **keys: Unpack[GivenKeys],
) -> Bus:
    """Join the bus.

    Args:
        url, agent, token, profile, ca_file, proxy: as for :func:`trishula.settings.load`.
        timeout: how long to try, and how long ``send`` waits for its receipt, in seconds.
        keys: ``key_file``, ``trusted_keys`` and ``require_signature``, as for :func:`trishula.settings.load`.

    Raises:
        SettingsInvalid, TokenMissing: the settings are wrong.
        TokenInvalid: the node refuses the token.
        BusUnreachable: no node could be joined in time.
    """
    _start_reactor()
    client = AsyncClient(url, agent, token, profile=profile, ca_file=ca_file, proxy=proxy, timeout=timeout, **keys)
    bus = Bus(client, timeout)
    bus.start()
    return bus


def look(*, url: str | None = None, profile: str | None = None, timeout: float = 10.0) -> Bus:
    """Join to look only, with what an observer may do: ask the node. Nothing is sent, called or fetched on this bus.

    Arguments and errors are as for :func:`connect`.
    """
    _start_reactor()
    bus = Bus(Onlooker(url, profile=profile, timeout=timeout), timeout)
    bus.start()
    return bus


def _start_reactor() -> None:
    global _reactor_pid
    with _lock:
        if _reactor_pid is not None:
            check_process(_reactor_pid)
            return
        # Imported by name: asking for the module would install a reactor.
        installed = sys.modules.get("twisted.internet.reactor")
        if installed is not None and installed.running:
            # An agent's, or an application's: it is driven there, and we only hand work over to it.
            check_reactor()
            crochet.no_setup()
        else:
            # Late, as above.
            from twisted.internet import reactor

            use_monotonic_timers(reactor, time.monotonic)
            crochet.setup()
        _reactor_pid = os.getpid()


#: A process has one reactor, and crochet is set up once: the process in which that was done.
_reactor_pid: int | None = None
_lock = threading.Lock()


class Bus:
    """The verbs of :class:`~trishula.async_client.AsyncClient`, each of which waits; made by :func:`connect`."""

    def __init__(self, client: AsyncClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._pid = os.getpid()

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Who this script is: its messages are from there, and answers come there."""
        return self._client.address

    @property
    def url(self) -> str | None:
        """The URL of the node it is joined to now."""
        return self._client.url

    def start(self) -> None:
        """Join; :func:`connect` has done it."""
        self._wait(self._timeout_s, self._client.start)

    def close(self) -> None:
        """Leave, after the last acks: one is always on its way when a call has just been answered.

        In a process that was forked since there is nothing to leave: the session is the parent's.
        """
        if os.getpid() == self._pid:
            self._wait(self._timeout_s, self._client.stop)

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wait(self, timeout_s: float, verb: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **options: Any) -> T:
        """Run a coroutine in the reactor's thread and wait for it."""
        check_process(self._pid)
        if threadable.isInIOThread():  # type: ignore[no-untyped-call]
            raise TrishulaError(
                "this thread runs the reactor, which would wait for itself: a handler uses the verbs of its agent "
                "(await agent.call(…)) or is declared with thread=True, and other code writes "
                '"async with trishula.AsyncClient() as bus:"'
            )
        is_awaited = True

        async def run() -> T | None:
            try:
                return await verb(*args, **options)
            except TrishulaError:
                if is_awaited:
                    raise
                return None

        # Crochet is untyped: what it returns waits for the Deferred.
        begin: Any = crochet.run_in_reactor(lambda: Deferred.fromCoroutine(run()))
        try:
            outcome: T = begin().wait(timeout=timeout_s + _SLACK_S)
        except crochet.TimeoutError:
            raise OutcomeUnknown("the reactor's thread did not answer: is it blocked by a handler?") from None
        except BaseException:
            # Ctrl-C: an error that comes after it, as of what was under way when we leave, is nobody's.
            is_awaited = False
            raise
        return outcome

    def _soon(self, do: Callable[[], None]) -> None:
        """Have something done in the reactor's thread, and don't wait: from any thread, and while an object goes."""
        if os.getpid() == self._pid:
            # Late, as above.
            from twisted.internet import reactor

            reactor.callFromThread(do)

    # -- verbs ---------------------------------------------------------------------------------------------------------

    @documented_by(Verbs.send)
    def send(
        self,
        to: str,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt:
        # Without a limit the client has its own, which is ours.
        limit_s = self._timeout_s if timeout is None else timeout
        if options.get("attachment") is not None:
            # It may take as long as it gets on.
            limit_s = _FOR_EVER_S
        return self._wait(limit_s, self._client.send, to, type=type, payload=payload, timeout=timeout, **options)

    @documented_by(Verbs.save_attachment)
    def save_attachment(
        self,
        message: Message | str,
        to: str | os.PathLike[str],
        *,
        sender: str | None = None,
        replace: bool = False,
        timeout: float = PATIENCE_S,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Path:
        verb = self._client.save_attachment
        options: dict[str, Any] = {"sender": sender, "replace": replace, "timeout": timeout, "on_progress": on_progress}
        return self._wait(_FOR_EVER_S, verb, message, to, **options)

    @documented_by(Verbs.broadcast)
    def broadcast(
        self,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt:
        return self.send(BROADCAST, type=type, payload=payload, timeout=timeout, **options)

    @documented_by(Verbs.send_many)
    def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, copies: int | None = None, timeout: float | None = None
    ) -> list[Receipt]:
        limit_s = self._timeout_s if timeout is None else timeout
        return self._wait(limit_s, self._client.send_many, messages, copies=copies, timeout=timeout)

    @documented_by(Verbs.cancel)
    def cancel(self, *ids: str, timeout: float = 10.0) -> list[bool]:
        return self._wait(timeout, self._client.cancel, *ids, timeout=timeout)

    @documented_by(Verbs.call)
    def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Any:
        return self.call_with(agent, procedure, args, kwargs, timeout=timeout)

    @renamed(timeout_s="timeout")
    @documented_by(Verbs.call_with)
    def call_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Any:
        verb = self._client.call_with
        return self._wait(timeout, verb, agent, procedure, args, kwargs, timeout=timeout, **options)

    @documented_by(Verbs.rpc)
    def rpc(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Any:
        return self.rpc_with(agent, procedure, args, kwargs, timeout=timeout)

    @renamed(timeout_s="timeout")
    @documented_by(Verbs.rpc_with)
    def rpc_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
    ) -> Any:
        return self._wait(timeout, self._client.rpc_with, agent, procedure, args, kwargs, timeout=timeout)

    @renamed(timeout_s="timeout")
    @documented_by(Verbs.request)
    def request(self, uri: str, *args: Any, timeout: float = 10.0) -> Any:
        return self._wait(timeout, self._client.request, uri, *args, timeout=timeout)

    @documented_by(Verbs.agents)
    def agents(self, *, timeout: float = 10.0) -> list[AgentInfo]:
        return self._wait(timeout, self._client.agents, timeout=timeout)

    @documented_by(Verbs.find)
    def find(
        self, capability: str | None = None, *, presence: Presence | None = None, timeout: float = 10.0
    ) -> list[AgentInfo]:
        return self._wait(timeout, self._client.find, capability, presence=presence, timeout=timeout)

    @documented_by(Verbs.status)
    def status(self, *ids: str, timeout: float = 10.0) -> dict[str, MessageStatus]:
        return self._wait(timeout, self._client.status, *ids, timeout=timeout)

    @documented_by(Verbs.why)
    def why(self, message_id: str, *, sender: str | None = None, timeout: float = 10.0) -> MessageHistory:
        return self._wait(timeout, self._client.why, message_id, sender=sender, timeout=timeout)

    @documented_by(Client.fetch)
    def fetch(self, *, max: int = 64, wait_s: float = 0.0, instance: str | None = None) -> Fetched:
        return self._wait(wait_s + ASK_TIMEOUT_S, self._client.fetch, max=max, wait_s=wait_s, instance=instance)

    @documented_by(Client.messages)
    def messages(self, *, wait_s: float | None = None, instance: str | None = None) -> SyncMessages:
        limit_s = _FOR_EVER_S if wait_s is None else wait_s + ASK_TIMEOUT_S
        messages = self._client.messages(wait_s=wait_s, instance=instance)
        return SyncMessages(messages, lambda take: self._wait(limit_s, take), self._soon)

    @documented_by(Client.ack)
    def ack(self, tokens: Sequence[str]) -> list[bool]:
        return self._wait(_SLACK_S, self._client.ack, tokens)

    @documented_by(Client.nack)
    def nack(self, tokens: Sequence[str], reason: str, *, requeue: bool = True) -> list[bool]:
        return self._wait(_SLACK_S, self._client.nack, tokens, reason, requeue=requeue)

    @documented_by(Client.surfaced)
    def surfaced(self, tokens: Sequence[str]) -> list[bool]:
        return self._wait(_SLACK_S, self._client.surfaced, tokens)

    @documented_by(Client.declare_model)
    def declare_model(self) -> None:
        self._soon(self._client.declare_model)

    @documented_by(Client.working)
    def working(self, token: str, for_s: float) -> Any:
        return self._wait(10.0, self._client.working, token, for_s)

    @documented_by(Verbs.lease, """Here: ``with bus.lease("path:src/**") as lease:``.""")
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
    ) -> BlockingLease:
        lease = self._client.lease(
            scope, shared=shared, ttl=ttl, timeout=timeout, note=note, sure=sure, take_over=take_over
        )
        return BlockingLease(lease, self._wait, timeout)

    @documented_by(Verbs.publish)
    def publish(self, topic_name: str, *args: Any) -> None:
        self._wait(10.0, self._client.publish, topic_name, *args)

    @documented_by(
        Client.subscribe, "``on_event`` runs in the reactor's thread and must neither block nor call this bus."
    )
    def subscribe(self, topic: str, on_event: Callable[..., object], *, of: str | None = None) -> None:
        self._wait(10.0, self._client.subscribe, topic, on_event, of=of)
