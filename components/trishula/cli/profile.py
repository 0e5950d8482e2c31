"""``trishula profile``: which buses and agents this machine has profiles of, and which one is used."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.chosen_profile import NAME_RULE, choose, complete_profile, is_profile_name, profiles_in, read_chosen
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import NOTHING, plain
from trishula.homes import home_directory
from trishula.settings import PROFILE_KEYS

if TYPE_CHECKING:
    from trishula.cli.tables import Table

__all__ = ["profile"]


@click.group(cls=Group)
def profile() -> None:
    """List the profiles of this machine, and choose the one that is used.

    A profile is a file ~/.config/trishula/NAME.toml. Used is the one that --profile names, else the one of
    TRISHULA_PROFILE, else the chosen one, else ~/.config/trishula/profile.toml. TRISHULA_URL and TRISHULA_TOKEN come
    before what any profile says. Programs that use the library don't follow the choice, nor do "trishula agent run" and
    "trishula bench": an agent stays who it is, and a load goes to a bus only if you name that bus.

    \b
    Examples:
      trishula profile list
      trishula profile use office
      trishula profile previous
    """


@profile.command("list")
@json_option
@click.pass_obj
def list_(state: State) -> None:
    """List the profiles; a star marks the chosen one.

    \b
    Examples:
      trishula profile list
    """
    folder = _folder()
    chosen, _ = read_chosen(folder)
    found = [
        {"profile": name, "chosen": name == chosen, "url": told.get("url"), "agent": _agent_of(folder, told)}
        for name in profiles_in(folder)
        if (told := _read(folder, name)) is not None
    ]
    if found or state.json:
        state.show(found, lambda: _table(found))
    else:
        state.note(f"there are no profiles in {folder}")
    if chosen is not None and not any(one["chosen"] for one in found):
        state.note(f"the chosen profile {chosen} is gone; choose another one: trishula profile use NAME", "yellow")
    _tell_overrides(state)


@profile.command()
@click.argument("name", required=False, shell_complete=complete_profile)
@json_option
@click.pass_obj
def show(state: State, name: str | None) -> None:
    """Show one profile, by default the chosen one; its token is never shown.

    \b
    Examples:
      trishula profile show office
    """
    folder = _folder()
    name = name or read_chosen(folder)[0] or "profile"
    told = _existing(folder, name)
    shown: dict[str, Any] = {"profile": name, "path": str(folder / f"{name}.toml")}
    shown |= {key: "(given, and not shown)" if key in ("token", "proxy") else value for key, value in told.items()}
    state.show(shown, lambda: "\n".join(f"{key}: {plain(value)}" for key, value in shown.items()))


@profile.command()
@click.argument("name", shell_complete=complete_profile)
@json_option
@click.pass_obj
def use(state: State, name: str) -> None:
    """Choose a profile for the commands of this user on this machine.

    \b
    Examples:
      trishula profile use office
    """
    folder = _folder()
    _existing(folder, name)
    _choose(state, folder, name)


@profile.command()
@json_option
@click.pass_obj
def previous(state: State) -> None:
    """Go back to the profile that was chosen before.

    \b
    Examples:
      trishula profile previous
    """
    folder = _folder()
    _, before = read_chosen(folder)
    if before is None:
        raise click.UsageError("no profile was chosen before; choose one: trishula profile use NAME")
    _existing(folder, before)
    _choose(state, folder, before)


def _choose(state: State, folder: Path, name: str) -> None:
    try:
        choose(folder, name)
    except OSError as error:
        raise click.ClickException(f"the choice can't be written to {folder}: {error.strerror}") from None
    state.show({"profile": name}, lambda: f"commands use the profile {name} from now on")
    _tell_overrides(state)


def _tell_overrides(state: State) -> None:
    if os.environ.get("TRISHULA_PROFILE"):
        state.note("TRISHULA_PROFILE names another one here, and comes before the choice; unset it", "yellow")
    named = [name for name in ("TRISHULA_URL", "TRISHULA_TOKEN", "TRISHULA_AGENT") if os.environ.get(name)]
    if named:
        state.note(f"{' and '.join(named)} come before what the profile says here; unset them to use it", "yellow")


def _folder() -> Path:
    home = home_directory()
    if home is None:
        raise click.UsageError("profiles are below the home directory, and there is none; give --profile a path")
    return home / ".config" / "trishula"


def _existing(folder: Path, name: str) -> dict[str, Any]:
    if not is_profile_name(name):
        raise click.UsageError(f"NAME is {name!r}; a profile's name is {NAME_RULE}")
    told = _read(folder, name)
    if told is None:
        raise click.UsageError(f"there is no profile {name}, or it can't be read: {folder / f'{name}.toml'}")
    return told


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    """What a profile says; ``None`` if there is none of that name: other programs' files lie there too."""
    try:
        told = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return told if set(told) <= set(PROFILE_KEYS) else None


def _agent_of(folder: Path, told: dict[str, Any]) -> str | None:
    from trishula.token_file import owner_of, read_token

    if "agent" in told:
        return str(told["agent"])
    try:
        token = told["token"] if "token" in told else read_token(folder / Path(str(told["token_file"])).expanduser())
    except (KeyError, ValueError, RuntimeError):
        return None
    return owner_of(str(token))


def _table(found: list[dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table(" ", "Profile", "Agent", "Nodes")
    for one in found:
        url = one["url"]
        nodes = ", ".join(map(str, url)) if isinstance(url, list) else url
        table.add_row(
            "*" if one["chosen"] else " ",
            plain(one["profile"]),
            plain(one["agent"] or NOTHING),
            plain(nodes or NOTHING),
        )
    return table
