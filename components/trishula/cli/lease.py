"""``trishula lease``: who works on what, for agents, their scripts and operators."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from trishula.cli.known import ask_newer
from trishula.cli.lease_guard import guard
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.texts import is_line
from trishula.errors import LeaseTaken, TrishulaError
from trishula.work_lease import blockers_told

if TYPE_CHECKING:
    from collections.abc import Callable

    from trishula.cli.tables import Table

__all__ = ["lease"]

#: One call waits so long for its turn at most; a node allows up to a minute.
_ONE_WAIT_S = 30.0
_ANSWER_S = 10.0
_STATES = {"granted": "granted", "waiting": "waits"}


@click.group(cls=Group)
def lease() -> None:
    """Say what you work on, so that nobody else does meanwhile.

    A SCOPE is task:NAME, role:NAME, path:PATTERN or path:TREE:PATTERN, such as path:src/**/*.py. What overlaps with
    it is granted to nobody else. A lease is your agent's: it stays as long as the agent has a session, and --ttl
    longer; a script's own lease ends that long after the command.
    """


def _claiming(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.argument("scope"),
            click.option("--shared", is_flag=True, help="Others may share it who say so too."),
            click.option("--note", default="", metavar="TEXT", help="What for, in one line; others see it."),
            click.option(
                "--wait", default=0.0, metavar="S", type=click.FloatRange(0), help="Wait so many seconds for it."
            ),
            click.option("--sure", is_flag=True, help="Only if all linked nodes confirm it."),
            click.option("--take-over", is_flag=True, help="End leases in its way whose node can't be reached."),
        )
    ):
        function = option(function)
    return function


@lease.command()
@_claiming
@click.option(
    "--ttl",
    default=600.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(1, 30 * 86_400),
    help="How long it stays without a session of yours.",
)
@json_option
@click.pass_obj
def claim(
    state: State, scope: str, shared: bool, note: str, wait: float, sure: bool, take_over: bool, ttl: float
) -> None:
    """Lease a SCOPE; claimed again, the lease is renewed.

    \b
    Examples:
      trishula lease claim 'path:src/**' --note renames
      trishula lease claim role:release-manager --wait 60 --ttl 3600
    """
    options = {"shared": shared, "note": _line(note, "--note"), "sure": sure, "take_over": take_over, "ttl_s": ttl}
    use = {"use": uuid4().hex}
    with state.bus(looks_only=True) as bus:
        if wait > 0:
            # Whoever stops waiting has withdrawn the claim, and nothing that the agent had before.
            _claimed(bus, scope, {**options, **use}, wait)
        told = _claimed(bus, scope, options, 0.0)
    state.show(told, lambda: _granted(told))
    if told["provisional"]:
        state.note("it is provisional: a linked node can't be reached, and may have granted the same", "yellow")


@lease.command(context_settings={"ignore_unknown_options": True})
@_claiming
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    scope: str,
    command: tuple[str, ...],
    shared: bool,
    note: str,
    wait: float,
    sure: bool,
    take_over: bool,
) -> None:
    """Run a COMMAND while you have a SCOPE, and give it back afterwards.

    What your agent has claimed before it keeps. The exit code is that of the COMMAND, which finds the lease's id in
    TRISHULA_LEASE, and its fencing token in TRISHULA_FENCE.

    \b
    Examples:
      trishula lease run task:deploy --wait 300 -- ./deploy.sh
    """
    state: State = ctx.obj
    use = {"use": uuid4().hex}
    options = {"shared": shared, "note": _line(note, "--note"), "sure": sure, "take_over": take_over, "ttl_s": 30.0}
    with state.bus(looks_only=True) as bus:
        told = _claimed(bus, scope, {**options, **use}, wait)
        try:
            # Its fence is what a guarded place is to be shown.
            code = subprocess.run(command, env=_environment(told), check=False).returncode
        except OSError as error:
            raise click.ClickException(f"{command[0]} can't be run: {error.strerror}") from None
        finally:
            ask_newer(bus, uris.LEASE_RELEASE, told["id"], use)
    ctx.exit(code if code >= 0 else 128 - code)


def _environment(told: dict[str, Any]) -> dict[str, str]:
    import os

    return {**os.environ, "TRISHULA_LEASE": str(told["id"]), "TRISHULA_FENCE": str(told["fence"])}


def _claimed(bus: Any, scope: str, options: dict[str, Any], wait_s: float) -> dict[str, Any]:
    try:
        while True:
            once_s = min(wait_s, _ONE_WAIT_S)
            wait_s -= once_s
            asked = {**options, "wait_s": once_s, "queue": wait_s > 0}
            told: dict[str, Any] = ask_newer(bus, uris.LEASE_CLAIM, scope, asked, timeout_s=once_s + _ANSWER_S)
            if told["state"] == "granted":
                return told
            if wait_s <= 0:
                blockers = plain(blockers_told(told.get("blockers") or []))
                raise LeaseTaken(f"{plain(scope)} is not to be had: {blockers}")
    except KeyboardInterrupt:
        if "use" in options:
            with contextlib.suppress(TrishulaError):
                ask_newer(bus, uris.LEASE_RELEASE, scope, {"use": options["use"]})
        raise


@lease.command()
@click.argument("lease_id", metavar="ID|SCOPE")
@click.option("--ttl", metavar="S", type=click.FloatRange(1, 30 * 86_400), help="How long it stays from now on.")
@json_option
@click.pass_obj
def renew(state: State, lease_id: str, ttl: float | None) -> None:
    """Say that you still work on it; fails if you have lost it.

    \b
    Examples:
      trishula lease renew 'path:src/**'
    """
    with state.bus(looks_only=True) as bus:
        told = ask_newer(bus, uris.LEASE_RENEW, lease_id, {} if ttl is None else {"ttl_s": ttl})
    state.show(told, lambda: _granted(told))


@lease.command()
@click.argument("lease_id", metavar="ID|SCOPE")
@click.option("--force", is_flag=True, help="Somebody else's, by its ID (operators only).")
@click.option("--reason", metavar="TEXT", help="Why, with --force: its holder is told.")
@json_option
@click.pass_obj
def release(state: State, lease_id: str, force: bool, reason: str | None) -> None:
    """Give a lease back, or withdraw a claim that waits.

    \b
    Examples:
      trishula lease release 'path:src/**'
      trishula lease release agni-18c2f3a91b0 --force --reason "its machine is gone"
    """
    if force and not (reason or "").strip():
        raise click.UsageError("--force wants --reason: the holder is told who ended its lease, and why")
    if reason is not None and not force:
        raise click.UsageError("--reason goes with --force alone")
    with state.bus(looks_only=True) as bus:
        if force:
            told = ask_newer(bus, uris.ADMIN_LEASE_RELEASE, lease_id, {"reason": _line(reason or "", "--reason")})
        else:
            told = ask_newer(bus, uris.LEASE_RELEASE, lease_id)
    state.show(told, lambda: f"{plain(told['scope'])} is free of {plain(told['holder'])}")


@lease.command("list")
@click.option("--scope", metavar="SCOPE", help="Only what overlaps with it.")
@click.option("--mine", is_flag=True, help="Only what your agent has or waits for.")
@json_option
@click.pass_obj
def show(state: State, scope: str | None, mine: bool) -> None:
    """Show who has what, and then who waits, in order.

    \b
    Examples:
      trishula lease list
      trishula lease list --scope path:src/main.py
    """
    with state.bus(looks_only=True) as bus:
        found = ask_newer(bus, uris.LEASE_LIST, {"mine": mine} if scope is None else {"mine": mine, "scope": scope})
    if not found and not state.json:
        state.print("nobody has a lease" if not (scope or mine) else "no such lease")
        return
    state.show(found, lambda: _table(found))


def _line(text: str, option: str) -> str:
    if len(text) > 200 or not is_line(text):
        raise click.UsageError(f"{option} is {text!r}; it must be one line of at most 200 characters")
    return text


def _granted(told: dict[str, Any]) -> str:
    return f"{plain(told['scope'])} is yours (lease {plain(told['id'])}, fence {told['fence']})"


def _table(found: list[dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Scope", "Agent", "State", "Since", "Note", "Lease")
    for one in found:
        state = _STATES.get(str(one.get("state")), plain(one.get("state")))
        words = [
            state,
            *(["shared"] if one.get("shared") else []),
            *(["provisional"] if one.get("provisional") else []),
        ]
        table.add_row(
            plain(one.get("scope")),
            plain(one.get("holder")),
            ", ".join(words),
            local_time(one.get("claimed_at")),
            plain(one.get("note")),
            plain(one.get("id")),
        )
    return table


lease.add_command(guard)
