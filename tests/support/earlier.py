"""TRISHULA as it was one release ago, to be run beside the present one: programs of both must work together.

The files come out of git's history, because that is what was released; nothing of it is kept here. Packages that
TRISHULA needs are those of the present environment.
"""

from __future__ import annotations

import configparser
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.node import ROOT

__all__ = ["EARLIER", "earlier_release"]

#: The commit that is taken for the earlier release: the last one before nodes had endpoints beside the bus. At each
#: release, the commit of the release before goes in here.
EARLIER = "2a0c14b8e9c5770c9ad754d75207688d18f3542f"


def earlier_release(directory: Path) -> str:
    """Lay it out in ``directory``; the ``PYTHONPATH`` of a process that is to run it.

    The test is skipped without git, and in a checkout whose history doesn't reach so far: a shallow clone, a source
    distribution.
    """
    command = ["git", "-C", str(ROOT), "archive", EARLIER, "components", "router", "config", "setup.cfg"]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no git")
    if done.returncode:
        pytest.skip(f"the commit {EARLIER[:7]} is not in this checkout's history (git fetch --unshallow)")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(directory, filter="data")
    # Where setup.cfg puts that folder into the package.
    (directory / "config").rename(directory / "router" / "trishula_router" / "config")
    _describe(directory)
    return os.pathsep.join([str(directory / "components"), str(directory / "router")])


def _describe(directory: Path) -> None:
    """What an installation says of itself, or the earlier program would look for the commands of the present one."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(directory / "setup.cfg", encoding="utf-8")
    name, version = setup["metadata"]["name"], setup["metadata"]["version"]
    info = directory / "components" / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = setup["options.entry_points"].items()
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{entries.strip()}\n" for group, entries in groups))
