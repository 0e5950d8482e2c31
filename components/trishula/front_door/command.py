"""``trishula mcp``: the front door for an agent that is a language model."""

from __future__ import annotations

import importlib.util

import click

from trishula.cli.state import State
from trishula.distribution import INSTALL_MCP

__all__ = ["mcp"]


@click.command()
@click.option(
    "--ack",
    type=click.Choice(["model", "shown"]),
    default="model",
    show_default=True,
    help="When a message is done: when the model says so, or as soon as it was shown to the model.",
)
@click.option(
    "--result-size",
    "letters",
    type=click.IntRange(2_000, 100_000),
    default=20_000,
    show_default=True,
    help="How many characters a tool's result has at most; a client cuts a longer one.",
)
@click.pass_obj
def mcp(state: State, ack: str, letters: int) -> None:
    """Serve the bus to a model, as a server of MCP over standard input and output.

    A coding agent (Claude Code, Codex, Gemini CLI, …) starts this command by itself; its configuration names it, with
    the variables or the profile that say which agent it is. Mail stays on the node until the model asks for it, and is
    done when the model has settled it.

    \b
    Examples:
      claude mcp add trishula --env TRISHULA_PROFILE=scout -- trishula mcp
      trishula --profile scout mcp --ack shown
    """
    if importlib.util.find_spec("mcp") is None:
        raise click.ClickException(f"the front door needs the SDK of MCP, which is not installed; run: {INSTALL_MCP}")
    # Late: they import Twisted, Autobahn and pydantic.
    from trishula.front_door.member import Member
    from trishula.front_door.server import over_stdio
    from trishula.front_door.tools import Tools
    from trishula.settings import load

    # Here, so that what is wrong in them is said before a client speaks.
    settings = load(url=state.url, profile=state.profile)
    over_stdio(lambda: Tools(Member(settings), acks_what_it_shows=ack == "shown", letters=letters))
