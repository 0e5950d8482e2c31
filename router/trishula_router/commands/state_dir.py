"""The state directory, as all commands of a node find it, and the locks that keep two nodes from sharing one.

Where it is: ``--state``; else the ``state`` of the configuration that ``--config`` names; else ``TRISHULA_STATE``; else
``$XDG_STATE_HOME/trishula``, which is ``~/.local/state/trishula``. A directory below the current one would be another
one in each terminal: a token made in one would be unknown to the node started in the other.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State
from trishula.distribution import INSTALL_NODE
from trishula.exit_codes import Exit
from trishula.homes import expanded
from trishula_router.privacy import NotPrivate, check_directory, keep_private

if TYPE_CHECKING:
    from trishula_router.agents.change_notes import Author
    from trishula_router.agents.text import AgentEntry
    from trishula_router.store.sqlite.holding import Holder

__all__ = [
    "CommandFailed",
    "agents_file_of",
    "agents_to_change",
    "check_agents_file",
    "default_state_dir",
    "existing_state_dir",
    "hold_state_dir",
    "keep_files_private",
    "open_state_dir",
    "peers_of",
    "shares_agents",
    "require_crossbar",
    "speaks_json",
    "state_holder",
]


_LOCK_FILE = "node.lock"


class CommandFailed(click.ClickException):
    """A command that ends with a sentence and an exit code."""

    def __init__(self, sentence: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = int(exit_code)  # type: ignore[misc]  # Click declares it for the class, and reads it from here


def require_crossbar() -> None:
    """Refuse to go on in an environment that only an agent needs.

    Raises:
        CommandFailed: Crossbar is not installed.
    """
    # Looked for and not imported, which takes seconds.
    if importlib.util.find_spec("crossbar") is None:
        raise CommandFailed(
            f"a node runs in Crossbar, which is not installed in this environment; install it with: {INSTALL_NODE}"
        )


def speaks_json(ctx: click.Context) -> bool:
    """Whether ``--json`` was given."""
    return ctx.ensure_object(State).json


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """The state directory if neither an option nor a configuration names one.

    Raises:
        CommandFailed: it would be below a home directory that is unknown.
    """
    try:
        if named := environment.get("TRISHULA_STATE"):
            return expanded(named)
        return expanded(environment.get("XDG_STATE_HOME") or "~/.local/state") / "trishula"
    except ValueError as error:
        raise CommandFailed(f"there is no state directory: {error}, as --state or in TRISHULA_STATE") from None


def existing_state_dir(state: Path | None) -> Path:
    """The state directory that a command reads or changes, and doesn't make; its absolute path.

    Args:
        state: what ``--state`` says, if anything.

    Raises:
        CommandFailed: there is no such directory.
    """
    state_dir = (state or default_state_dir(os.environ)).absolute()
    if not state_dir.is_dir():
        what = "is no directory" if state_dir.exists() else "is not there"
        raise CommandFailed(
            f"the state directory {state_dir} {what}; name the node's with --state or TRISHULA_STATE, or make one "
            "with: trishula node start",
            Exit.CONFIG,
        )
    return state_dir


def open_state_dir(state_dir: Path) -> Path:
    """Make the directory if it isn't there; its absolute path.

    Raises:
        CommandFailed: if it can't be made or written, or others may look into it.
    """
    state_dir = state_dir.absolute()
    try:
        # What agents say to each other is in there: nobody else's to read.
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise CommandFailed(
            f"the state directory {state_dir} is a file; name a directory with --state", Exit.CONFIG
        ) from None
    except OSError as error:
        raise CommandFailed(
            f"the state directory {state_dir} can't be made: {error.strerror}; make it, or name another with --state",
            Exit.CONFIG,
        ) from None
    if not os.access(state_dir, os.W_OK | os.X_OK):
        raise CommandFailed(
            f"the state directory {state_dir} can't be written; change its owner or mode, or name another with --state",
            Exit.CONFIG,
        )
    try:
        check_directory(state_dir)
    except NotPrivate as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    return state_dir


def keep_files_private(ctx: click.Context) -> None:
    """Until a command ends, let nobody else open what it makes."""
    before = keep_private()
    ctx.call_on_close(lambda: os.umask(before))


@contextlib.contextmanager
def hold_state_dir(state_dir: Path, how: str, *, with_store: bool = False) -> Iterator[None]:
    """Hold the directory for one command, as long as this process lives: the kernel lets go of it however we end.

    Two locks: ``node.lock`` is the one of whoever writes the small files of the directory; that of the store belongs to
    the process that opens the store, and under ``crossbar start`` it is all there is.

    Args:
        state_dir: the directory.
        how: the command, for whoever finds the directory in use.
        with_store: whether the store is to be held too, because this process changes it.

    Raises:
        CommandFailed: if another process holds either.
    """
    from trishula_router.store.interface import StoreError
    from trishula_router.store.sqlite.holding import FILE_NAME as STORE_LOCK
    from trishula_router.store.sqlite.holding import Hold, held_sentence, holder_of

    with contextlib.ExitStack() as holds:
        try:
            for name in (_LOCK_FILE, STORE_LOCK) if with_store else (_LOCK_FILE,):
                holds.callback(Hold(state_dir, how, name).release)
        except StoreError as error:
            raise CommandFailed(str(error)) from None
        if not with_store and (holder := holder_of(state_dir)) is not None:
            raise CommandFailed(held_sentence(state_dir, holder))
        yield


def state_holder(state_dir: Path) -> Holder | None:
    """Who runs a node on that directory, if anybody does: the process that has its store, or one that starts it."""
    from trishula_router.store.sqlite.holding import holder_of

    return holder_of(state_dir) or holder_of(state_dir, _LOCK_FILE)


def agents_file_of(state_dir: Path) -> Path:
    """Where the agents of that state are: as the node that last ran on it was configured, else ``agents.json``."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        from trishula_router.settings.crossbar_config import options_of

        config = json.loads((state_dir / "crossbar" / "config.json").read_bytes())
        return state_dir / expanded(str(options_of(config)["agents_file"]))
    return state_dir / "agents.json"


