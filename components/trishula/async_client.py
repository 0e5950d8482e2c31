"""The bus for programs on asyncio that own their loop: FastAPI and aiohttp, notebooks, ``asyncio.run``.

::

    import trishula

    async with trishula.AsyncClient() as bus:            # TRISHULA_URL, TRISHULA_TOKEN or a profile file
        print(await bus.call("agni", "host_report", timeout=10))
        await bus.send("rushabdev", payload={"release": "2.1"})

There is no reactor to install and no thread: the client lives in the loop that runs (:mod:`trishula.runtime.loops`),
and goes with its ``async with``. Whoever gives up waiting, by ``asyncio.timeout`` or because the task is cancelled,
gives up waiting only: what was sent stays sent (:meth:`AsyncClient.cancel` takes it back).

Such a program is an *instance* of its agent, as a script is (:mod:`trishula.sync`): its address is ``agni/7f3a…``,
so that answers to its calls come to a mailbox of its own and not to a running agent's. A program that *is* the agent
has handlers: ``async with agent:``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

from trishula.attachments.verbs import PATIENCE_S
from trishula.client import Client
from trishula.consumer.messages import Messages
from trishula.consumer.unfetched import Unfetched
from trishula.contract.addresses import BROADCAST, Address
from trishula.contract.answers import AgentInfo, MessageHistory, MessageStatus
from trishula.contract.deliveries import Fetched
from trishula.contract.message import MailType, Message
from trishula.contract.receipts import Receipt
from trishula.key_settings import GivenKeys
from trishula.runtime.pending import start
from trishula.runtime.surroundings import Surroundings, real
from trishula.send_options import CallOptions, SendOptions
from trishula.session.transport import Connection
from trishula.settings import Settings, load
from trishula.verbs import Presence, Verbs
from trishula.vocabulary import documented_by
from trishula.work_lease import WorkLease

__all__ = ["AsyncClient", "Onlooker"]

#: For the last acks. A node that is slower than that delivers to an address that is gone, and knows it.
_DRAIN_S = 1.0


class AsyncClient:
    """See the module's docstring; all of it belongs to the loop in which it was entered.

    Args:
        url, agent, token, profile, ca_file, proxy: as for :func:`trishula.settings.load`.
        timeout: how long to try to join, and how long ``send`` waits for its receipt, in seconds.
        keys: ``key_file``, ``trusted_keys`` and ``require_signature``, as for :func:`trishula.settings.load`.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        agent: str | None = None,
        token: str | None = None,
        *,
        profile: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        timeout: float = 10.0,
        **keys: Unpack[GivenKeys],
    ) -> None:
        self._load = partial(
            load, url=url, agent=agent, token=token, profile=profile, ca_file=ca_file, proxy=proxy, **keys
        )
        self._timeout_s = timeout
        self._client: Client | None = None
        self._unfetched: Unfetched | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> AsyncClient:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Join; ``async with`` does it.

        Raises:
            SettingsInvalid, TokenMissing: the settings are wrong.
            TokenInvalid: the node refuses the token.
            BusUnreachable: no node could be joined in time.
            RuntimeError: it has joined already.
        """
        if self._client is not None:
            raise RuntimeError("this client has joined already; one client, one session")
        # It stays where it is: the tokens that it was given would mean nothing on the node that it went back to.
        settings, around, connection = self._world()
        settings = replace(settings, failback_s=None)
        client = Client(settings, instance=around.word(4), around=around, connection=connection)
        unfetched = Unfetched(client._beneath(), around.clock)
        self._take_messages(client, unfetched)
        self._client, self._unfetched = client, unfetched
        try:
            await start(client.start(self._timeout_s))
        except BaseException:
            self._client = self._unfetched = None
            await start(client.stop())
            raise

    def _take_messages(self, client: Client, unfetched: Unfetched) -> None:
        """What comes to our address is pushed to us; answers to our calls come there."""
        client.attach(unfetched.take)

    async def stop(self) -> None:
        """Leave, after the last acks: one is always on its way when a call has just been answered."""
        client, self._client = self._client, None
        if client is not None:
            try:
                if client.is_ready:
                    await start(client.drained(_DRAIN_S))
            finally:
                if self._unfetched is not None:
                    self._unfetched.close()
                # Also if whoever waits is cancelled meanwhile: the session would stay.
                await start(client.stop())

    def _world(self) -> tuple[Settings, Surroundings, Connection | None]:
        """Who the client is, what it lives in, and how it gets links; :mod:`trishula.testing` has other ones."""
        return self._load(), real(), None

    @property
    def client(self) -> Client:
        """The client beneath.

        Raises:
            RuntimeError: it has not joined, or left.
        """
        if self._client is None:
            raise RuntimeError('this client has not joined the bus: use it inside of "async with", or after start()')
        return self._client

    @property
    def address(self) -> Address:
        """Who this program is: its messages are from there, and answers come there."""
        return self.client.address

    @property
    def url(self) -> str | None:
        """The URL of the node it is joined to now."""
        return self.client.url

    # -- verbs ---------------------------------------------------------------------------------------------------------

    @documented_by(Verbs.send)
    async def send(
        self,
        to: str,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt:
        limit_s = self._timeout_s if timeout is None else timeout
        return await self.client.send(to, type=type, payload=payload, timeout=limit_s, **options)

    @documented_by(Verbs.save_attachment)
    async def save_attachment(
        self,
        message: Message | str,
        to: str | os.PathLike[str],
        *,
        sender: str | None = None,
        replace: bool = False,
        timeout: float = PATIENCE_S,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Path:
        return await self.client.save_attachment(
            message, to, sender=sender, replace=replace, timeout=timeout, on_progress=on_progress
        )

    @documented_by(Verbs.broadcast)
    async def broadcast(
        self,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt:
        return await self.send(BROADCAST, type=type, payload=payload, timeout=timeout, **options)

    @documented_by(Verbs.send_many)
    async def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, copies: int | None = None, timeout: float | None = None
    ) -> list[Receipt]:
        limit_s = self._timeout_s if timeout is None else timeout
        return await self.client.send_many(messages, copies=copies, timeout=limit_s)

    @documented_by(Verbs.cancel)
    async def cancel(self, *ids: str, timeout: float = 10.0) -> list[bool]:
        return await self.client.cancel(*ids, timeout=timeout)

    @documented_by(Verbs.call)
    async def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Any:
        return await self.client.call(agent, procedure, *args, timeout=timeout, **kwargs)

    @documented_by(Verbs.call_with)
    async def call_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Any:
        return await self.client.call_with(agent, procedure, args, kwargs, timeout=timeout, **options)

    @documented_by(Verbs.rpc)
    async def rpc(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Any:
        return await self.client.rpc(agent, procedure, *args, timeout=timeout, **kwargs)

    @documented_by(Verbs.rpc_with)
    async def rpc_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
    ) -> Any:
        return await self.client.rpc_with(agent, procedure, args, kwargs, timeout=timeout)

    @documented_by(Verbs.request)
    async def request(self, uri: str, *args: Any, timeout: float = 10.0) -> Any:
        return await self.client.request(uri, *args, timeout=timeout)

    @documented_by(Verbs.agents)
    async def agents(self, *, timeout: float = 10.0) -> list[AgentInfo]:
        return await self.client.agents(timeout=timeout)

    @documented_by(Verbs.find)
    async def find(
        self, capability: str | None = None, *, presence: Presence | None = None, timeout: float = 10.0
    ) -> list[AgentInfo]:
        return await self.client.find(capability, presence=presence, timeout=timeout)

    @documented_by(Verbs.status)
    async def status(self, *ids: str, timeout: float = 10.0) -> dict[str, MessageStatus]:
        return await self.client.status(*ids, timeout=timeout)

    @documented_by(Verbs.why)
    async def why(self, message_id: str, *, sender: str | None = None, timeout: float = 10.0) -> MessageHistory:
        return await self.client.why(message_id, sender=sender, timeout=timeout)

    @documented_by(Client.fetch)
    async def fetch(self, *, max: int = 64, wait_s: float = 0.0, instance: str | None = None) -> Fetched:
        client = self.client
        if instance is not None and instance == client.address.instance and self._unfetched is not None:
            return await start(self._unfetched.fetch(max, wait_s))
        return await start(client.fetch(max=max, wait_s=wait_s, instance=instance))

    @documented_by(Client.messages)
    def messages(self, *, wait_s: float | None = None, instance: str | None = None) -> Messages:
        engine = self.client._beneath()
        return Messages(engine, lambda left_s: self.fetch(max=1, wait_s=left_s, instance=instance), wait_s)

    @documented_by(Client.ack)
    async def ack(self, tokens: Sequence[str]) -> list[bool]:
        return await self.client.ack(tokens)

    @documented_by(Client.nack)
    async def nack(self, tokens: Sequence[str], reason: str, *, requeue: bool = True) -> list[bool]:
        return await self.client.nack(tokens, reason, requeue=requeue)

    @documented_by(Client.surfaced)
    async def surfaced(self, tokens: Sequence[str]) -> list[bool]:
        return await self.client.surfaced(tokens)

    @documented_by(Client.declare_model)
    def declare_model(self) -> None:
        self.client.declare_model()

    @documented_by(Client.working)
    async def working(self, token: str, for_s: float) -> Any:
        return await self.client.working(token, for_s)

    @documented_by(Verbs.lease)
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
        return self.client.lease(
            scope, shared=shared, ttl=ttl, timeout=timeout, note=note, sure=sure, take_over=take_over
        )

    @documented_by(Verbs.publish)
    async def publish(self, topic_name: str, *args: Any) -> None:
        await self.client.publish(topic_name, *args)

    @documented_by(Client.subscribe, "``on_event`` runs in the loop and must not block.")
    async def subscribe(self, topic: str, on_event: Callable[..., object], *, of: str | None = None) -> None:
        await self.client.subscribe(topic, on_event, of=of)


class Onlooker(AsyncClient):
    """One that asks the node and takes nothing, as an observer must: no address of its own is listened to.

    So no call of it is ever answered, and it leaves no mailbox behind.
    """

    def _take_messages(self, client: Client, unfetched: Unfetched) -> None:
        pass
