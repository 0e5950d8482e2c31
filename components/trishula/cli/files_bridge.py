"""``trishula files bridge``: be on the bus for an agent that knows files alone."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trishula.cli.files_names import names_option
from trishula.cli.log_options import chosen_log, log_options
from trishula.cli.state import State, json_option
from trishula.cli.values import DURATION
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.contract.message import Message
from trishula.errors import TrishulaError
from trishula.exit_codes import exit_for
from trishula.log_lines import FORMAT_VARIABLE, LEVEL_VARIABLE

if TYPE_CHECKING:
    from trishula.files.names import Names

__all__ = ["bridge"]

_log = logging.getLogger("trishula")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--agent", "name", metavar="NAME", required=True, help="The agent whose folder it is; the token is its own."
)
@click.option("--keep", type=DURATION, default="30d", show_default=True, help="How long the archive keeps a file.")
@click.option(
    "--settle", type=DURATION, default="500ms", show_default=True,
    help="How long a file must not have changed before it is read.",
)  # fmt: skip
@click.option(
    "--state-dir", type=click.Path(path_type=Path, file_okay=False),
    help="Where the bridge keeps the ids that it knows (default: $TRISHULA_AGENT_STATE, else ~/.local/state/trishula).",
)  # fmt: skip
@names_option
@log_options
@json_option
@click.pass_obj
def bridge(
    state: State,
    directory: Path,
    name: str,
    keep: float,
    settle: float,
    state_dir: Path | None,
    names: Names,
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Carry messages between the bus and the folder DIR of a TRISHULA v1 agent, until Ctrl-C.

    What the agent puts into DIR/outbox is sent as its messages, and archived in DIR/archive once the node has it; what
    comes for it is put into DIR/inbox. What can't be sent lies in DIR/rejected, with the reason beside it.

    \b
    Examples:
      trishula files bridge ~/trishula --agent agni
      trishula files bridge /srv/agni --agent agni --keep 90d
      trishula files bridge /srv/agni --agent agni --name mac=dc --name box=agni
    """
    if not is_agent_name(name):
        raise click.UsageError(f"--agent is {name!r}; it must be {AGENT_RULE}")
    form, level = chosen_log(log_format, log_level, "info")
    os.environ |= {FORMAT_VARIABLE: form, LEVEL_VARIABLE: level}
    # Late, and in this order: agents run on asyncio's reactor.
    from trishula import Agent
    from trishula.consumer import process
    from trishula.consumer.handlers import LATER
    from trishula.files.bridge import Bridge
    from trishula.files.folder import Folder
    from trishula.runtime.loops import in_thread, reactor_here
    from trishula.runtime.pending import start
    from trishula.runtime.surroundings import real

    folder = Folder(directory.absolute(), stable_s=settle)
    folder.prepare()
    agent = Agent(
        name,
        url=state.url,
        profile=state.named_profile,
        state=state_dir,
    )
    carriers: list[Bridge] = []

    @agent.on("STATUS", "RESULT", "ERROR")
    async def came(message: Message) -> None:
        await carriers[0].deliver(message)

    @agent.on("COMMAND")
    async def asked(message: Message) -> object:
        await carriers[0].deliver(message)
        return LATER

    async def begin() -> None:
        reactor, around = reactor_here(), real()
        carrier = Bridge(
            name,
            folder,
            names,
            post=lambda wire, held: agent.client.forward(wire, on_refused=held),
            clock=around.clock,
            now_ms=around.now_ms,
            in_thread=lambda work: in_thread(reactor, work),
            wake_in_reactor=reactor.callFromThread,
            keep_s=keep,
        )
        carriers.append(carrier)
        await agent.start()
        _log.info("the bridge of %s carries between the bus and %s", name, folder.root)
        start(carrier.run())

    async def end() -> None:
        for carrier in carriers:
            await carrier.stop()
        await agent.stop()

    try:
        process.set_up_logging(name, os.environ)
        process.serve(begin, end, lambda: agent.over)
    except TrishulaError as error:
        _log.error("%s", error)
        sys.exit(int(exit_for(error)))
