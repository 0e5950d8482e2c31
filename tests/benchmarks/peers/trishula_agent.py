"""An agent of TRISHULA with its file, as anybody would write one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trishula
from tests.benchmarks.peers.side import Heard, Side, fail
from trishula.runtime.pending import Pending

__all__ = ["TAKER", "AgentSide"]

TAKER = "taker"


class AgentSide(Side):
    """``Agent.send``, a handler, ``Agent.call`` and a procedure."""

    async def open(self, address: dict[str, Any], name: str, heard: Heard | None) -> None:
        self._copies = address["copies"]
        state = Path(address["files"]) / name
        url = address.get("urls", {}).get(name, address["url"])
        self._agent = trishula.Agent(name, url=url, token=address["tokens"][name], state=state, window=256)
        if heard is not None:
            self._agent.on("STATUS")(_handler(heard))
            self._agent.procedure("answer")(_answer)
        await self._agent.start(timeout=30.0)

    def send(self, text: str, confirmed: Callable[[], None]) -> None:
        def told(receipt: Pending[trishula.Receipt]) -> None:
            if receipt.error is not None:
                fail(receipt.error)
            confirmed()

        self._agent.send(TAKER, payload=text, copies=self._copies).when_done(told)

    async def ask(self, text: str) -> None:
        await self._agent.call_with(TAKER, "answer", [text], timeout=30.0, copies=self._copies)


def _handler(heard: Heard) -> Callable[[trishula.Message], None]:
    def handle(message: trishula.Message) -> None:
        heard(message.payload)

    return handle


def _answer(text: str) -> str:
    return text
