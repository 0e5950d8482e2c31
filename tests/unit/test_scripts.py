"""What operators run or load on their machines: scripts, firewall rules, the Mac's service, the workflows."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "deploy").rglob("*.sh"))
RULES = ROOT / "deploy" / "firewall" / "trishula.nft"
PLIST = ROOT / "deploy" / "launchd" / "org.trishula.dc.plist"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def program(name: str) -> str:
    """Its path; the test is skipped without it, unless the machine is one that must have it."""
    found = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if found is None and os.environ.get("TRISHULA_REQUIRE_SYSTEMD") != "1":
        pytest.skip(f"there is no {name}")
    assert found is not None, f"TRISHULA_REQUIRE_SYSTEMD is set, and there is no {name}"
    return found


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("script", SCRIPTS, ids=by_name)
def test_a_script_is_sound(script: Path) -> None:
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "\nset -euo pipefail\n" in text
    done = subprocess.run([program("shellcheck"), str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_an_installation_would_do_is_shown_and_not_done(tmp_path: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("this is not Debian")
    wheel = tmp_path / "trishula_bus-9.9.9-py3-none-any.whl"
    wheel.touch()
    command = [str(ROOT / "deploy" / "install.sh"), "--dry-run", "--wheel", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "would run: python3 -m venv /opt/trishula/releases/9.9.9" in done.stdout
    assert "--require-hashes" in done.stdout
    assert not Path("/opt/trishula/releases/9.9.9").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--wheel", "/nowhere.whl"], "the wheel /nowhere.whl is not there"),
        (["--dry-run", "--release", "../etc"], "a release's name is made of letters, digits and . _ -, not '../etc'"),
        (["--sudo"], "there is no option --sudo"),
    ],
)
def test_an_installation_says_what_is_wrong(arguments: list[str], said: str) -> None:
    done = subprocess.run([str(ROOT / "deploy" / "install.sh"), *arguments], capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert said in done.stderr


def test_the_firewall_takes_its_rules() -> None:
    nft = program("nft")
    if os.geteuid() != 0:
        pytest.skip("only root may ask the firewall")
    # In a network of its own: nothing is loaded, and nothing of this machine is looked at.
    done = subprocess.run(["unshare", "--net", nft, "--check", "--file", str(RULES)], capture_output=True, text=True)
    if "Operation not permitted" in done.stderr and os.environ.get("TRISHULA_REQUIRE_PARTITIONS") != "1":
        pytest.skip("this container may not make networks")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_macs_service_is_whole() -> None:
    with PLIST.open("rb") as file:
        told = plistlib.load(file)
    assert told["Label"] == PLIST.stem
    assert told["ProgramArguments"] == [
        "/Users/me/trishula/bin/trishula",
        "--profile",
        "/Users/me/.config/trishula/dc.toml",
        *("agent", "run", "dc"),
    ]
    assert told["KeepAlive"] is True
    assert told["Umask"] == 0o077


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=by_name)
def test_a_workflow_is_whole(workflow: Path) -> None:
    # YAML 1.1 reads the key "on" as true.
    told = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert set(told) <= {"name", True, "permissions", "concurrency", "jobs", "env"}
    assert told["permissions"] == {"contents": "read"}
    for job in told["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            for word in str(step.get("run", "")).split():
                if word.startswith(("deploy/", ".ci/")) and "*" not in word:
                    assert (ROOT / word).exists(), word
