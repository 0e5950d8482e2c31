"""``--utc``, and no colour where nobody wants any: in real processes, because both are of the whole process."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import sys
from rich.text import Text
from trishula.cli.main import cli, run
from trishula.cli.state import State
from trishula.cli.words import local_time
import click
@cli.command("probe")
@click.pass_obj
def probe(state):
    state.print(Text(local_time(0, "seconds"), style="red"))
cli.get_command = lambda ctx, name: probe
sys.exit(run(sys.argv[1:]))
"""


def shown(tmp_path: Path, *args: str, **variables: str) -> str:
    """What it prints in a terminal."""
    ours, theirs = pty.openpty()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        # As POSIX spells it: a machine may have no table of time zones.
        "TZ": "IST-5:30",
        **variables,
    }
    try:
        subprocess.run(
            [sys.executable, "-c", SHOW, *args, "probe"], stdout=theirs, stderr=theirs, env=env, timeout=60, check=True
        )
        return os.read(ours, 4096).decode().strip()
    finally:
        os.close(ours)
        os.close(theirs)


def test_instants_are_here_or_in_utc(tmp_path: Path) -> None:
    assert "1970-01-01T05:30:00+05:30" in shown(tmp_path)
    assert "1970-01-01T00:00:00Z" in shown(tmp_path, "--utc")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nobody_is_given_colour_who_wants_none(tmp_path: Path, variables: dict[str, str]) -> None:
    assert "\x1b[31m" in shown(tmp_path)
    assert "\x1b" not in shown(tmp_path, **variables)
