"""The guard's hooks: where they are installed, what of before still runs, and what is left when the command is gone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trishula.cli import lease_guard
from trishula.cli.main import cli


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "trishula"
    command.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path / "repository")], check=True)
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def guard(*args: str) -> Result:
    return CliRunner().invoke(cli, ["lease", "guard", *args])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def git(*args: str) -> subprocess.CompletedProcess[str]:
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    return subprocess.run(["git", *who, *args], capture_output=True, text=True, check=False)


def asked(repository: Path) -> list[str]:
    found = repository.parent / "bin" / "asked"
    return found.read_text().splitlines() if found.exists() else []


def write(hook: Path, text: str) -> None:
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(text)
    hook.chmod(0o755)


def test_commits_and_merges_are_checked(repository: Path) -> None:
    assert guard("install", "--tree", "web").exit_code == 0
    for args in (
        ("commit", "--allow-empty", "-qm", "one"),
        ("checkout", "-qb", "other"),
        ("commit", "--allow-empty", "-qm", "two"),
        ("checkout", "-q", "main"),
    ):
        assert git(*args).returncode == 0
    count = len(asked(repository))
    assert git("merge", "--no-ff", "-qm", "three", "other").returncode == 0
    assert asked(repository)[count:] == ["lease guard check --tree web"]
    assert guard("uninstall").exit_code == 0
    assert [hook.name for hook in (repository / ".git" / "hooks").iterdir() if not hook.name.endswith(".sample")] == []


def test_a_command_that_is_gone_lets_commits_pass_and_says_so(repository: Path) -> None:
    for strict, code in (((), 0), (("--strict",), 1)):
        command = repository.parent / "bin" / "trishula"
        guard("install", *strict)
        command.rename(command.with_name("away"))
        done = git("commit", "--allow-empty", "-qm", "x")
        assert (done.returncode, "leases were not checked" in done.stderr) == (code, True)
        command.with_name("away").rename(command)


def test_nothing_is_installed_where_husky_writes_anew(repository: Path) -> None:
    git("config", "core.hooksPath", ".husky/_")
    write(repository / ".husky" / "_" / "pre-commit", '. "$(dirname "$0")/h"\n')
    refused = guard("install", "--tree", "web")
    assert refused.exit_code != 0
    assert ".husky/pre-commit instead:" in said(refused) and "lease guard check --tree web" in said(refused)
    assert [hook.name for hook in (repository / ".husky" / "_").iterdir()] == ["pre-commit"]


@pytest.mark.parametrize("line", ['exec run "$(basename "$0")"', "run ${0##*/}", 'case "$0" in *pre-commit) ;; esac'])
@pytest.mark.parametrize("name", ["pre-commit", "pre-merge-commit"])
def test_a_hook_that_looks_at_its_name_is_left_alone(repository: Path, name: str, line: str) -> None:
    hook = repository / ".git" / "hooks" / name
    write(hook, f"#!/bin/sh\n{line}\n")
    refused = guard("install")
    assert refused.exit_code != 0 and "looks at its own name" in said(refused)
    assert hook.read_text() == f"#!/bin/sh\n{line}\n"
    assert sum(not one.name.endswith(".sample") for one in hook.parent.iterdir()) == 1


@pytest.mark.parametrize("line", ['HERE="$(cd "$(dirname "$0")" && pwd)"', "cd ${0%/*}", 'dirname -- "$0"', "true"])
def test_a_hook_that_looks_at_its_directory_runs_first(repository: Path, line: str) -> None:
    write(repository / ".git" / "hooks" / "pre-commit", f"#!/bin/sh\n{line}\ntouch ran\n")
    installed: Any = guard("install")
    assert installed.exit_code == 0 and "runs first" in said(installed)
    assert git("commit", "--allow-empty", "-qm", "x").returncode == 0
    assert len(asked(repository)) == 1


def test_of_a_merge_is_asked_what_is_as_in_none_of_its_parents(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(**files: str) -> None:
        for name, text in files.items():
            (repository / name).write_text(text)
        git("add", "-A")
        git("commit", "-qm", "x")

    commit(both="1\n2\n3\n4\n5\n", fought="1\n")
    git("checkout", "-qb", "theirs")
    commit(both="1\n2\n3\n4\nnew\n", fought="2\n", theirs="1\n")
    head = git("rev-parse", "HEAD").stdout.strip()
    git("checkout", "-q", "main")
    commit(both="new\n2\n3\n4\n5\n", fought="3\n", ours="1\n")
    git("merge", "--no-edit", "theirs")
    (repository / "fought").write_text("both\n")
    git("add", "-A")
    assert lease_guard._staged() == ["both", "fought"]
    git("commit", "-qm", "merged")
    (repository / "mine").write_text("1\n")
    git("add", "-A")
    assert lease_guard._staged() == ["mine"]
    # As git runs a hook before the commit of a merge without conflicts.
    monkeypatch.setenv(f"GITHEAD_{head}", "theirs")
    (repository / "theirs").write_text("2\n")
    git("add", "-A")
    assert lease_guard._staged() == ["mine", "theirs"]
