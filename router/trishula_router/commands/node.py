"""``trishula node``: start a node, check its configuration, ask how it is, keep its store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import click

from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.units import show_duration
from trishula.errors import TrishulaError
from trishula.exit_codes import Exit
from trishula.runtime.clock import STEP_MS
from trishula_router.commands.explain import explain
from trishula_router.commands.keys import keys
from trishula_router.commands.linked_files import faults_between
from trishula_router.commands.start import start
from trishula_router.commands.state_dir import (
    default_state_dir,
    existing_state_dir,
    keep_files_private,
    require_crossbar,
    speaks_json,
    state_holder,
)
from trishula_router.commands.status_words import (
    cell_lines,
    fallback_lines,
    grant_lines,
    link_lines,
    mirror_lines,
    peer_line,
    store_lines,
)
from trishula_router.commands.store_files import backup, compact, reseed, restore, verify
from trishula_router.commands.supervisor import read_ready_file
from trishula_router.settings.check import check_config, check_with_crossbar, read_config_file
from trishula_router.settings.check_links import ConfigFile
from trishula_router.settings.crossbar_config import listen_endpoint_of
from trishula_router.settings.faults import ConfigError, Fault

__all__ = ["node"]


@click.group(cls=Group)
@click.pass_context
def node(ctx: click.Context) -> None:
    """Start a node, check its configuration, ask how it is, keep its store."""
    keep_files_private(ctx)


for command in (start, verify, backup, restore, reseed, compact, keys):
    node.add_command(command)


@node.command()
@click.argument("files_", metavar="[FILE...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--explain", "agent", metavar="AGENT", help="Say what AGENT may do, and which line of which file says so."
)
@click.option("--state", type=click.Path(path_type=Path), help="Of --explain: the node's state directory.")
@json_option
@click.pass_context
def check(ctx: click.Context, files_: tuple[Path, ...], agent: str | None, state: Path | None) -> None:
    """Check configurations: all faults of all files at once, ours and Crossbar's.

    Of several good files it is also checked whether the nodes fit together that are linked, and whether their files of
    agents say the same, unless they share them. Exit code 0 only if there are no faults. With --json: a list of objects
    with file and faults.

    With --explain no configuration is checked: what AGENT may send, call, serve and hear by the file of agents is told,
    line by line, and what is refused to it with which sentence. With --json: an object with agent, agents_file, role,
    grants and refused.

    \b
    Examples:
      trishula node check node.json
      trishula node check primary.json failover.json
      trishula node check --explain agni --state /var/lib/trishula
    """
    if agent is not None and not files_:
        explain(existing_state_dir(state), agent, as_json=speaks_json(ctx))
        return
    if agent is not None or state is not None or not files_:
        raise click.UsageError("name configurations to check, or else --explain AGENT (and its --state)")
    require_crossbar()
    found = {path: faults_of(path) for path in files_}
    if len(found) > 1 and not any(found.values()):
        found = {
            path: tuple(faults)
            for path, faults in faults_between([ConfigFile(path, read_config_file(path)) for path in found]).items()
        }
    if speaks_json(ctx):
        click.echo(
            json.dumps([{"file": str(path), "faults": [_as_map(fault) for fault in found[path]]} for path in files_])
        )
    else:
        for path, faults in found.items():
            if not faults:
                click.echo(f"{path}: good")
            for fault in faults:
                click.echo(f"{path}: {fault.sentence}" if not fault.path.startswith(str(path)) else fault.sentence)
    if any(found.values()):
        raise click.exceptions.Exit(int(Exit.CONFIG))


def faults_of(path: Path) -> tuple[Fault, ...]:
    """Every fault of a configuration file."""
    try:
        config = read_config_file(path)
    except ConfigError as error:
        return error.faults
    return (*check_config(config, base=path.absolute().parent), *check_with_crossbar(config))


def _as_map(fault: Fault) -> dict[str, str]:
    return {"path": fault.path, "sentence": fault.sentence}


@node.command()
@click.option("--state", type=click.Path(path_type=Path), help="The node's state directory.")
@json_option
@click.pass_context
def status(ctx: click.Context, state: Path | None) -> None:
    """Say whether a node runs, where, and how it is.

    The state directory says whether one runs on it. With TRISHULA_TOKEN, an operator's, the node itself is asked: the
    one on the state directory, else the one at TRISHULA_URL. It ends with 6 if none runs.

    \b
    Examples:
      trishula node status
      trishula node status --state /var/lib/trishula --json
    """
    shell = ctx.ensure_object(State)
    url = None if state is not None else shell.url or os.environ.get("TRISHULA_URL")
    # A node that is asked over the network may have its directory on another machine.
    state_dir = (state or default_state_dir(os.environ)).absolute() if url else existing_state_dir(state)
    known = _local_status(state_dir)
    if known["running"] and known["url"]:
        try:
            known |= _ask(shell, str(known["url"]))
        except TrishulaError as error:
            click.echo(f"the node says no more than this: {error.sentence}", err=True)
    elif url:
        known = {"running": True, "url": url, **_ask(shell, url)}
    if speaks_json(ctx):
        click.echo(json.dumps(known))
    elif known["running"]:
        _show_status(known)
    elif known["holder"]:
        click.echo(f"no node on the state directory {known['state']} is ready, and it is in use: {known['holder']}")
    else:
        click.echo(f"no node runs on the state directory {known['state']}; start one with: trishula node start")
    if not known["running"]:
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


def _connections_line(there: dict[str, int]) -> str:
    line = f"{there['joined']} joined, {there['strangers']} not yet"
    # A node of an older version tells nothing of those that it refused.
    if there.get("refused_joins"):
        line += f"; refused: {there['refused_joins']} that wanted to join"
    ended = [
        f"{there[key]} {what}"
        for key, what in (("ended_slow_readers", "that read too slowly"), ("ended_strangers", "that never joined"))
        if there[key]
    ]
    return f"{line}; ended: {', '.join(ended)}" if ended else line


def _clock_lines(known: dict[str, Any]) -> list[str]:
    """That the machine's clock was set, while the node doesn't believe it."""
    # A node of an older version tells nothing of it.
    gap_ms = known.get("clock_gap_ms", 0)
    if abs(gap_ms) < STEP_MS:
        return []
    way = "ahead of" if gap_ms > 0 else "behind"
    return [
        f"clock: the machine's is {show_duration(abs(gap_ms) / 1000)} {way} the node's; if it stays so for a minute, "
        "the node believes it"
    ]


def _readiness_lines(known: dict[str, Any]) -> list[str]:
    """Why the node is not ready, a line for each check that fails."""
    checks = known.get("readiness", {}).get("checks", ())
    return [f"not ready, {one['check']}: {one['reason']}" for one in checks if not one["ok"]]


def _local_status(state_dir: Path) -> dict[str, Any]:
    """What the files of a state directory tell."""
    said, holder = read_ready_file(state_dir), state_holder(state_dir)
    if said is None or holder is None:
        return {"running": False, "state": str(state_dir), "holder": None if holder is None else str(holder)}
    # Under crossbar start its own directory may be anywhere.
    directory = Path(str(said.pop("cbdir", state_dir / "crossbar")))
    try:
        url = listen_endpoint_of(read_config_file(directory / "config.json")).url
    except (ConfigError, LookupError):
        url = ""
    return {"running": True, "state": str(state_dir), "holder": str(holder), "url": url, **said}


def _ask(shell: State, url: str) -> dict[str, Any]:
    """What the node says of itself; nothing if there is no token to ask with."""
    named = ("TRISHULA_TOKEN", "TRISHULA_KEY_FILE", "TRISHULA_PROFILE")
    if not (shell.profile or any(os.environ.get(one) for one in named)):
        return {}
    shell.url = url
    with shell.bus(looks_only=True) as bus:
        status = cast("dict[str, Any]", bus.request(uris.NODE_STATUS))
        try:
            return {**status, "readiness": bus.request(uris.NODE_READY)}
        except TrishulaError:
            # A node of an older version has no such procedure.
            return status


def _say(line: str) -> None:
    """A line of the node's: texts of agents and of other nodes are in it."""
    click.echo(plain(line))


