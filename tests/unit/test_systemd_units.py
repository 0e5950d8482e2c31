"""The units of systemd: the samples are what the templates render, systemd takes them, and they give away little."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rendered import rendered
from trishula.exit_codes import Exit

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "deploy" / "systemd"
UNITS = ["trishula-node.service", "trishula-agent@.service"]
ANALYZE = shutil.which("systemd-analyze")
#: From 0 (nothing that systemd could take from a service is left to it) to 10.
EXPOSURE_AT_MOST = 2.0

needs_systemd = pytest.mark.skipif(
    ANALYZE is None and os.environ.get("TRISHULA_REQUIRE_SYSTEMD") != "1", reason="there is no systemd-analyze"
)


def written(unit: str, directory: Path) -> Path:
    """The unit as a file that systemd can check: the program that it names is there."""
    file = directory / unit
    file.write_text(rendered(unit, program=sys.executable), encoding="utf-8")
    return file


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None, "TRISHULA_REQUIRE_SYSTEMD is set, and there is no systemd-analyze"
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_COLORS": "0"}
    return subprocess.run([ANALYZE, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize("unit", UNITS)
def test_the_sample_is_what_the_template_renders(unit: str) -> None:
    assert (SAMPLES / unit).read_text(encoding="utf-8") == rendered(unit)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault_in_it(unit: str, tmp_path: Path) -> None:
    done = analyze("verify", written(unit, tmp_path))
    # What it says of other units of this machine is not ours.
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "trishula" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_it_gives_away_little(unit: str, tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", written(unit, tmp_path))
    told = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert told is not None, done.stdout + done.stderr
    assert float(told[1]) <= EXPOSURE_AT_MOST


def settings(unit: str) -> dict[str, str]:
    """The section ``Service``; of a key that stands there several times, the last value."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(rendered(unit))
    return dict(parser["Service"])


@pytest.mark.parametrize("unit", UNITS)
def test_it_takes_nothing_that_the_program_needs(unit: str) -> None:
    told = settings(unit)
    # Tried under systemd 252: cffi can't make a callback then, and the program ends at its start.
    assert "MemoryDenyWriteExecute" not in told
    # psutil reads /proc/stat when it is imported.
    assert "ProcSubset" not in told


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_refused_for_good_is_not_tried_again(unit: str) -> None:
    told = settings(unit)
    assert told["Restart"] == "always"
    assert {int(code) for code in told["RestartPreventExitStatus"].split()} == {Exit.USAGE, Exit.CONFIG}


def test_the_node_is_checked_before_it_starts_and_watched_from_then_on() -> None:
    told = settings("trishula-node.service")
    assert told["ExecStartPre"] == "/opt/trishula/bin/trishula node check /etc/trishula/node.json"
    assert told["Type"] == "notify"
    assert int(told["WatchdogSec"]) > 0
    # Others on the machine must not read what is in it: node start refuses a directory that they may.
    assert told["StateDirectoryMode"] == "0700"
