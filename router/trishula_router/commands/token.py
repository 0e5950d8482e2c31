"""``trishula token``: who may join the node.

The commands change ``agents.json`` in the state directory and nothing else, so that they work before the node is
started as well as while it runs: the node notices the change by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.cli.usage import Group
from trishula.cli.values import Duration
from trishula.cli.words import local_time
from trishula.contract.addresses import AGENT_RULE, CAPABILITY_RULE, is_agent_name
from trishula.exit_codes import Exit
from trishula_router.agents.file import KEPT_FILE, AgentRecord, AgentsFileError, read_agents, update_agents
from trishula_router.agents.text import ANYBODY, is_servable
from trishula_router.agents.tokens import TokenRecord, digest_of, new_token, with_new_token
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    default_state_dir,
    existing_state_dir,
    keep_files_private,
    open_state_dir,
    speaks_json,
)

__all__ = ["token"]

_STATE_HELP = "The node's state directory (default: $TRISHULA_STATE, else ~/.local/state/trishula)."


@click.group(cls=Group)
@click.pass_context
def token(ctx: click.Context) -> None:
    """Make and list the tokens with which agents join a node."""
    keep_files_private(ctx)


@token.command("new")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=_STATE_HELP)
@click.option("--operator/--no-operator", default=None, help="Whether the agent may ask about everybody's messages.")
@click.option(
    "--observer/--no-observer",
    default=None,
    help="Whether the agent may ask how everybody's messages stand, without seeing what is in them.",
)
@click.option(
    "--serve",
    metavar="CAPABILITY",
    multiple=True,
    help='What the agent may announce: a capability, or "*"; may be repeated.',
)
@click.option(
    "--expires-in",
    "expires_in_s",
    type=Duration(least_s=0.001),
    metavar="DURATION",
    help='How long the token is valid, such as "30d" (default: for ever).',
)
@click.option(
    "--replace",
    is_flag=True,
    help="If the agent has two valid tokens, end the older one, and the sessions that joined with it.",
)
@click.option(
    "--write",
    "token_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the token into FILE (mode 0600), and don't show it.",
)
@json_option
@click.pass_context
def new_command(
    ctx: click.Context,
    name: str,
    state: Path | None,
    operator: bool | None,
    observer: bool | None,
    serve: tuple[str, ...],
    expires_in_s: float | None,
    replace: bool,
    token_file: Path | None,
) -> None:
    """Make a token for the agent NAME, and register the agent if it is new.

    A new agent may send to and call everybody, and serves no capability but those that --serve names; for an agent that
    is registered, --serve adds to what it may serve (see trishula token grant). A new observer may send to and call
    nobody.

    The token is shown once; the node keeps its hash. An agent has at most two valid tokens, so that a new one can be
    handed out before the old one goes. A third is refused, because the older one would have to end: with --replace it
    does, and with it the sessions that joined with it. With --json: an object with agent, agents_file, and token (or
    token_file, with --write).

    \b
    Examples:
      trishula token new dc
      trishula token new agni --serve host --expires-in 30d
      trishula token new admin --operator --write admin.token
      trishula token new wallboard --observer
    """
    if not is_agent_name(name):
        raise CommandFailed(f'"{name}" is no agent\'s name: that is {AGENT_RULE}', Exit.USAGE)
    _check_capabilities("--serve", serve)
    now_s = time.time()
    expires_at = None if expires_in_s is None else now_s + expires_in_s
    state_dir = (state or default_state_dir(os.environ)).absolute()
    warning = _warn_of_a_new_place(state_dir)
    open_state_dir(state_dir)
    path = agents_file_of(state_dir)
    made = new_token(name, secrets.token_urlsafe)
    new = TokenRecord(digest_of(made), now_s, None, expires_at)
    with contextlib.ExitStack() as cleanup:
        try:
            with update_agents(path, state_dir / KEPT_FILE) as agents:
                fresh = AgentRecord(send=(), call=(), serve=()) if observer else AgentRecord(serve=())
                record = agents.get(name, fresh)
                is_new = name not in agents
                kept, _ = with_new_token(record.tokens, new, now_s)
                ended = [token for token in record.tokens if token not in kept and not token.is_over(now_s)]
                if ended and not replace:
                    raise CommandFailed(_too_many(name, path, record.tokens, now_s))
                agents[name] = dataclasses.replace(
                    record,
                    tokens=kept,
                    operator=record.operator if operator is None else operator,
                    observer=record.observer if observer is None else observer,
                    serve=_with_more(record.serve, serve),
                )
                # Whole on the disk before the token is good, and in place once it is.
                written = None if token_file is None else _write_beside(token_file, made, cleanup)
        except AgentsFileError as error:
            raise CommandFailed(str(error), Exit.CONFIG) from None
        if written is not None and token_file is not None:
            try:
                written.replace(token_file)
            except OSError as error:
                raise _not_written(token_file, error) from None
    if warning is not None:
        click.echo(warning, err=True)
    for token in ended:
        click.echo(
            f"the token {_id_of(token)} of {name} is not valid any more, and the sessions that joined with it end",
            err=True,
        )
    waiting, dead = _mail_from_before(state_dir, name) if is_new else (0, 0)
    if speaks_json(ctx):
        where: dict[str, str | int] = {"token": made} if token_file is None else {"token_file": str(token_file)}
        if waiting or dead:
            where.update(waiting=waiting, dead=dead)
        click.echo(json.dumps({"agent": name, "agents_file": str(path), **where}))
        return
    done = f"the agent {name} is registered in {path}" if is_new else f"the agent {name} has a new token in {path}"
    if token_file is None:
        click.echo(made)
        click.echo(
            f"{done}. Its token stands above, and is shown this one time: keep it, and use it with: export "
            f"TRISHULA_TOKEN={name}.…",
            err=True,
        )
    else:
        click.echo(f"{done}. Its token is in {token_file}", err=True)
    if waiting:
        click.echo(
            f"there was an agent {name} before: {waiting} messages to it wait, and whoever joins with this token gets "
            f"them; an operator can end them with: trishula inbox purge {name}",
            err=True,
        )
    if dead:
        click.echo(
            f"there was an agent {name} before: {dead} messages to it are dead letters: trishula dead list --agent "
            f"{name}",
            err=True,
        )


def _check_capabilities(option: str, capabilities: tuple[str, ...]) -> None:
    for one in capabilities:
        if not is_servable(one):
            raise CommandFailed(
                f'{option} is "{one}"; it must be "*" or the name of a capability: {CAPABILITY_RULE}', Exit.USAGE
            )


def _with_more(serve: tuple[str, ...] | None, more: tuple[str, ...]) -> tuple[str, ...] | None:
    """What an agent may serve, and more; nothing changes if that is nothing."""
    return tuple(dict.fromkeys((*(serve or ()), *more))) if more else serve


@token.command("grant")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=_STATE_HELP)
@click.option("--serve", metavar="CAPABILITY", multiple=True, help='A capability that the agent may announce, or "*".')
@click.option(
    "--no-serve",
    "withdrawn",
    metavar="CAPABILITY",
    multiple=True,
    help='A capability that the agent may announce no more; "*": it may announce none.',
)
@json_option
@click.pass_context
def grant_command(
    ctx: click.Context, name: str, state: Path | None, serve: tuple[str, ...], withdrawn: tuple[str, ...]
) -> None:
    """Change which capabilities the agent NAME may announce, and so be handed messages to.

    Both options may be repeated; --no-serve is done first. A node that runs heeds it within a second: who is granted a
    capability attaches anew to announce it (it is refused as a whole otherwise), and to whom it is withdrawn no further
    message goes. With --json: an object with agent, agents_file and serve.

    \b
    Examples:
      trishula token grant agni --serve host --serve deploy
      trishula token grant agni --no-serve "*" --serve host      host, and nothing else
    """
    _check_capabilities("--serve", serve)
    _check_capabilities("--no-serve", withdrawn)
    if not serve and not withdrawn:
        raise CommandFailed(f"say what {name} may serve: --serve CAPABILITY, --no-serve CAPABILITY", Exit.USAGE)
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    try:
        if not path.exists():
            raise CommandFailed(_no_agent(name, path), Exit.NOT_FOUND)
        with update_agents(path, state_dir / KEPT_FILE) as agents:
            record = agents.get(name)
            if record is None:
                raise CommandFailed(_no_agent(name, path), Exit.NOT_FOUND)
            kept = () if ANYBODY in withdrawn else tuple(one for one in record.serve or () if one not in withdrawn)
            granted = _with_more(kept, serve) or ()
            agents[name] = dataclasses.replace(record, serve=granted)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if speaks_json(ctx):
        click.echo(json.dumps({"agent": name, "agents_file": str(path), "serve": list(granted)}))
        return
    click.echo(f"{name} may serve {', '.join(granted) or 'nothing'}, in {path}", err=True)


def _no_agent(name: str, path: Path) -> str:
    return f"there is no agent {name} in {path}; register it with: trishula token new {name}"


def _mail_from_before(state_dir: Path, name: str) -> tuple[int, int]:
    """What waits for an agent of that name, and what is dead, from the time when there was one before."""
    # Late: most commands here need no store.
    from trishula_router.store.interface import StoreError
    from trishula_router.store.sqlite.connection import FILE_NAME
    from trishula_router.store.sqlite.files import mail_of

    try:
        return mail_of(state_dir / FILE_NAME, name)
    except StoreError:
        # There is none yet, or its node will say what is wrong with it.
        return 0, 0


def _warn_of_a_new_place(state_dir: Path) -> str | None:
    """What is to be said of a state directory that no node has used: its name may be mistyped."""
    if any((state_dir / sign).exists() for sign in ("node.sqlite", "crossbar/config.json")):
        return None
    made = "" if state_dir.exists() else "which was made now; "
    return (
        f"no node has ever run on the state directory {state_dir}, {made}the token is good for the first that does. If "
        "one runs already, name its directory with --state"
    )


def _too_many(name: str, path: Path, tokens: tuple[TokenRecord, ...], now_s: float) -> str:
    alive = [f"{_id_of(token)} made {_shown_here(token.created_at)}" for token in tokens if not token.is_over(now_s)]
    return (
        f"{name} has {len(alive)} valid tokens in {path}, {', '.join(alive)}: a further one would end the oldest, and "
        "the sessions that joined with it. Use one of those, or run this again with --replace if that is meant"
    )


def _write_beside(path: Path, token: str, cleanup: contextlib.ExitStack) -> Path:
    """The token in a file beside ``path``, to be moved there; gone at the end if it wasn't."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        cleanup.callback(temporary.unlink, missing_ok=True)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _not_written(path, error) from None
    return temporary


