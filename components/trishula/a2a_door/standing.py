"""The process of ``trishula a2a agent``: an agent of the bus with one handler, which is an envoy."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from trishula.a2a_door.ledger import Ledger
from trishula.a2a_door.outgoing import Envoy
from trishula.a2a_door.remote import RemoteAgent, check_url
from trishula.agent import Agent
from trishula.consumer import process
from trishula.contract.message import Message
from trishula.runtime.surroundings import real

__all__ = ["stand"]

#: As long as a node remembers an id.
_KEEP_MS = round(timedelta(days=30).total_seconds() * 1000)


def stand(url: str, name: str, bearer: str | None, directory: Path, *, nodes: str | None, profile: str | None) -> None:
    """Run it until SIGTERM or SIGINT.

    Args:
        url: the agent of A2A.
        name: the agent of the bus.
        bearer: the bearer token for the other side.
        directory: for what is under way.
        nodes, profile: as for :func:`trishula.settings.load`.

    Raises:
        SettingsInvalid: the URL can't be used.
        StateUnusable: the directory can't.
        TrishulaError: as :meth:`trishula.agent.Agent.serve`.
    """
    check_url(url, bearer)
    process.set_up_logging(name, os.environ)
    ledger = Ledger.open(directory)
    try:
        standing = Agent(name, url=nodes, profile=profile)
        envoys: list[Envoy] = []

        @standing.on("COMMAND")
        async def given(command: Message) -> object:
            if not envoys:
                # Here, because its client belongs to the loop.
                now_ms = real().now_ms
                ledger.errands.forget(now_ms() - _KEEP_MS)
                envoys.append(Envoy(RemoteAgent(url, bearer), url, ledger.errands, now_ms))
            return await envoys[0].handle(command)

        standing.serve()
    finally:
        ledger.close()
