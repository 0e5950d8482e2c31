"""``trishula node``: start a node, check its configuration, ask how it is."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

import click

from trishula.cli.exits import Exit
from trishula.cli.state import json_option
from trishula_router.agents_file import AgentsFileError, read_agents
from trishula_router.commands.state import (
    CommandFailed,
    default_state_dir,
    hold_state_dir,
    open_state_dir,
    speaks_json,
    state_is_held,
)
from trishula_router.commands.supervisor import (
    NodeFailed,
    PortTaken,
    Supervisor,
    free_port,
    port_is_free,
    read_ready_file,
)
from trishula_router.config_check import check_config, check_with_crossbar, read_config_file
from trishula_router.effective import Address, Json, address_of, effective_config, options_of, render_config
from trishula_router.launcher import worker_program
from trishula_router.options import ConfigError, Fault, NodeConfig, parse_options

__all__ = ["node"]

#: How often another free port is tried when somebody took the one just found.
_PORT_ATTEMPTS = 5


@click.group()
def node() -> None:
    """Start a node, check its configuration, ask how it is."""


@node.command()
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
@json_option
@click.pass_context
def start(ctx: click.Context, config: Path | None, state: Path | None, port: int | None, listen: str | None) -> None:
    """Start a node and stay until it is stopped.

    The first line on standard output is the address it listens on, once it is ready (with --json: an object with url,
    state and pid). Ctrl-C, SIGTERM and SIGINT stop it. Its log is node.log in the state directory.
    """
    raw, base = _load(config)
    _complain(check_config(raw, base=base))
    if state is None:
        state = default_state_dir(os.environ) if config is None else base / options_of(raw)["state"]
    state_dir = open_state_dir(state)
    with hold_state_dir(state_dir):
        options = parse_options({**options_of(raw), "state": str(state_dir)}, base=base, path="extra")
        _preflight(options)
        written = address_of(raw)
        host = written.host if listen is None else listen
        wanted = written.port if port is None else port
        supervisor = _start(raw, base, state_dir, host, wanted, speaks_json(ctx))
        if supervisor is not None:
            try:
                supervisor.supervise()
            except NodeFailed as error:
                raise CommandFailed(str(error)) from None


def _start(raw: Json, base: Path, state_dir: Path, host: str, wanted: int, as_json: bool) -> Supervisor | None:
    """Start it and say so; ``None`` if it was stopped before it was ready."""
    for attempt in range(_PORT_ATTEMPTS):
        try:
            address = Address(host, wanted or free_port(host))
        except OSError as error:
            raise CommandFailed(
                f"the node can't listen on {host}: {error.strerror}; name another with --listen"
            ) from None
        if wanted and not port_is_free(address):
            raise CommandFailed(_in_use(address))
        _write_crossbar_dir(state_dir / "crossbar", raw, base, address)
        supervisor = Supervisor(state_dir, address)
        supervisor.stop_on_signals()
        try:
            supervisor.start()
            supervisor.wait_ready()
        except PortTaken:
            if wanted or attempt + 1 == _PORT_ATTEMPTS:
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
        return supervisor
    return None


def _write_crossbar_dir(directory: Path, raw: Json, base: Path, address: Address) -> None:
    python = directory / "worker-python"
    effective = effective_config(raw, base=base, state_dir=directory.parent, address=address, python=python)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        python.write_text(worker_program(), encoding="utf-8")
        python.chmod(0o700)
        (directory / "config.json").write_text(render_config(effective), encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"Crossbar's directory {directory} can't be written: {error.strerror}") from None


def _in_use(address: Address) -> str:
    return (
        f"port {address.port} of {address.host or 'this machine'} is in use; stop what uses it, name another with "
        "--port, or take a free one with --port 0"
    )


def _preflight(options: NodeConfig) -> None:
    """Find out what would end the node at once, while we can still say it in a sentence."""
    try:
        read_agents(options.agents_file)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    from trishula_router.store import StoreError
    from trishula_router.store.sqlite import FILE_NAME, open_store

    if not (options.state_dir / FILE_NAME).exists():
        return
    try:
        store = open_store(
            options.state_dir,
            new_epoch=lambda: "unused: the store has one",
            call_in_reactor=lambda call: call(),
            limit_bytes=options.limits.store_bytes,
        )
    except StoreError as error:
        raise CommandFailed(str(error)) from None
    closed = threading.Event()
    store.close().addBoth(lambda _: closed.set())
    closed.wait(10.0)


def _load(config: Path | None) -> tuple[Json, Path]:
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


@node.command()
@click.argument("files_", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(ctx: click.Context, files_: tuple[Path, ...]) -> None:
    """Check configurations: all faults of all files at once, ours and Crossbar's.

    Exit code 0 only if there are none. With --json: a list of objects with file and faults.
    """
    found = {path: faults_of(path) for path in files_}
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
    """Say whether a node runs on the state directory, and on which address.

    Exit code 6 (no node could be reached) if none does.
    """
    state_dir = (state or default_state_dir(os.environ)).absolute()
    said = read_ready_file(state_dir)
    running = said is not None and state_is_held(state_dir)
    known: dict[str, object] = {"running": running, "state": str(state_dir)}
    if running and said is not None:
        known |= said
        known["url"] = _address_in_use(state_dir)
    if speaks_json(ctx):
        click.echo(json.dumps(known))
    elif running:
        started = datetime.fromtimestamp(float(str(known.get("started_at", 0))) / 1000, UTC)
        click.echo(f"{known.get('node')} listens on {known['url']} since {started:%Y-%m-%d %H:%M:%S UTC}")
        click.echo(f"  state {state_dir}, worker process {known.get('pid')}, epoch {known.get('epoch')}")
    else:
        click.echo(f"no node runs on the state directory {state_dir}; start one with: trishula node start")
    if not running:
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


def _address_in_use(state_dir: Path) -> str | None:
    try:
        return address_of(read_config_file(state_dir / "crossbar" / "config.json")).url
    except (ConfigError, LookupError):
        return None
