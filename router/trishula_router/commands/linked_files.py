"""Configurations of linked nodes side by side, with the files of agents that they name, where those are at hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

from trishula_router.agents.file import AgentEntry, AgentsFileError, read_agents
from trishula_router.settings.check_links import ConfigFile, are_linked, compare
from trishula_router.settings.faults import WHOLE, Fault

__all__ = ["faults_between"]

#: So many agents are named of those that differ.
_NAMED = 5


def faults_between(files: list[ConfigFile]) -> dict[Path, list[Fault]]:
    """What doesn't fit between nodes, by the file in which it is to be mended; see :func:`.compare`.

    Files of agents are compared where two linked nodes don't share them. Where they do, they come to say the same by
    themselves, and differ for good reasons while a node is away.
    """
    found = compare(files)
    for one, other in combinations(files, 2):
        shares = one.options.agents.shared or other.options.agents.shared
        if not shares and are_linked(one, other) and (why := _difference(one, other)) is not None:
            found[other.path].append(why)
    return found


def _difference(one: ConfigFile, other: ConfigFile) -> Fault | None:
    first, second = one.options.agents_file, other.options.agents_file
    if first == second or not first.exists() or not second.exists():
        return None
    try:
        here, there = read_agents(first), read_agents(second)
    except AgentsFileError as error:
        return Fault(str(second), WHOLE, f"it can't be compared with that of {one.options.node}: {error}")
    names = sorted(name for name in {*here, *there} if _sorted(here.get(name)) != _sorted(there.get(name)))
    if not names:
        return None
    more = "" if len(names) <= _NAMED else f" and {len(names) - _NAMED} more"
    return Fault(
        str(second),
        WHOLE,
        f"it must say the same as {first}, for these nodes don't share them, and it says something else of "
        f"{', '.join(names[:_NAMED])}{more}: copy the right one to the other (trishula token list tells what each "
        'says), or have both share them: "agents": {"shared": true} in extra',
    )


def _sorted(record: AgentEntry | None) -> AgentEntry | None:
    """The same, whatever the order of its tokens."""
    return None if record is None else replace(record, tokens=tuple(sorted(record.tokens, key=lambda one: one.sha256)))
