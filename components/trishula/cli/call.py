"""``trishula call``: run a procedure of an agent and print what it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.cli.values import DURATION, milliseconds, parse_json
from trishula.cli.words import paragraphs, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["call"]


@click.command()
@click.argument("agent")
@click.argument("procedure")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE|VALUE]…")
@click.option("--args", "args_json", metavar="JSON", help="The positional arguments, a JSON list (or @FILE, -).")
@click.option("--kwargs", "kwargs_json", metavar="JSON", help="The named arguments, a JSON map (or @FILE, -).")
@click.option("--timeout", type=DURATION, default="10s", show_default=True, help="How long to wait for the answer.")
@click.option("--id", "message_id", metavar="ID", help="The id of an earlier call: ask for its answer.")
@click.option(
    "--ttl",
    "ttl_s",
    type=DURATION,
    help='How long the node tries to deliver it, such as "2h" (default: --timeout + 30s).',
)
@click.option("--encrypt", is_flag=True, help="Let nobody else read the arguments and the answer; needs keys.")
@click.option("--live", is_flag=True, help="Call the connected agent directly: faster, and nothing is stored.")
@json_option
@click.pass_obj
def call(
    state: State,
    agent: str,
    procedure: str,
    arguments: tuple[str, ...],
    args_json: str | None,
    kwargs_json: str | None,
    timeout: float,
    message_id: str | None,
    ttl_s: float | None,
    encrypt: bool,
    live: bool,
) -> None:
    """Run PROCEDURE of AGENT and print the result.

    The call is a COMMAND: it is on disk before it runs. If no answer comes in time the message's id is printed, to ask
    again with --id: nothing runs twice. An agent that is away runs it if it comes back before --ttl is over. A VALUE is
    JSON if it can be read so, and text if not.

    \b
    Examples:
      trishula call agni host_report
      trishula call agni host_report disk=/var --timeout 30s
      trishula call rushabdev run_check disk_space --live --json
    """
    args, kwargs = _arguments(arguments)
    if args_json is not None:
        listed = parse_json(args_json, "--args")
        if not isinstance(listed, list):
            raise click.UsageError("--args must be a JSON list, such as '[1, \"two\"]'")
        args = [*args, *listed]
    if kwargs_json is not None:
        named = parse_json(kwargs_json, "--kwargs")
        if not isinstance(named, dict):
            raise click.UsageError('--kwargs must be a JSON map, such as \'{"disk": "/"}\'')
        kwargs = {**kwargs, **named}
    if live and (message_id is not None or ttl_s is not None):
        raise click.UsageError("--live stores nothing, so it has neither --id nor --ttl; leave them out")
    if live and encrypt:
        raise click.UsageError("--live makes no message, so there is nothing to --encrypt; leave one of them out")
    options = {"id": message_id, "ttl_ms": milliseconds(ttl_s), "encrypt": encrypt or None}
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    with state.bus(timeout) as bus:
        if live:
            result = bus.rpc_with(agent, procedure, args, kwargs, timeout=timeout)
        else:
            result = bus.call_with(agent, procedure, args, kwargs, timeout=timeout, on_warning=_warn, **given)
    state.show(result, lambda: _render(result))


def _warn(warning: str) -> None:
    # In the reactor's thread, while this one waits.
    click.echo(f"trishula: warning: {plain(warning)}", err=True)


def _arguments(given: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if equals and key.isidentifier():
            kwargs[key] = _value(value)
        else:
            args.append(_value(text))
    return args, kwargs


def _value(text: str) -> Any:
    if text == "-" or text.startswith("@"):
        return text
    try:
        return parse_json(text, "an argument")
    except click.UsageError:
        return text


def _render(result: object) -> RenderableType:
    from trishula.cli.tables import Fields

    if isinstance(result, dict) and result:
        return Fields((plain(key), _pretty(value)) for key, value in result.items())
    return _pretty(result)


def _pretty(value: object) -> str:
    """A value for people: text as it is, flat lists of maps and maps a line each, the rest as JSON."""
    if isinstance(value, dict) and value:
        return "\n".join(f"{plain(key)}: {paragraphs(inner, '  ')}" for key, inner in value.items())
    if isinstance(value, list) and value:
        return "\n".join(map(paragraphs, value))
    return paragraphs(value)