def _not_written(path: Path, error: OSError) -> CommandFailed:
    return CommandFailed(f"the token can't be written into {path}: {error.strerror}", Exit.CONFIG)


@token.command("list")
@click.option("--state", type=click.Path(path_type=Path), help=_STATE_HELP)
@json_option
@click.pass_context
def list_command(ctx: click.Context, state: Path | None) -> None:
    """List who may join the node, with grants and the ages of tokens.

    The tokens themselves are nowhere: the node keeps their hashes.

    \b
    Examples:
      trishula token list
      trishula token list --state /var/lib/trishula --json
    """
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    try:
        agents = read_agents(path)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    now_s = time.time()
    rows = [
        {
            "agent": name,
            "operator": record.operator,
            "observer": record.observer,
            "send": list(record.send),
            "call": list(record.call),
            "serve": None if record.serve is None else list(record.serve),
            "tokens": [_describe(item, now_s) for item in record.tokens],
        }
        for name, record in sorted(agents.items())
    ]
    if speaks_json(ctx):
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo(f"no agents in {path}; make one with: trishula token new NAME", err=True)
    for name, record in sorted(agents.items()):
        role = "operator" if record.operator else "observer" if record.observer else "agent"
        serves = "what no other is granted (its record is of an earlier release: trishula token grant)"
        if record.serve is not None:
            serves = ", ".join(record.serve) or "nothing"
        click.echo(
            f"{name}  {role}  may send to {_join(record.send)}; may call {_join(record.call)}; may serve {serves}"
        )
        for item in record.tokens:
            fact = _describe(item, now_s)
            until = "" if item.expires_at is None else f", until {_shown_here(item.expires_at)}"
            click.echo(f"  {fact['id']}  {fact['state']}  made {_shown_here(item.created_at)}{until}")


def _describe(record: TokenRecord, now_s: float) -> dict[str, str | None]:
    state = "expired" if record.is_over(now_s) else "not yet valid" if record.is_early(now_s) else "valid"
    return {
        "id": _id_of(record),
        "state": state,
        "created_at": _show(record.created_at),
        "not_before": _show(record.not_before),
        "expires_at": _show(record.expires_at),
    }


def _id_of(record: TokenRecord) -> str:
    """Enough of the hash to tell tokens apart, and to name one."""
    return record.sha256[:8]


def _show(instant_s: float | None) -> str | None:
    return None if instant_s is None else datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown_here(instant_s: float | None) -> str:
    """For people: as all times are printed."""
    return local_time(None if instant_s is None else instant_s * 1000, "seconds")


def _join(grants: tuple[str, ...]) -> str:
    return ", ".join(grants) or "nobody"
