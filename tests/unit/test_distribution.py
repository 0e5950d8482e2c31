"""What we are called on an index of packages, and what is said where a stranger's package is in the way."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tests.support.node import environment
from tests.unit.test_structure import EVERYWHERE, ROOT, setup_cfg
from trishula import distribution
from trishula.exit_codes import Exit

#: Where commands that install us are written down.
PAGES = sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "deploy" / "docs").rglob("*.rst"))
PLACES = ["README.rst", "deploy/runbooks.rst", "deploy/lock/README.txt", "Makefile", *PAGES, *EVERYWHERE]

#: The whole of what the stranger's package exports.
STRANGERS_INIT = "from .grammar import *\nfrom .decorator import *\n"


def test_it_is_called_as_setup_cfg_says() -> None:
    assert setup_cfg()["metadata"]["name"] == distribution.DISTRIBUTION == "trishula-bus"


@pytest.mark.parametrize("path", PLACES)
def test_nothing_tells_anybody_to_install_the_stranger(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    asked = re.findall(r"""pip install (?:-\S+ )*['"`]*trishula(?!-bus)""", text)
    assert asked == []


#: What comes with the extras, to Python it isn't there; bjdata is the codec of Autobahn's that brings NumPy.
WITHOUT_EXTRAS = "import sys; sys.modules |= dict.fromkeys(['click', 'rich', 'psutil', 'bjdata'])"


@pytest.mark.parametrize(
    "code",
    [
        "from trishula import Agent, AsyncClient, connect",
        "import trishula.session.connection, trishula.runtime.loops, trishula.consumer.agent_state",
    ],
)
def test_an_agent_runs_without_the_extras(code: str) -> None:
    subprocess.run(
        [sys.executable, "-c", f"{WITHOUT_EXTRAS}; {code}"],
        check=True,
        env=environment(),
    )


def test_the_command_line_says_what_it_lacks() -> None:
    code = f"{WITHOUT_EXTRAS}; from trishula.cli.program import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (Exit.FAILED, "")
    assert done.stderr == (
        "trishula: the command line needs click and rich, which an agent doesn't; run: pip install 'trishula-bus[cli]' "
        "(in a checkout: pip install '.[cli]')\n"
    )


def test_a_sample_agent_says_what_it_lacks() -> None:
    code = "import sys; sys.modules['psutil'] = None; from trishula.cli.main import main; main()"
    command = [sys.executable, "-c", code, "agent", "run", "rushabdev"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (Exit.FAILED, "")
    assert done.stderr == (
        "trishula: the agent trishula.agents.rushabdev needs psutil; run: pip install 'trishula-bus[agents]' "
        "(in a checkout: pip install '.[agents]')\n"
    )


class Installed(Distribution):
    """A distribution that is made up; ``None`` for a file that it hasn't."""

    def __init__(self, name: str, version: str, entry_points: str | None = None) -> None:
        self.texts = {"METADATA": f"Name: {name}\nVersion: {version}\n", "entry_points.txt": entry_points}

    def read_text(self, filename: str) -> str | None:
        return self.texts.get(filename)

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


OURS = "[trishula.commands]\nnode = trishula_router.commands:node\n"


@pytest.mark.parametrize(
    ("installed", "version", "is_warned"),
    [
        ([], "unknown", False),
        ([Installed("trishula-bus", "2.1", OURS)], "2.1", False),
        # An environment that was made before the name was changed.
        ([Installed("trishula", "2.0.0a1", OURS)], "2.0.0a1", False),
        ([Installed("trishula", "0.0.9")], "unknown", True),
        ([Installed("trishula", "0.0.9"), Installed("trishula-bus", "2.1", OURS)], "2.1", True),
        ([Installed("trishula", "2.0.0a1", OURS), Installed("trishula-bus", "2.1", OURS)], "2.1", True),
    ],
)
def test_the_version_and_what_is_said_of_a_second_distribution(
    monkeypatch: pytest.MonkeyPatch, installed: list[Installed], version: str, is_warned: bool
) -> None:
    by_name: dict[str, Distribution] = {found.metadata["Name"]: found for found in installed}
    monkeypatch.setattr(distribution, "_find", by_name.get)
    assert distribution.version() == version
    said = distribution.beside_us()
    assert (said is not None) == is_warned
    if said is not None:
        assert by_name["trishula"].version in said
        assert "pip uninstall trishula" in said


def overwritten(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds our files with the stranger's over them, as pip leaves them."""
    site = tmp_path / "site"
    package = site / "trishula"
    package.mkdir(parents=True)
    for file in (ROOT / "components" / "trishula").iterdir():
        if file.name not in ("__init__.py", "__pycache__"):
            (package / file.name).symlink_to(file)
    (package / "__init__.py").write_text(STRANGERS_INIT)
    for name in ("grammar.py", "decorator.py"):
        (package / name).write_text("class Grammar: ...\n")
    return environment(PYTHONPATH=f"{site}:{ROOT / 'router'}")


@pytest.mark.parametrize("command", [["-m", "trishula.cli.main", "agents"], ["-c", "import trishula_router"]])
def test_the_strangers_files_over_ours_are_told_in_one_sentence(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=overwritten(tmp_path), timeout=60.0
    )
    assert done.returncode == (Exit.FAILED if "-m" in command else 1)
    said = done.stderr.strip().splitlines()[-1]
    assert f"the package trishula in {tmp_path}/site/trishula is not TRISHULA's" in said
    assert "pip uninstall trishula" in said
    if "-m" in command:
        assert len(done.stderr.strip().splitlines()) == 1