def check_agents_file(state_dir: Path, path: Path) -> None:
    """Refuse to speak of a file of agents that is gone while its copy is there as if there were nobody in it.

    Raises:
        AgentsFileError: as :func:`~trishula_router.agents.file.refuse_lost`.
    """
    from trishula_router.agents.file import KEPT_FILE, refuse_lost

    refuse_lost(path, state_dir / KEPT_FILE)


def agents_to_change(
    state_dir: Path, path: Path, who: Author, *, dry_run: bool = False
) -> AbstractContextManager[dict[str, AgentEntry]]:
    """The agents of that state's file, to be changed in place; with ``dry_run`` nothing of that is written.

    Raises:
        AgentsFileError: as :func:`~trishula_router.agents.file.update_agents`.
    """
    from trishula_router.agents.file import KEPT_FILE, read_agents, update_agents

    if dry_run:
        check_agents_file(state_dir, path)
        return nullcontext(read_agents(path))
    return update_agents(path, state_dir / KEPT_FILE, who)


def peers_of(state_dir: Path) -> list[str] | None:
    """The peers by the configuration that the node ran with last; ``None`` if it can't be read (any more)."""
    options = _options_of(state_dir)
    return None if options is None else list(options.get("peers", []))


def shares_agents(state_dir: Path) -> bool:
    """Whether the node shares its file of agents with its peers, by that configuration."""
    agents = (_options_of(state_dir) or {}).get("agents", {})
    return isinstance(agents, dict) and agents.get("shared") is True


def _options_of(state_dir: Path) -> dict[str, Any] | None:
    from trishula_router.settings.check import read_config_file
    from trishula_router.settings.crossbar_config import options_of
    from trishula_router.settings.faults import ConfigError

    try:
        return options_of(read_config_file(state_dir / "crossbar" / "config.json"))
    except (ConfigError, LookupError):
        return None
