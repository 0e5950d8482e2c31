"""A client of plain Crossbar: publish and subscribe, call and register. The router confirms; nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.benchmarks.peers.side import ASKS, MAIL, Heard, Side, fail

__all__ = ["CrossbarSide"]


class CrossbarSide(Side):
    """Autobahn on asyncio, MessagePack over WebSocket, as TRISHULA's own clients have it."""

    async def open(self, address: dict[str, Any], name: str, heard: Heard | None) -> None:
        from autobahn.asyncio.wamp import ApplicationSession
        from autobahn.asyncio.websocket import WampWebSocketClientFactory
        from autobahn.wamp.serializer import MsgPackSerializer
        from autobahn.wamp.types import ComponentConfig, PublishOptions

        loop = asyncio.get_running_loop()
        joined: asyncio.Future[None] = loop.create_future()

        class Session(ApplicationSession):  # type: ignore[misc]
            async def onJoin(self, details: Any) -> None:
                joined.set_result(None)

            def onLeave(self, details: Any) -> None:
                fail(RuntimeError(f"the session ended: {details.message}"))

        self._session = session = Session(ComponentConfig(realm=address["realm"]))
        self._options = PublishOptions(acknowledge=True)
        url = f"ws://127.0.0.1:{address['port']}/ws"
        factory = WampWebSocketClientFactory(lambda: session, url=url, serializers=[MsgPackSerializer()])
        await loop.create_connection(factory, "127.0.0.1", address["port"])
        await joined
        if heard is not None:
            await session.subscribe(heard, MAIL)
            await session.register(lambda text: text, ASKS)

    def send(self, text: str, confirmed: Callable[[], None]) -> None:
        def told(published: Any) -> None:
            if (error := published.exception()) is not None:
                fail(error)
            confirmed()

        self._session.publish(MAIL, text, options=self._options).add_done_callback(told)

    async def ask(self, text: str) -> None:
        await self._session.call(ASKS, text)
