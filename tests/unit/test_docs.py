"""README and changes render on their own; what the reference makes from the code is whole; what pages name is there."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import click
import docutils.core
import pytest
from deploy.docs.from_code import PARTS, commands, errors, exit_codes, variables
from deploy.docs.from_code.docstrings import exists
from deploy.docs.from_code.rst import escaped

import trishula
import trishula.testing
from trishula import settings
from trishula.cli.main import cli
from trishula.contract import uris
from trishula.errors import TrishulaError, wire_errors
from trishula.exit_codes import Exit

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "deploy" / "docs"
README = (ROOT / "README.rst").read_text(encoding="utf-8")
#: What processes of ours tell each other; nobody else sets them.
INNER_VARIABLES = {
    "TRISHULA_FAILURE_FILE",
    # Set for the command of trishula lease run, whose help has them; nothing reads them.
    "TRISHULA_FENCE",
    "TRISHULA_LEASE",
    "TRISHULA_LOG_FILE",
    "TRISHULA_LOG_JOURNAL",
    "TRISHULA_LOG_NODE",
    "TRISHULA_PLAIN_IMPORTS",
    "TRISHULA_STARTED_BY",
    # The same of trishula wake.
    "TRISHULA_WAKE_COUNT",
    "TRISHULA_WAKE_FROM",
    "TRISHULA_WAKE_ID",
    "TRISHULA_WAKE_TEXT",
    "TRISHULA_WAKE_URGENT",
}


def complaints_about(text: str) -> str:
    complaints = io.StringIO()
    overrides = {"warning_stream": complaints, "report_level": 2, "halt_level": 5, "_disable_config": True}
    docutils.core.publish_string(text, settings_overrides=overrides)
    return complaints.getvalue()


@pytest.mark.parametrize(
    "name", ["README.rst", "CHANGES.rst", "deploy/README.rst", "deploy/runbooks.rst", "deploy/threats.rst"]
)
def test_it_renders(name: str) -> None:
    assert complaints_about((ROOT / name).read_text(encoding="utf-8")) == ""


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("target", sorted(set(re.findall(r"<((?:deploy/|CHANGES)[^>]*)>`_", README))))
def test_what_the_readme_links_to_is_there(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("name", PARTS)
def test_what_is_made_from_code_renders(name: str) -> None:
    # Roles are Sphinx's, whose own run finds what they don't lead to.
    text = re.sub(r":\w+:`([^`<]*)(?: <[^`]*>)?`", r"``\1``", PARTS[name]()).replace("code-block:: text", "code:: text")
    assert complaints_about(text) == ""


@pytest.mark.parametrize("name", PARTS)
def test_what_is_made_from_code_is_on_one_page(name: str) -> None:
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.rst")]
    assert sum(page.count(f".. from-code:: {name}\n") for page in pages) == 1


def all_of(group: click.Group, path: str) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((f"{path} {name}", command))
        if isinstance(command, click.Group):
            found += all_of(command, f"{path} {name}")
    return found


@pytest.mark.parametrize(("name", "command"), all_of(cli, "trishula"), ids=lambda value: str(value))
def test_each_command_and_option_is_in_the_reference(name: str, command: click.Command) -> None:
    if isinstance(command, click.Group) and not command.invoke_without_command:
        return
    assert f"`{name} <{name.replace(' ', '-')}>`" in commands.overview()
    section = commands.details().partition(f"\n{name}\n---")[2].partition("\n.. _trishula-")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and "--json" not in parameter.opts:
            assert parameter.help, f"{parameter.opts} of {name} is not explained"
            assert f"- ``{', '.join(sorted(parameter.opts, key=len))}" in section


@pytest.mark.parametrize("error", wire_errors().values(), ids=lambda error: error.__name__)
def test_each_error_says_what_happened_and_what_to_do(error: type[TrishulaError]) -> None:
    happened, way_out = errors.told_by(error)
    again = "yes" if error.temporary else "no"
    short = str(error.uri).removeprefix("trishula.error.")
    assert (
        f"* - ``{short}`` :class:`~trishula.errors.{error.__name__}`\n     - {again}\n     - {happened}"
        in errors.table()
    )
    assert happened.endswith(".")
    assert way_out.endswith(".")


@pytest.mark.parametrize("code", Exit)
def test_each_exit_code_is_explained(code: Exit) -> None:
    assert exit_codes.meanings()[code.name].endswith((".", "``."))
    assert f"* - {code.value}\n     - ``{code.name}``" in exit_codes.table()


def test_each_environment_variable_is_in_the_reference() -> None:
    sources = [path for folder in ("components", "router") for path in (ROOT / folder).rglob("*.py")]
    read = {name for path in sources for name in re.findall(r"""["'](TRISHULA_[A-Z_]+)["']""", path.read_text("utf-8"))}
    assert read - INNER_VARIABLES == set(settings.VARIABLES)
    assert all(f"``{name}``" in variables.variables() for name in settings.VARIABLES)


def public_names() -> list[object]:
    return [getattr(module, name) for module in (trishula, trishula.testing) for name in module.__all__]


@pytest.mark.parametrize("public", public_names(), ids=lambda public: str(getattr(public, "__name__", public)))
def test_each_public_name_is_in_the_reference(public: Any) -> None:
    pages = "".join((DOCS / "reference" / page).read_text(encoding="utf-8") for page in ("api.rst", "testing.rst"))
    module = public.__module__
    # Of the errors all are shown together.
    is_shown_whole = f".. automodule:: {module}\n   :members:" in pages
    assert is_shown_whole or re.search(
        rf"^\.\. auto\w+:: ({module}|trishula\.testing)\.{public.__name__}$", pages, re.M
    )


def test_each_uri_is_in_the_contract_of_the_reference() -> None:
    told = PARTS["contract"]()
    mailbox = [value for name, value in vars(uris).items() if name.startswith("MAILBOX_")]
    assert len(mailbox) == 14
    for uri in mailbox:
        assert f"``{uri.removeprefix(uris.PREFIX)}(" in told


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.rst"))
NAMED = sorted(
    {name for page in PAGES for name in re.findall(r"``(tests/[\w/]+(?:\.py)?)``", (ROOT / page).read_text())}
)


@pytest.mark.parametrize("name", NAMED)
def test_the_test_that_a_page_names_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_a_choice_may_be_broken_at_the_end_of_a_line() -> None:
    assert "- ``--type COMMAND | STATUS | RESULT | ERROR" in commands.details()
    assert "- ``--priority N``" in commands.details()


def test_plain_text_is_read_as_it_stands() -> None:
    assert escaped("the node's key, its peers' names") == "the node's key, its peers' names"
    assert escaped("--node '*' of a_b_ *now* | or `x y`") == r"``--node`` ``*`` of a_b\_ \*now\* \| or ``x y``"


@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        ("trishula.settings.load", True),
        ("trishula.client.Client.send", True),
        ("trishula.settings.Settings.urls", True),
        ("collections.abc.Iterable", True),
        ("trishula.settings.lode", False),
        ("trishula.client.Client.sendd", False),
        ("trishula.no_such_module", False),
    ],
)
def test_a_docstring_that_names_what_is_not_there_is_found(name: str, is_there: bool) -> None:
    assert exists(name) is is_there
