"""``trishula node start``: find out what would go wrong, start the node, stay with it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import queue
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import click

from trishula.cli.log_options import chosen_log, log_options
from trishula.cli.state import json_option
from trishula.exit_codes import Exit
from trishula.homes import expanded
from trishula_router.agents.file import KEPT_FILE, AgentsFileError, load_agents
from trishula_router.commands.service_manager import Reporter, ask_ready
from trishula_router.commands.state_dir import (
    CommandFailed,
    default_state_dir,
    hold_state_dir,
    open_state_dir,
    require_crossbar,
    speaks_json,
)
from trishula_router.commands.supervisor import (
    NodeFailed,
    PortTaken,
    Supervisor,
    free_port,
    try_to_listen,
)
from trishula_router.launcher import worker_program
from trishula_router.privacy import NotPrivate, close_files
from trishula_router.settings.check import check_config, read_config_file
from trishula_router.settings.check_endpoints import OPEN_RULE, is_loopback
from trishula_router.settings.crossbar_config import (
    Json,
    ListenEndpoint,
    effective_config,
    listen_endpoint_of,
    options_of,
    render_config,
)
from trishula_router.settings.faults import ConfigError, Fault
from trishula_router.settings.options import NodeConfig, parse_options

__all__ = ["load_config", "start"]

#: How often another free port is tried when somebody took the one just found.
_PORT_ATTEMPTS = 5


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The node's configuration: Crossbar's JSON (default: the shipped single.json).",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="The node's state directory (default: as the configuration says; else $TRISHULA_STATE, else "
    "~/.local/state/trishula).",
)
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on; 0 takes a free one.")
@click.option("--listen", metavar="ADDRESS", help="The address to listen on (default: as the configuration says).")
@log_options
@json_option
@click.pass_context
def start(
    ctx: click.Context,
    config: Path | None,
    state: Path | None,
    port: int | None,
    listen: str | None,
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Start a node and stay until it is stopped.

    The first line on standard output is the address it listens on, once it is ready (with --json: an object with url,
    state and pid). In a terminal it says as well where the dashboard is. Ctrl-C, SIGTERM and SIGINT stop it. Its log is
    node.log in the state directory.

    \b
    Examples:
      trishula node start
      trishula node start --state ./state --port 0
      trishula node start --config node.json
    """
    require_crossbar()
    log = chosen_log(log_format, log_level, "warning")
    raw, base = load_config(config)
    _complain(check_config(raw, base=base))
    if state is None:
        state = default_state_dir(os.environ) if config is None else base / expanded(options_of(raw)["state"])
    state_dir = open_state_dir(state)
    with hold_state_dir(state_dir, "trishula node start"):
        from trishula_router.store.sqlite.ballast import make_room_to_start

        _close_files(state_dir)
        make_room_to_start(state_dir)
        options = _options(raw, base, state_dir)
        _preflight(options)
        written = listen_endpoint_of(raw, base)
        wanted = dataclasses.replace(
            written, host=written.host if listen is None else listen, port=written.port if port is None else port
        )
        if wanted.certificate is None and not options.trusted_network and not is_loopback(wanted.host):
            raise CommandFailed(
                f"the node must not listen on {wanted.host or 'all addresses'}: {OPEN_RULE}", Exit.CONFIG
            )
        supervisor = _start(raw, base, state_dir, wanted, speaks_json(ctx), (options.node, *log))
        if supervisor is not None:
            _stay(supervisor)


def _options(raw: Json, base: Path, state_dir: Path) -> NodeConfig:
    """The options with the state directory that was chosen, for whose socket the path may be too long."""
    try:
        return parse_options({**options_of(raw), "state": str(state_dir)}, base=base, path="extra")
    except ConfigError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None


def _stay(supervisor: Supervisor) -> None:
    """Wait until the node ends, and tell systemd of it meanwhile."""
    reporter = Reporter.of(os.environ, lambda: ask_ready(supervisor.address))

    def look() -> None:
        if supervisor.asked_to_stop:
            reporter.stopping()
        else:
            reporter.look()

    try:
        supervisor.supervise(look)
    except NodeFailed as error:
        reporter.failed(str(error))
        raise CommandFailed(str(error)) from None


