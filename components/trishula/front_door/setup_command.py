"""``trishula setup``: the front door in the files of a coding agent: put in, compared, taken out."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import click

from trishula.cli.state import State, json_option
from trishula.distribution import INSTALL_MCP
from trishula.errors import TrishulaError
from trishula.exit_codes import Exit
from trishula.front_door.client_files import ClientFile, FileRefused, file_at
from trishula.front_door.coding_clients import CLIENTS, OWN_NAME, CodingClient, Launch
from trishula.homes import home_directory
from trishula.settings import load

__all__ = ["setup"]


@click.command()
@click.argument("client", type=click.Choice([*CLIENTS, "generic"]), metavar="CLIENT")
@click.option(
    "--directory", type=click.Path(file_okay=False, path_type=Path), default=".", help="The project (default: here)."
)
@click.option("--no-hooks", is_flag=True, help="Only the server, and no hooks that say when mail waits.")
@click.option(
    "--wake", "with_rewakes", is_flag=True, help="Also hooks that wake it when it is idle (claude-code alone)."
)
@click.option("--check", is_flag=True, help="Change nothing; say what is there, and end with 1 if it is not right.")
@click.option("--remove", is_flag=True, help="Take our entries out of the files.")
@json_option
@click.pass_obj
def setup(
    state: State, client: str, directory: Path, no_hooks: bool, with_rewakes: bool, check: bool, remove: bool
) -> int | None:
    """Connect a coding agent to the bus: write what it needs into its files.

    CLIENT is claude-code, codex, gemini, cursor or opencode; generic prints the lines for any other client of MCP.

    What is written are the server trishula mcp, and hooks that say when mail waits. The profile says which agent the
    client becomes. Everything else in the files stays as it is; a file that can't be read is not touched.

    \b
    Examples:
      trishula setup claude-code
      trishula --profile scout setup claude-code
      trishula --profile scout setup claude-code --check
      trishula setup claude-code --remove
    """
    if check and remove:
        raise click.UsageError("--check changes nothing, and --remove does: choose one")
    if with_rewakes and no_hooks:
        raise click.UsageError("--wake writes hooks, and --no-hooks takes them out: choose one")
    if with_rewakes and (client == "generic" or not CLIENTS[client].rewakes):
        raise click.UsageError(f"no hook wakes {client}; trishula wake does, by what it can: see trishula wake --help")
    launch = None if remove else _launch(state)
    if client == "generic":
        if launch is None or check:
            raise click.UsageError("generic prints lines and writes no file: there is nothing to check or to remove")
        click.echo(json.dumps({"mcpServers": {OWN_NAME: CLIENTS["cursor"].entry(launch)}}, indent=2))
        return None
    return _SetUp(state, CLIENTS[client], directory, with_hooks=not no_hooks, with_rewakes=with_rewakes).run(
        launch, check
    )


def _launch(state: State) -> Launch:
    profile = state.profile or os.environ.get("TRISHULA_PROFILE")
    if not profile:
        raise click.UsageError(
            "say by a profile which agent it is to be: trishula --profile NAME setup …; the tutorial 'Give your coding "
            "agent an inbox' makes one"
        )
    if "/" in profile or profile.endswith(".toml"):
        profile = str(Path(profile).expanduser().absolute())
    # What is wrong in it is said now, and not in the log of a client.
    load(profile=profile)
    found = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "trishula" else shutil.which("trishula")
    return Launch(str(Path(found).absolute()) if found else "trishula", profile)


class _SetUp:
    def __init__(
        self, state: State, client: CodingClient, project: Path, *, with_hooks: bool, with_rewakes: bool
    ) -> None:
        home = home_directory()
        if home is None and client.servers.startswith("~/"):
            raise TrishulaError(f"{client.name} keeps its file in the home directory, and there is none: set HOME")
        self._state = state
        self._client = client
        self._with_hooks = with_hooks
        self._with_rewakes = with_rewakes
        where = [client.servers, *([client.hooks] if client.hooks and client.hooks != client.servers else [])]
        self._files = [file_at(client.path(one, project, home or project)) for one in where]

    def run(self, launch: Launch | None, check: bool) -> int | None:
        """Put in, compare, or without a launch take out."""
        client = self._client
        entry = None if launch is None else client.entry(launch)
        hooks = (
            {}
            if launch is None or not self._with_hooks
            else client.hook_entries(launch, with_rewakes=self._with_rewakes)
        )
        servers, hooked = self._files[0], self._files[-1]
        if check:
            fits = entry is not None and servers.has_server(client.key, entry)
            return self._compare(fits, servers, hooked.hooks() == hooks, hooked)
        try:
            servers.set_server(client.key, entry)
            if client.hooks:
                hooked.set_hooks(hooks, client.version)
        except FileRefused as error:
            shown = "" if entry is None else f"\nby hand: {client.key}.{OWN_NAME} = {json.dumps(entry)}"
            raise FileRefused(f"{error.sentence}{shown}") from None
        # All of them were read before the first one is written.
        changed = [str(file.path) for file in self._files if file.save()]
        if self._state.json:
            self._state.line({"client": client.name, "changed": changed})
        else:
            for path in changed:
                click.echo(f"{path}: {'written' if launch is not None else 'taken out'}")
            if not changed:
                click.echo("nothing to change")
        if launch is not None and importlib.util.find_spec("mcp") is None:
            self._state.note(f"{launch.program} can't serve yet: the SDK of MCP is not installed; run: {INSTALL_MCP}")
        return None

    def _compare(self, server_fits: bool, servers: ClientFile, hooks_fit: bool, hooked: ClientFile) -> int:
        found = [(str(servers.path), "server", server_fits)]
        if self._client.hooks:
            found.append((str(hooked.path), "hooks", hooks_fit))
        if self._state.json:
            self._state.line([{"file": path, "what": what, "fits": fits} for path, what, fits in found])
        else:
            for path, what, fits in found:
                click.echo(f"{path}: {what} {'as it should be' if fits else 'missing or changed: run setup again'}")
        return Exit.OK if server_fits and hooks_fit else Exit.FAILED
