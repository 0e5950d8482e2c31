"""``trishula watch``: what happens on the bus, as it happens."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.known import require_agent, require_agent_name
from trishula.cli.lasting import may_pass
from trishula.cli.state import State, json_option
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.errors import NotAllowed, TrishulaError

if TYPE_CHECKING:
    from rich.text import Text

    from trishula.sync import Bus

__all__ = ["watch"]

#: How often it is looked whether there will be events, while none come.
_LOOK_EVERY_S = 2.0


@click.command()
@click.option("--max", "limit", type=click.IntRange(1), help="Stop after so many events.")
@click.option("--topic", "topics", multiple=True, metavar="AGENT.NAME", help="Watch this topic of an agent as well.")
@json_option
@click.pass_obj
def watch(state: State, limit: int | None, topics: tuple[str, ...]) -> None:
    """Print events as they happen, until Ctrl-C.

    They are of agents that come, go or fall silent, of nodes, and of what becomes of your own messages. Events are
    live: what happens while nobody watches is in the journal (trishula audit query). With --json each event is a line
    of its own.

    \b
    Examples:
      trishula watch
      trishula watch --topic agni.load --json
    """
    # Events come on the reactor's thread; printing there would stall the bus behind a slow terminal.
    events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    wanted = {"agent": uris.EVENT_AGENT, "node": uris.EVENT_NODE, "fallback": uris.EVENT_FALLBACK}
    agents: list[str] = []
    for topic in topics:
        agent, dot, name = topic.partition(".")
        if not dot or not agent or not name:
            raise click.UsageError(f"--topic is {topic!r}; it must be AGENT.NAME, such as agni.load")
        require_agent_name(agent, "the agent of --topic")
        agents.append(agent)
        wanted[topic] = uris.topic_of(agent, name)
    with state.bus(looks_only=True) as bus:
        for agent in agents:
            require_agent(bus, agent)

        def subscribe(kind: str, uri: str) -> None:
            bus.subscribe(uri, lambda *args: events.put((kind, args[0] if len(args) == 1 else list(args))))

        for kind, uri in wanted.items():
            subscribe(kind, uri)
        # An observer sends nothing, and may not listen for what becomes of it.
        with suppress(NotAllowed):
            subscribe("receipt", uris.receipts_of(bus.address.agent))
        state.note(f"watching as {bus.address}; Ctrl-C ends it")
        seen = 0
        while limit is None or seen < limit:
            kind, event = _next(events, bus)
            at = int(time.time() * 1000)
            for one in event if kind == "receipt" and isinstance(event, list) else [event]:
                seen += 1
                if state.json:
                    state.line({"at": at, "kind": kind, "event": one})
                else:
                    state.print(_render(at, kind, one))


def _next(events: queue.SimpleQueue[tuple[str, Any]], bus: Bus) -> tuple[str, Any]:
    """Wait for an event.

    Raises:
        TrishulaError: there will be none any more, as after the token was revoked.
    """
    while True:
        with suppress(queue.Empty):
            return events.get(timeout=_LOOK_EVERY_S)
        # Nothing comes without a session either, and a client joins anew by itself: unless it was refused for good.
        if bus.url is None:
            try:
                bus.request(uris.DIRECTORY_GET, bus.address.agent, timeout=_LOOK_EVERY_S)
            except TrishulaError as error:
                if not may_pass(error):
                    raise


def _render(at: int, kind: str, event: Any) -> Text:
    from rich.text import Text

    text = Text(f"{local_time(at)}  ", style="dim")
    text.append(f"{plain(kind):<8} ", style="bold")
    if isinstance(event, dict) and kind == "agent":
        text.append(f"{plain(event.get('agent'))} is {plain(event.get('presence'))}", style="cyan")
        text.append(f"  ({plain(event.get('reason'))})", style="dim")
    elif isinstance(event, dict) and kind == "fallback":
        # Of what a mode means, the command that sets it tells more.
        what = "takes messages" if event.get("sends") else "takes no messages"
        text.append(f"{plain(event.get('node'))}: the bus is {plain(event.get('mode'))}, it {what}", style="cyan")
        text.append(f"  ({plain(event.get('by'))}: {plain(event.get('reason'))})", style="dim")
    elif isinstance(event, dict) and kind == "receipt":
        text.append(f"{plain(event.get('id'))} to {plain(event.get('to'))}: {plain(event.get('state'))}", style="cyan")
        if event.get("reason"):
            text.append(f"  ({plain(event['reason'])})", style="dim")
    else:
        text.append(plain(event), style="none")
    return text
