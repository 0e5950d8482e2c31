"""``trishula mcp``: the front door for an agent that is a language model."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import click

from trishula.cli.listening import address_of, listen
from trishula.cli.state import State, json_option
from trishula.distribution import INSTALL_MCP
from trishula.token_file import owner_of

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
@click.option(
    "--http",
    metavar="[HOST:]PORT",
    help="Serve several models over HTTP on this machine, each with the token of its agent as its bearer token.",
)
@click.option(
    "--host-name",
    "names",
    multiple=True,
    metavar="NAME",
    help="With --http: a host name of a proxy with TLS before us, by which clients call; may be repeated.",
)
@json_option
@click.pass_obj
def mcp(state: State, ack: str, letters: int, http: str | None, names: tuple[str, ...]) -> None:
    """Serve the bus to a model, as a server of MCP over standard input and output.

    A coding agent (Claude Code, Codex, Gemini CLI, …) starts this command by itself; its configuration names it, with
    the variables or the profile that say which agent it is. Mail stays on the node until the model asks for it, and is
    done when the model has settled it.

    With --http it is a server that clients connect to. Then each client brings the token of its agent, and the
    settings here say only where the bus is. It prints its address, and runs until it is told to stop.

    \b
    Examples:
      trishula mcp
      claude mcp add trishula --env TRISHULA_PROFILE=scout -- trishula mcp
      trishula --profile scout mcp --ack shown
      trishula --url ws://127.0.0.1:8765/ws mcp --http 8790
    """
    if names and http is None:
        raise click.UsageError("--host-name is about --http: give both, or neither")
    address = None if http is None else address_of(http, "--http", "--host-name")
    if importlib.util.find_spec("mcp") is None:
        raise click.ClickException(f"the front door needs the SDK of MCP, which is not installed; run: {INSTALL_MCP}")
    # Late: they import Twisted, Autobahn and pydantic.
    from trishula.front_door.member import Member
    from trishula.front_door.server import over_stdio
    from trishula.front_door.tools import Tools
    from trishula.settings import Settings, load

    def opened(settings: Settings) -> Tools:
        return Tools(Member(settings), acks_what_it_shows=ack == "shown", letters=letters)

    if address is None:
        # Here, so that what is wrong in the settings is said before a client speaks.
        settings = load(url=state.url, profile=state.profile)
        over_stdio(lambda: opened(settings))
        return
    from trishula.front_door.web_server import PATH, over_http

    def opened_by(token: str) -> Tools:
        # The variables and the profile may name an agent, and its key, which is somebody else here.
        found = load(url=state.url, profile=state.profile, agent=owner_of(token), token=token)
        return opened(replace(found, keys=found.keys.of_another()))

    # As above: said now, and not to the first client.
    load(url=state.url, profile=state.profile, agent="nobody", token="nobody.nothing")
    with listen(address) as listening:
        host, port = listening.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
        if state.json:
            state.line({"url": url})
        else:
            click.echo(url)
        over_http(listening, names, opened_by)