def _start(
    raw: Json, base: Path, state_dir: Path, wanted: ListenEndpoint, as_json: bool, log: tuple[str, str, str]
) -> Supervisor | None:
    """Start it and say so; ``None`` if it was stopped before it was ready. Port 0 takes a free one.

    Args:
        log: for its log, the node's name, the form of lines and the level.
    """
    for attempt in range(_PORT_ATTEMPTS):
        try:
            address = wanted if wanted.port else dataclasses.replace(wanted, port=free_port(wanted.host))
            try_to_listen(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                if not wanted.port and attempt + 1 < _PORT_ATTEMPTS:
                    continue
                raise CommandFailed(_in_use(wanted)) from None
            raise CommandFailed(_not_here(wanted, error)) from None
        _write_crossbar_dir(state_dir / "crossbar", raw, base, address)
        supervisor = Supervisor(state_dir, address, *log)
        supervisor.stop_on_signals()
        try:
            supervisor.start()
            supervisor.wait_ready()
        except PortTaken:
            if wanted.port or attempt + 1 == _PORT_ATTEMPTS:
                raise CommandFailed(_in_use(address)) from None
            continue
        except NodeFailed as error:
            raise CommandFailed(str(error)) from None
        if supervisor.asked_to_stop:
            return supervisor
        if as_json:
            click.echo(json.dumps({"url": address.url, "state": str(state_dir), "pid": os.getpid()}))
        else:
            click.echo(address.url)
            if sys.stderr.isatty():
                # For whom it may concern: a program reads the first line alone.
                click.echo(f"The dashboard is at {address.page}", err=True)
        return supervisor
    return None


def _write_crossbar_dir(directory: Path, raw: Json, base: Path, address: ListenEndpoint) -> None:
    python = directory / "worker-python"
    effective = effective_config(raw, base=base, state_dir=directory.parent, address=address, python=python)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        _write(python, worker_program(), 0o700)
        _write(directory / "config.json", render_config(effective), 0o600)
    except OSError as error:
        raise CommandFailed(f"Crossbar's directory {directory} can't be written: {error.strerror}") from None


def _write(file: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all; what is in it already needs no room on a full disk."""
    with contextlib.suppress(OSError, ValueError):
        if file.read_text(encoding="utf-8") == text:
            return
    new = file.with_name(file.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.chmod(mode)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _in_use(address: ListenEndpoint) -> str:
    return (
        f"port {address.port} of {address.host or 'this machine'} is in use; stop what uses it, name another with "
        "--port, or take a free one with --port 0"
    )


def _not_here(address: ListenEndpoint, error: OSError) -> str:
    where = f"on {address.host}" if address.host else "on this machine"
    if error.errno == errno.EACCES:
        return (
            f"the node can't listen {where}, port {address.port}: {error.strerror}; ports below 1024 need a privilege, "
            "so name another with --port"
        )
    return f"the node can't listen {where}: {error.strerror}; name another with --listen"


def _close_files(state_dir: Path) -> None:
    try:
        closed = close_files(state_dir)
    except NotPrivate as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if closed:
        click.echo(f"trishula: others on this machine could open {', '.join(closed)}; closed to them now", err=True)


def _preflight(options: NodeConfig) -> None:
    """Find out what would end the node at once, while we can still say it in a sentence."""
    try:
        _, fault = load_agents(options.agents_file, options.state_dir / KEPT_FILE)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if fault is not None:
        click.echo(f"trishula: {fault}", err=True)
    from trishula_router.store.interface import StoreError
    from trishula_router.store.sqlite.connection import FILE_NAME
    from trishula_router.store.sqlite.opening import open_store

    if not (options.state_dir / FILE_NAME).exists():
        return
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    try:
        store = open_store(
            options.state_dir,
            new_epoch=lambda: "unused: the store has one",
            call_in_reactor=calls.put,
            limit_bytes=options.limits.store_bytes,
            how="trishula node start",
        )
    except StoreError as error:
        raise CommandFailed(str(error)) from None
    # The worker is about to open it: it must be closed by then.
    closed: list[object] = []
    store.close().addBoth(closed.append)
    while not closed:
        calls.get()()


def load_config(config: Path | None) -> tuple[Json, Path]:
    """The configuration and the directory that its relative paths start from."""
    try:
        if config is not None:
            return read_config_file(config), config.absolute().parent
        with as_file(files("trishula_router.config") / "single.json") as shipped:
            return read_config_file(shipped), shipped.parent
    except ConfigError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None


def _complain(faults: tuple[Fault, ...]) -> None:
    if faults:
        raise CommandFailed(str(ConfigError(faults)), Exit.CONFIG)
