"""``trishula lease guard``: a git hook that refuses a commit of what somebody else has leased.

The hook is ``pre-commit`` in the directory that git itself names (``git rev-parse --git-path hooks``): so it holds for
all worktrees of a repository, and is where ``core.hooksPath`` says. A hook that was there is kept beside it and runs
first. ``git commit --no-verify`` passes by all hooks.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.contract.addresses import agent_of
from trishula.contract.scopes import Scope
from trishula.errors import ArgumentInvalid, LeaseTaken, TrishulaError

__all__ = ["guard"]

#: By this line the hook is known as ours.
_MARK = "# trishula lease guard"
_HOOKS = ("pre-commit", "pre-merge-commit")
_KEPT = ".before-trishula"
#: What git's variables begin with that name the commits of a merge.
_MERGED = "GITHEAD_"
#: A hook that runs under another name still finds the directory that it is in, and nothing else of its name.
_OWN_DIRECTORY = re.compile(r"""dirname\s+(?:--\s+)?["']?\$(?:0|\{0\})["']?|\$\{0%/\*\}""")
_OWN_NAME = re.compile(r"\$0|\$\{0|BASH_SOURCE")
_MOST_TOLD = 10

_tree_option = click.option(
    "--tree", default="", metavar="NAME", help="This repository's paths are leased as path:NAME:…; else as path:…"
)


@click.group(cls=Group)
def guard() -> None:
    """Have git refuse commits of what somebody else has leased.

    The hook asks the bus as the agent of TRISHULA_PROFILE, or of TRISHULA_URL and TRISHULA_TOKEN. If it can't be
    asked, the commit is made and the hook says so; with --strict it is refused. git commit --no-verify passes by.
    """


@guard.command()
@_tree_option
@click.option("--strict", is_flag=True, help="Refuse a commit also when the bus can't be asked.")
@click.option("--shared-hooks", is_flag=True, help="Install also where core.hooksPath serves other repositories.")
@json_option
@click.pass_obj
def install(state: State, tree: str, strict: bool, shared_hooks: bool) -> None:
    """Install the hooks in the repository of the current directory; again, they are replaced.

    \b
    Examples:
      trishula lease guard install
      trishula lease guard install --tree web --strict
    """
    hooks = _hooks(shared_hooks=shared_hooks)
    line = shlex.join(_command(tree, strict))
    for hook in hooks:
        _refuse(hook, line)
    for hook in hooks:
        if hook.exists() and not _is_ours(hook):
            hook.rename(_kept(hook))
        hook.parent.mkdir(parents=True, exist_ok=True)
        hook.write_text(_script(hook, line, strict=strict))
        hook.chmod(0o755)
    first = [str(_kept(hook)) for hook in hooks if _kept(hook).exists()]
    told = {"hooks": [str(hook) for hook in hooks], "runs_first": first}
    also = f"; {' and '.join(Path(kept).name for kept in first)}, which was there, runs first" if first else ""
    state.show(told, lambda: f"{hooks[0]} asks the bus before each commit, and {_HOOKS[1]} before each merge{also}")


@guard.command()
@click.option("--shared-hooks", is_flag=True, help="As for install.")
@json_option
@click.pass_obj
def uninstall(state: State, shared_hooks: bool) -> None:
    """Take the hooks out, and put back those that were there before.

    \b
    Examples:
      trishula lease guard uninstall
    """
    hooks = _hooks(shared_hooks=shared_hooks)
    ours = [hook for hook in hooks if hook.exists() and _is_ours(hook)]
    if not ours:
        raise click.ClickException(f"{hooks[0]} is not this guard's hook: there is nothing to take out")
    for hook in ours:
        if _kept(hook).exists():
            _kept(hook).replace(hook)
        else:
            hook.unlink()
    restored = [str(hook) for hook in ours if hook.exists()]
    back = " and what was there before is back" if restored else ""
    state.show(
        {"hooks": [str(hook) for hook in ours], "restored": restored}, lambda: f"the guard is out of {ours[0]}{back}"
    )


@guard.command()
@_tree_option
@click.option("--strict", is_flag=True, help="Fail also when the bus can't be asked.")
@json_option
@click.pass_obj
def check(state: State, tree: str, strict: bool) -> None:
    """Check what is staged, as the hook does: fails if somebody else has leased any of it.

    \b
    Examples:
      trishula lease guard check
    """
    paths = _staged()
    if not paths:
        return
    try:
        with state.bus(looks_only=True) as bus:
            agent, found = bus.address.agent, ask_newer(bus, uris.LEASE_LIST)
    except TrishulaError as error:
        if strict:
            raise
        state.note(f"leases were not checked: {error}", "yellow")
        return
    refused = against(paths, tree, agent, found)
    if refused:
        told = [f"{plain(path)} is leased by {plain(who)} ({plain(scope)}{note})" for path, who, scope, note in refused]
        more = len(told) - _MOST_TOLD
        lines = told[:_MOST_TOLD] + ([f"and {more} more paths"] if more > 0 else [])
        raise LeaseTaken("; ".join(lines) + "; ask them, or pass by with: git commit --no-verify")
    state.show({"paths": len(paths), "agent": agent}, lambda: f"nobody else has leased any of {len(paths)} paths")


def against(paths: list[str], tree: str, agent: str, found: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The paths that others have leased: (path, who, scope, note) each.

    What is shared bears who shares it too.
    """
    leases = []
    for one in found:
        try:
            scope = Scope.of_record(str(one["scope"]))
        except ArgumentInvalid:
            # A newer node knows more kinds.
            continue
        if one["state"] == "granted" and scope.kind == "path":
            leases.append((scope, agent_of(str(one["holder"])), bool(one["shared"]), str(one.get("note") or "")))
    refused = []
    for path in paths:
        covering = [one for one in leases if one[0].covers(path, tree)]
        shares = any(who == agent and shared for _, who, shared, _ in covering)
        others = [one for one in covering if one[1] != agent and not (one[2] and shares)]
        if others:
            scope, who, _, note = others[0]
            refused.append((path, who, scope.text, f": {note}" if note else ""))
    return refused


def _git(*args: str) -> bytes:
    try:
        done = subprocess.run(["git", *args], capture_output=True, check=False)
    except FileNotFoundError:
        raise click.ClickException("git is not installed, or not on the PATH") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise click.ClickException(f"git {args[0]} failed: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _staged() -> list[str]:
    """What the commit changes; of a merge, what is as in none of its parents: who made the rest has been asked."""
    changed = _changed()
    for parent in _merged():
        changed &= _changed(parent)
    return sorted(changed)


def _changed(*since: str) -> set[str]:
    # Without renames, a file that is moved is named at both of its places.
    names = _git("diff", "--cached", "--name-only", "--no-renames", "-z", *since)
    return {name.decode(errors="surrogateescape") for name in names.split(b"\0") if name}


def _merged() -> list[str]:
    """The commits that are being merged: in a file once there were conflicts, in git's environment before."""
    heads = Path(_git("rev-parse", "--path-format=absolute", "--git-path", "MERGE_HEAD").decode().strip())
    if heads.exists():
        return heads.read_text().split()
    return [name.removeprefix(_MERGED) for name in os.environ if name.startswith(_MERGED)]


def _hooks(*, shared_hooks: bool) -> list[Path]:
    top = Path(_git("rev-parse", "--show-toplevel").decode().strip())
    common = Path(_git("rev-parse", "--path-format=absolute", "--git-common-dir").decode().strip())
    hooks = Path(_git("rev-parse", "--path-format=absolute", "--git-path", "hooks").decode().strip())
    is_own = any(parent in (hooks, *hooks.parents) for parent in (top, common))
    if not is_own and not shared_hooks:
        raise click.ClickException(
            f"core.hooksPath is {hooks}, outside of this repository: a hook there runs for all repositories that use "
            "it; pass --shared-hooks if that is meant"
        )
    return [hooks / name for name in _HOOKS]


def _kept(hook: Path) -> Path:
    return hook.with_name(hook.name + _KEPT)


def _refuse(hook: Path, line: str) -> None:
    """Install nothing where it would be lost, or where another hook would not work any more."""
    if hook.parent.name == "_" and hook.parent.parent.name == ".husky":
        raise click.ClickException(
            f"{hook.parent} is husky's, which writes it anew: put this line into {hook.parent.parent / 'pre-commit'} "
            f"instead: {line}"
        )
    if not hook.exists() or _is_ours(hook):
        return
    if _kept(hook).exists():
        raise click.ClickException(f"{_kept(hook)} is there already, and {hook} is another hook: put one of them away")
    if _OWN_NAME.search(_OWN_DIRECTORY.sub("", hook.read_text(errors="replace"))):
        raise click.ClickException(
            f"{hook} looks at its own name ($0) and may not work under another one: put this line into it instead: "
            f"{line}"
        )


def _is_ours(hook: Path) -> bool:
    return _MARK in hook.read_text(errors="replace")


def _command(tree: str, strict: bool) -> list[str]:
    if tree:
        Scope.parse(f"path:{tree}:any")
    command = shutil.which("trishula") or str(Path(sys.argv[0]).resolve())
    options = (["--tree", tree] if tree else []) + (["--strict"] if strict else [])
    return [command, "lease", "guard", "check", *options]


def _script(hook: Path, line: str, *, strict: bool) -> str:
    command = shlex.quote(shlex.split(line)[0])
    return f"""\
#!/bin/sh
{_MARK}: refuses a commit of what somebody else has leased.
# Out again: trishula lease guard uninstall
before="$(dirname "$0")/{_kept(hook).name}"
if [ -x "$before" ]; then
    "$before" "$@" || exit
fi
if ! [ -x {command} ]; then
    echo "trishula: leases were not checked:" {command} "is gone; install it again, or: git commit --no-verify" >&2
    exit {int(strict)}
fi
exec {line} >/dev/null
"""
