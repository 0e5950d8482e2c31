"""``trishula agent run``: run an agent in this process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from trishula.cli.agent_fault import fault_in
from trishula.cli.log_options import chosen_log, log_options
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.contract.addresses import is_agent_name
from trishula.distribution import INSTALL_AGENTS
from trishula.errors import TrishulaError
from trishula.log_lines import FORMAT_VARIABLE, LEVEL_VARIABLE

if TYPE_CHECKING:
    from trishula.agent import Agent

__all__ = ["agent", "find_agent"]

#: Where the agents that ship with TRISHULA live.
SAMPLES = "trishula.agents"
#: What an agent's module calls its agent unless the command line says otherwise.
DEFAULT_ATTRIBUTE = "agent"


@click.group(cls=Group)
def agent() -> None:
    """Run agents."""


@agent.command()
@click.argument("target", metavar="NAME|MODULE:ATTR|FILE.py[:ATTR]")
@log_options
@json_option
@click.pass_obj
def run(state: State, target: str, log_format: str | None, log_level: str | None) -> None:
    """Run an agent until Ctrl-C: one that ships with TRISHULA, or your own.

    \b
    Examples:
      trishula agent run agni                 the sample agent trishula.agents.agni
      trishula agent run mycompany.bots:bot   the Agent named bot in that module
      trishula agent run ./bot.py             the Agent named agent in that file
      trishula agent run --log-format json agni

    Its log goes to standard error. An error in your own file is shown with its line; it ends with 2.
    """
    form, level = chosen_log(log_format, log_level, "info")
    # Agent.run() reads them there.
    os.environ |= {FORMAT_VARIABLE: form, LEVEL_VARIABLE: level}
    with _telling_its_author(target):
        found = find_agent(target)
        if state.url is not None or state.named_profile is not None:
            found.run(url=state.url, profile=state.named_profile)
        else:
            found.run()


@contextmanager
def _telling_its_author(target: str) -> Iterator[None]:
    """Let an error in the agent's own code be told as such, and every other error as what it is."""
    try:
        yield
    except (click.ClickException, TrishulaError, BrokenPipeError):
        raise
    except Exception as error:
        fault = fault_in(target, error)
        if fault is None:
            raise
        if os.environ.get("TRISHULA_DEBUG"):
            traceback.print_exc()
        raise fault from error


def find_agent(target: str) -> Agent:
    """Import what ``target`` names.

    Raises:
        click.UsageError: there is no such module, file or attribute, or it is no agent. An error inside of the agent's
            own module is not caught here: it is its author's.
    """
    # Before anything that imports the reactor: agents run on asyncio's, and an agent's module may import Twisted.
    from trishula import Agent

    where, colon, attribute = target.rpartition(":") if ":" in target else (target, "", "")
    if not where:
        raise click.UsageError(f"{target!r} names no module before the colon")
    if colon and not attribute:
        raise click.UsageError(f"{target!r} names no attribute behind the colon")
    if where.endswith(".py") or "/" in where:
        module = _load_file(Path(where))
    elif not colon and is_agent_name(where):
        module = _import(
            f"{SAMPLES}.{where}", f"no agent {where!r} ships with TRISHULA (there are {', '.join(_samples())});"
        )
    else:
        # Your own module is in the directory you are in, as with python -m.
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        module = _import(where, f"there is no module {where!r} to import;")
    name = attribute or DEFAULT_ATTRIBUTE
    found = getattr(module, name, None)
    if not isinstance(found, Agent):
        agents = [key for key, value in vars(module).items() if isinstance(value, Agent)]
        hint = f"; its agents: {', '.join(agents)}" if agents else "; it has no agent at all"
        raise click.UsageError(f"{where} has no Agent named {name!r}{hint}")
    return found


def _samples() -> list[str]:
    package = importlib.import_module(SAMPLES)
    folder = Path(str(package.__file__)).parent
    # The others are what the agents share.
    return sorted(path.stem for path in folder.glob("[a-z]*.py") if "\nagent = " in path.read_text())


def _import(name: str, missing: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only if it is this module, or a package around it, that is missing: not one that it imports.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise click.UsageError(f"{missing} give MODULE:ATTR or FILE.py for one of your own") from None
        if name.startswith(f"{SAMPLES}.") and error.name == "psutil":
            raise click.ClickException(f"the agent {name} needs psutil; run: {INSTALL_AGENTS}") from None
        raise


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.UsageError(f"there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{str(path)!r} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    # As python FILE does it, so that the file can import its neighbours.
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module
