"""Small disks in memory, and what fills them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

MIB = 1024 * 1024


def mount(target: Path, *options: str) -> str:
    """Mount a file system in memory; why that can't be done, and "" if it was."""
    target.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        return "only root can mount the small disk that this test fills"
    command = ["mount", "-t", "tmpfs", *(f"-o{option}" for option in options), "trishula-test", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"this machine doesn't let root mount a tmpfs: {done.stderr.strip()}" if done.returncode else ""


def mounted(target: Path, *options: str) -> None:
    """Mount a file system in memory, or skip the test."""
    if why := mount(target, *options):
        pytest.skip(why)


def unmounted(target: Path) -> None:
    """Undo :func:`mounted`, also while something still has a file open there."""
    subprocess.run(["umount", "--lazy", str(target)], check=True, capture_output=True)


def take_all(disk: Path) -> Path:
    """Somebody else fills the disk, to the last byte."""
    taken = disk / "somebody-elses"
    with taken.open("ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return taken