def _show_status(known: dict[str, Any]) -> None:
    started = local_time(known.get("started_at"), "seconds")
    where = known["url"] or "the address that its Crossbar configuration names"
    _say(f"{known.get('node', 'a node')} listens on {where} since {started}")
    if "state" in known:
        _say(f"  state {known['state']}, worker process {known.get('pid')}, epoch {known.get('epoch')}")
    if "pending" in known:
        _say(f"  agents: {known['agents']} registered, {known['present']} there")
        _say(f"  messages: {known['pending']} waiting, {known['in_flight']} being handled")
        if known.get("connections"):
            _say(f"  connections: {_connections_line(known['connections'])}")
        # A node of an older version tells nothing of it.
        if refused := [
            f"{count} {what.replace('_', ' ')}" for what, count in known.get("refused", {}).items() if count
        ]:
            _say(f"  refused, because there were enough: {', '.join(refused)}")
        for lines_of in (fallback_lines, store_lines, mirror_lines, cell_lines, grant_lines):
            for line in lines_of(known):
                _say(f"  {line}")
        for peer in known.get("peers", ()):
            _say(f"  peer {peer_line(peer)}")
            for line in link_lines(peer):
                _say(f"    {line}")
        for line in (*_clock_lines(known), *_readiness_lines(known)):
            _say(f"  {line}")
        if known.get("agents_file_fault"):
            _say(f"  agents file: {known['agents_file_fault']}")
        if known.get("serve_unwritten"):
            _say(
                f"  agents file: it doesn't say what {', '.join(known['serve_unwritten'])} may serve, so they may "
                "announce what no other agent is granted; write it down with: trishula token grant NAME --serve "
                "CAPABILITY"
            )
