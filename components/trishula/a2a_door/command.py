"""``trishula a2a``: the door for agents of other makers, what it has on record, and an agent that speaks to one."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from trishula.cli.listening import address_of, listen
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.values import Duration
from trishula.cli.words import NOTHING, local_time, plain
from trishula.distribution import INSTALL_A2A
from trishula.homes import home_directory, state_directory
from trishula.token_file import owner_of

if TYPE_CHECKING:
    from trishula.a2a_door.ledger import Ledger, TaskRow
    from trishula.cli.tables import Table

__all__ = ["a2a"]

#: The variable of the secret for the other side: an option would stand in the list of processes.
BEARER = "TRISHULA_REMOTE_BEARER"
_STATE = click.option(
    "--state",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the door keeps its file and its key (default: a2a-door among the agents' files of this user).",
)


@click.group(cls=Group)
def a2a() -> None:
    """Speak A2A 1.0: let agents of other makers in, or reach one as an agent of the bus.

    \b
    Examples:
      trishula a2a serve --listen 8791
      trishula a2a tasks
      trishula a2a agent https://planner.example --as planner
    """


@a2a.command()
@click.option("--listen", "address", metavar="[HOST:]PORT", default="8791", show_default=True, help="Where to listen.")
@click.option(
    "--public-url", metavar="URL", help="By which URL clients call the door: that of a proxy with TLS before it."
)
@click.option("--only", "only", multiple=True, metavar="AGENT", help="Serve this agent alone; may be repeated.")
@click.option(
    "--push-to",
    "networks",
    multiple=True,
    metavar="NETWORK",
    help="Notify webhooks in this network too, which is not public, such as 10.0.0.0/8; may be repeated.",
)
@click.option(
    "--wait",
    "wait_s",
    type=Duration(least_s=0.0, most_s=3600.0),
    default="30s",
    show_default=True,
    help="How long a caller that waits for the end of its task is kept waiting.",
)
@_STATE
@json_option
@click.pass_obj
def serve(
    state: State,
    address: str,
    public_url: str | None,
    only: tuple[str, ...],
    networks: tuple[str, ...],
    wait_s: float,
    directory: Path | None,
) -> None:
    """Open the door: each agent of the bus is an agent of A2A, with a card of its own.

    The settings say where the bus is, and by which token the door asks for the agents. Whoever calls brings the token
    of an agent of its own, as its bearer token; its tasks are that agent's COMMANDs, with that agent's grants. A task
    is on a node's disk before it is submitted. It prints its address, and runs until it is told to stop.

    \b
    Examples:
      trishula a2a serve
      trishula a2a serve --only agni --public-url https://a2a.example
      trishula --profile door a2a serve --listen 8791 --push-to 10.0.0.0/8
    """
    place = address_of(address, "--listen", "--public-url")
    url = None if public_url is None else _public(public_url)
    _need_sdk("serve")
    # Late: they import Twisted, Autobahn and the SDK.
    from trishula.a2a_door.service import Service
    from trishula.a2a_door.targets import networks_of
    from trishula.a2a_door.web_server import over_http
    from trishula.settings import Settings, load

    try:
        allowed = networks_of(networks)
    except ValueError as error:
        raise click.UsageError(f"--push-to: {error}") from None
    own = load(url=state.url, profile=state.profile)

    def of_caller(token: str) -> Settings:
        # The variables and the profile may name an agent, and its key, which is somebody else here.
        found = load(url=state.url, profile=state.profile, agent=owner_of(token), token=token)
        return replace(found, keys=found.keys.of_another())

    with listen(place) as listening:
        host, port = listening.getsockname()[:2]
        here = f"{f'[{host}]' if ':' in host else host}:{port}"
        shown = url or f"http://{here}"
        hosts = {here, f"localhost:{port}", *([] if url is None else [urlsplit(url).netloc.lower()])}

        def opened() -> Service:
            return Service(own, of_caller, _directory(directory), url=shown, only=only, allowed=allowed, wait_s=wait_s)

        if state.json:
            state.line({"url": shown, "listen": f"http://{here}"})
        else:
            click.echo(shown)
        over_http(listening, sorted(hosts), opened)


@a2a.command()
@click.argument("task_id", metavar="[TASK]", required=False)
@_STATE
@json_option
@click.pass_obj
def tasks(state: State, task_id: str | None, directory: Path | None) -> None:
    """Show the door's tasks, the latest first; or one, with its events.

    With TASK it also shows what became of each notification to a webhook. It reads the door's file, so it runs on the
    door's machine, also while the door does not. A task's id is that of its COMMAND: trishula why ID tells the rest.

    \b
    Examples:
      trishula a2a tasks
      trishula a2a tasks a2a-0f3c…
      trishula a2a tasks --json
    """
    from trishula.a2a_door.ledger import Ledger

    ledger = Ledger.read(_directory(directory))
    try:
        if task_id is None:
            rows, _ = ledger.tasks({}, None, 1000)
            state.show([_facts(row) for row in rows], lambda: _table(rows))
            return
        row = ledger.task(task_id)
        if row is None:
            raise click.ClickException(f"the door has no task {task_id}; trishula a2a tasks lists those that it has")
        _show(state, ledger, row)
    finally:
        ledger.close()


def _show(state: State, ledger: Ledger, row: TaskRow) -> None:
    events, pushes = ledger.events(row.id), ledger.owed.of(row.id)
    urls = {hook.id: str(hook.config.get("url")) for hook in ledger.owed.hooks(row.id)}
    if state.json:
        state.line(
            {
                **_facts(row),
                "events": [{"number": number, "at": at_ms, **event} for number, at_ms, event in events],
                "notifications": [
                    {
                        "event": one.event,
                        "webhook": urls.get(one.hook),
                        "attempts": one.attempts,
                        "outcome": one.outcome,
                        "due_at": one.due_ms,
                        "ended_at": one.ended_ms,
                    }
                    for one in pushes
                ],
            }
        )
        return
    click.echo(f"{row.id}: {row.state}, from {row.caller} to {row.agent}, context {plain(row.context)}")
    for number, at_ms, event in events:
        what = event["status"]["state"] if "status" in event else "artifact" if "artifact" in event else "message"
        step = f" ({event['status']['stage']})" if event.get("status", {}).get("stage") else ""
        click.echo(f"  {local_time(at_ms, 'milliseconds')}  {number}  {what}{step}")
        for one in (push for push in pushes if push.event == number):
            until = "" if one.due_ms is None else f", tried again {local_time(one.due_ms, 'seconds')}"
            click.echo(
                f"    to {plain(urls.get(one.hook, NOTHING))}: {one.attempts} attempts, "
                f"{plain(one.outcome) or 'not tried yet'}{until}"
            )


def _facts(row: TaskRow) -> dict[str, object]:
    return {
        "id": row.id,
        "from": row.caller,
        "to": row.agent,
        "context": row.context,
        "state": row.state,
        "created_at": row.created_ms,
        "changed_at": row.changed_ms,
    }


def _table(rows: list[TaskRow]) -> Table:
    from trishula.cli.tables import Table

    table = Table("TASK", "FROM", "TO", "STATE", "SINCE")
    for row in rows:
        table.add_row(row.id, row.caller, row.agent, row.state, local_time(row.changed_ms, "seconds"))
    return table


@a2a.command()
@click.argument("url", metavar="URL")
@click.option("--as", "name", required=True, metavar="NAME", help="The agent of the bus that stands for it.")
@_STATE
@json_option
@click.pass_obj
def agent(state: State, url: str, name: str, directory: Path | None) -> None:
    """Stand for an agent of A2A on the bus.

    A COMMAND to NAME becomes a task at URL, and its end the answer. URL is where the other side's card is, without
    /.well-known/agent-card.json. What it wants as a bearer token is taken from TRISHULA_REMOTE_BEARER. Which COMMAND is
    which task is on disk: nothing is given twice when this process or the other side is killed. It runs until it is
    told to stop.

    \b
    Examples:
      trishula a2a agent https://planner.example --as planner
      trishula call planner plan "a trip to the sea" --timeout 10m
    """
    _need_sdk("agent")
    # Late, as above.
    from trishula.a2a_door.standing import stand
    from trishula.settings import load

    # Said before anything is made.
    load(url=state.url, profile=state.profile, agent=name)
    place = directory or _agents_directory() / name / "a2a"
    stand(url, name, os.environ.get(BEARER) or None, place, nodes=state.url, profile=state.profile)


def _public(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise click.UsageError(f"--public-url is {url!r}; it must look like https://a2a.example")
    return url.rstrip("/")


def _agents_directory() -> Path:
    try:
        found, _ = state_directory(None, os.environ, home_directory())
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if found is None:
        raise click.UsageError("there is no home directory: name a directory by --state")
    return found


def _directory(given: Path | None) -> Path:
    return given if given is not None else _agents_directory() / "a2a-door"


def _need_sdk(command: str) -> None:
    if importlib.util.find_spec("a2a") is None:
        raise click.ClickException(
            f"trishula a2a {command} needs the SDK of A2A, which is not installed; run: {INSTALL_A2A}"
        )
