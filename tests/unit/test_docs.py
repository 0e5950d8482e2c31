"""The README says what is there: each command, each error, each exit code; and it renders."""

from __future__ import annotations

import io
import re
from pathlib import Path

import click
import docutils.core
import pytest

from trishula.cli.main import cli
from trishula.errors import TrishulaError, wire_errors
from trishula.exit_codes import Exit

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
FLAT = " ".join(README.split())


@pytest.mark.parametrize("name", ["README.rst", "CHANGES.rst", "deploy/runbooks.rst", "deploy/threats.rst"])
def test_it_renders(name: str) -> None:
    complaints = io.StringIO()
    settings = {"warning_stream": complaints, "report_level": 2, "halt_level": 5, "_disable_config": True}
    docutils.core.publish_string((ROOT / name).read_text(encoding="utf-8"), settings_overrides=settings)
    assert complaints.getvalue() == ""


def commands() -> list[str]:
    found = []

    def walk(group: click.Group, path: list[str]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                walk(command, [*path, name])
            else:
                found.append(" ".join([*path, name]))

    walk(cli, ["trishula"])
    return found


@pytest.mark.parametrize("command", commands())
def test_each_command_is_in_the_readme(command: str) -> None:
    assert f"``{command}``" in README


@pytest.mark.parametrize("error", wire_errors().values(), ids=lambda error: error.__name__)
def test_each_error_is_in_the_readme(error: type[TrishulaError]) -> None:
    short = str(error.uri).removeprefix("trishula.error.")
    row = re.search(rf"\* - ``{short}`` - ``(\w+)`` - (yes|no) - (.+?)(?: \* - |$)", FLAT)
    assert row is not None
    assert row[1] == error.__name__
    assert row[2] == ("yes" if error.temporary else "no")
    sentence = " ".join((error.__doc__ or "").split("\n\n")[0].split())
    assert row[3].startswith(sentence)


@pytest.mark.parametrize("code", Exit)
def test_each_exit_code_is_in_the_readme(code: Exit) -> None:
    assert re.search(rf"\* - {code.value} - ``{code.name}`` - ", FLAT)
