"""``trishula key``: an agent's own key, and the keys of others that count here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trishula.cli.known import require_agent_name
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.profile_file import SettingsInvalid

if TYPE_CHECKING:
    from trishula.known_keys import KnownKeys

__all__ = ["key"]


@click.group(cls=Group)
def key() -> None:
    """Make the key by which an agent proves itself, and say whose keys count here.

    The file of "new" is the agent's secret, and stays on its machine. The public key, which "new" and "show" print, is
    for others: they write it down as this agent's, by "trust". An agent may have two at a time, so that it can change
    them without a break.
    """


@key.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_obj
def new(state: State, file: Path) -> None:
    """Make a key in FILE, for its owner alone; a file that is there is not replaced.

    \b
    Examples:
      trishula key new ~/.config/trishula/agni.key
    """
    from trishula.key_file import new_key_file

    try:
        public = new_key_file(file).public
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    state.show({"file": str(file), "key": public}, lambda: public)


@key.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_obj
def show(state: State, file: Path | None) -> None:
    """Print the public key of FILE, or of your own key_file; it is no secret.

    \b
    Examples:
      trishula key show ~/.config/trishula/agni.key
    """
    from trishula.key_file import read_key_file

    chosen = file or _own(state, "key_file")
    try:
        public = read_key_file(chosen).public
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    state.show({"file": str(chosen), "key": public}, lambda: public)


_trusted_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of trusted keys; by default your trusted_keys.",
)


@key.command()
@click.argument("agent")
@click.argument("public", metavar="KEY")
@_trusted_option
@json_option
@click.pass_obj
def trust(state: State, agent: str, public: str, file: Path | None) -> None:
    """Have what AGENT signs by KEY count here, beside the keys of it that count already.

    KEY is what "trishula key show" prints on the agent's machine. Have it told by somebody you believe, not by a node.
    Agents that run here heed it with the next message.

    \b
    Examples:
      trishula key trust dc 0f3a…
    """
    key = _read_key(agent, public)
    chosen = file or _own(state, "trusted_keys")
    is_new = _known(chosen).trust(agent, key)
    told = {"agent": agent, "key": key.hex(), "file": str(chosen), "new": is_new}
    state.show(told, lambda: f"what {agent} signs by that key counts here{'' if is_new else ', as before'}")


@key.command()
@click.argument("agent")
@click.argument("public", metavar="KEY")
@_trusted_option
@json_option
@click.pass_obj
def distrust(state: State, agent: str, public: str, file: Path | None) -> None:
    """Have what AGENT signs by KEY count here no more.

    \b
    Examples:
      trishula key distrust dc 0f3a…
    """
    key = _read_key(agent, public)
    chosen = file or _own(state, "trusted_keys")
    if not _known(chosen).forget(agent, key):
        raise click.UsageError(f"{chosen} has no such key of {agent}; 'trishula key list' prints those that it has")
    told = {"agent": agent, "key": key.hex(), "file": str(chosen)}
    state.show(told, lambda: f"what {agent} signs by that key counts here no more")


@key.command("list")
@_trusted_option
@json_option
@click.pass_obj
def list_(state: State, file: Path | None) -> None:
    """List the keys that count here, a line for each.

    \b
    Examples:
      trishula key list
    """
    chosen = file or _own(state, "trusted_keys")
    agents = sorted(_known(chosen).agents().items())
    found = [{"agent": agent, "key": one.hex()} for agent, keys in agents for one in keys]
    if found or state.json:
        state.show(found, lambda: "\n".join(f"{one['agent']} {one['key']}" for one in found))
    else:
        state.note(f"{chosen} has no keys; write one there: trishula key trust AGENT KEY")


def _read_key(agent: str, public: str) -> bytes:
    from trishula.known_keys import KEY_BYTES, is_key

    require_agent_name(agent, "AGENT")
    if not is_key(public.lower()):
        raise click.UsageError(
            f"KEY is {public!r}; it must be {2 * KEY_BYTES} hexadecimal digits, as 'trishula key show' prints them"
        )
    return bytes.fromhex(public)


def _known(path: Path) -> KnownKeys:
    from trishula.known_keys import KnownKeys

    return KnownKeys(path, SettingsInvalid, "trishula key trust")


def _own(state: State, name: str) -> Path:
    """The file that the settings of this command line name."""
    from trishula.settings import load

    keys = load(url=state.url, profile=state.profile).keys
    found = keys.trusted_keys if name == "trusted_keys" else next(iter(keys.key_files), None)
    if found is None:
        raise click.UsageError(
            f"no file is given, and neither your profile has {name} nor TRISHULA_{name.upper()} is set: name the file"
        )
    return found
