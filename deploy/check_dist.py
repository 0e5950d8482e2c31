"""Build the wheel and the source distribution, and compare what they hold with the work tree.

Run by ``make check``. An editable install hides a package or data file that setup.cfg forgot; the wheel doesn't. It
builds from a copy, because setuptools' ``build/`` folder would carry deleted modules into the next wheel.
"""

from __future__ import annotations

import configparser
import email
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What the distribution is called: "trishula" on the public index is a stranger's.
NAME = "trishula-bus"
#: Folder in the work tree → where it lies in an installed distribution.
PACKAGES = {
    "components/trishula": "trishula",
    "router/trishula_router": "trishula_router",
    "router/trishula_drill": "trishula_drill",
    "config": "trishula_router/config",
}
#: Extra → what is installed with it.
EXTRAS = {
    "agents": "the agents that ship with TRISHULA are",
    "cli": "the command line is",
    "router": "a node is",
}
#: What no agent's machine is to get: the command line's, and what is large.
NOT_FOR_AGENTS = frozenset({"click", "crossbar", "numpy", "psutil", "rich"})
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)


def expected_files(root: Path) -> set[str]:
    """The modules and data files of the work tree, by their installed names."""
    files = set()
    for folder, package in PACKAGES.items():
        base = root / folder
        for file in base.rglob("*"):
            if file.is_file():
                files.add(f"{package}/{file.relative_to(base).as_posix()}")
    return files


def faults_of_wheel(wheel: Path, expected: set[str]) -> list[str]:
    """What is wrong with the wheel, one sentence each."""
    faults = []
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata_name = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(metadata_name))
        entry_points = configparser.ConfigParser(delimiters="=")
        entry_points.read_string(archive.read(metadata_name.replace("METADATA", "entry_points.txt")).decode())
    files = {name for name in names if ".dist-info/" not in name and not name.endswith("/")}
    faults += [f"the wheel lacks {name}: list its package in setup.cfg" for name in sorted(expected - files)]
    faults += [f"the wheel holds {name}, which is not in the work tree" for name in sorted(files - expected)]
    if not any(name.endswith("LICENSE") for name in names):
        faults.append("the wheel lacks the LICENSE")
    if metadata["Name"] != NAME or not wheel.name.startswith(NAME.replace("-", "_") + "-"):
        faults.append(f"{wheel.name} is called {metadata['Name']}: it must be {NAME}, other names are strangers'")
    for extra, what in EXTRAS.items():
        if extra not in metadata.get_all("Provides-Extra", []):
            faults.append(f"the wheel lacks the extra {extra}, with which {what} installed")
    requirements = [str(line) for line in metadata.get_all("Requires-Dist", [])]
    always = [requirement for requirement in requirements if "extra ==" not in requirement]
    asked = [re.split(r"[^\w.-]", requirement)[0] for requirement in always]
    faults += [f"the agent side depends on {name}" for name in sorted(NOT_FOR_AGENTS.intersection(asked))]
    faults += [f"the wheel asks twice for {name}" for name in sorted(set(asked)) if asked.count(name) > 1]
    for group in entry_points.sections():
        for name, target in entry_points[group].items():
            module = target.partition(":")[0].replace(".", "/")
            if f"{module}.py" not in files and f"{module}/__init__.py" not in files:
                faults.append(f"the entry point {group}: {name} names {target}, which the wheel lacks")
    return faults


def main() -> int:
    """Build, compare, report; the exit code."""
    with tempfile.TemporaryDirectory(prefix="trishula-dist-") as temporary:
        copy = Path(temporary, "tree")
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED, symlinks=True)
        out = Path(temporary, "dist")
        # The wheel is built from the sdist, as an index would: what the sdist forgot, the wheel lacks.
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            print(built.stdout, built.stderr, sep="\n", file=sys.stderr)
            print("check_dist: the distribution can't be built", file=sys.stderr)
            return 1
        expected = expected_files(copy)
        (wheel,) = out.glob("*.whl")
        faults = faults_of_wheel(wheel, expected)
        (sdist,) = out.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            held = {name.partition("/")[2] for name in archive.getnames()}
        for needed in (
            "Makefile",
            "CHANGES.rst",
            "LICENSE",
            "deploy/lock/router.txt",
            "deploy/lock/dev.txt",
            ".ci/run",
        ):
            if needed not in held:
                faults.append(f"the source distribution lacks {needed}: list it in MANIFEST.in")
    for fault in faults:
        print(f"check_dist: {fault}", file=sys.stderr)
    if not faults:
        print(f"check_dist: {wheel.name} and {sdist.name} hold what they should ({len(expected)} files)")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
