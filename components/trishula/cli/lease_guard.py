"""``trishula lease guard``: a git hook that refuses a commit of what somebody else has leased.

The hook is ``pre-commit`` in the directory that git itself names (``git rev-parse --git-path hooks``): so it holds for
all worktrees of a repository, and is where ``core.hooksPath`` says. A hook that was there is kept beside it and runs
first. ``git commit --no-verify`` passes by all hooks.
"""

from __future__ import annotations

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
_KEPT = "pre-commit.before-trishula"
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
    """Install the hook in the repository of the current directory; again, it is replaced.

    \b
    Examples:
      trishula lease guard install
      trishula lease guard install --tree web --strict
    """
    hook = _hook(shared_hooks=shared_hooks)
    kept = hook.with_name(_KEPT)
    if hook.exists() and not _is_ours(hook):
        if kept.exists():
            raise click.ClickException(f"{kept} is there already, and {hook} is another hook: put one of them away")
        hook.rename(kept)
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(_script(tree, strict))
    hook.chmod(0o755)
    told = {"hook": str(hook), "runs_first": str(kept) if kept.exists() else None}
    also = f"; {kept.name}, which was there, runs first" if kept.exists() else ""
    state.show(told, lambda: f"{hook} asks the bus before each commit{also}")


@guard.command()
@click.option("--shared-hooks", is_flag=True, help="As for install.")
@json_option
@click.pass_obj
def uninstall(state: State, shared_hooks: bool) -> None:
    """Take the hook out, and put back the one that was there before.

    \b
    Examples:
      trishula lease guard uninstall
    """
    hook = _hook(shared_hooks=shared_hooks)
    if not hook.exists() or not _is_ours(hook):
        raise click.ClickException(f"{hook} is not this guard's hook: there is nothing to take out")
    kept = hook.with_name(_KEPT)
    if kept.exists():
        kept.replace(hook)
    else:
        hook.unlink()
    back = " and the one of before is back" if hook.exists() else ""
    state.show({"hook": str(hook), "restored": hook.exists()}, lambda: f"the guard is out of {hook}{back}")


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
    # Without renames, a file that is moved is named at both of its places.
    names = _git("diff", "--cached", "--name-only", "--no-renames", "-z")
    return [name.decode(errors="surrogateescape") for name in names.split(b"\0") if name]


def _hook(*, shared_hooks: bool) -> Path:
    top = Path(_git("rev-parse", "--show-toplevel").decode().strip())
    common = Path(_git("rev-parse", "--path-format=absolute", "--git-common-dir").decode().strip())
    hooks = Path(_git("rev-parse", "--path-format=absolute", "--git-path", "hooks").decode().strip())
    is_own = any(parent in (hooks, *hooks.parents) for parent in (top, common))
    if not is_own and not shared_hooks:
        raise click.ClickException(
            f"core.hooksPath is {hooks}, outside of this repository: a hook there runs for all repositories that use "
            "it; pass --shared-hooks if that is meant"
        )
    return hooks / "pre-commit"


def _is_ours(hook: Path) -> bool:
    return _MARK in hook.read_text(errors="replace")


def _script(tree: str, strict: bool) -> str:
    if tree:
        Scope.parse(f"path:{tree}:any")
    command = shutil.which("trishula") or str(Path(sys.argv[0]).resolve())
    options = (["--tree", tree] if tree else []) + (["--strict"] if strict else [])
    return f"""\
#!/bin/sh
{_MARK}: refuses a commit of what somebody else has leased.
# Out again: trishula lease guard uninstall
before="$(dirname "$0")/{_KEPT}"
if [ -x "$before" ]; then
    "$before" "$@" || exit
fi
exec {shlex.join([command, "lease", "guard", "check", *options])} >/dev/null
"""
