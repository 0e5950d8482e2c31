"""The examples of the README and of the pages fit the code: each is checked by mypy, as it stands there.

An example is a part of a program: what it takes for granted is an agent, a bus, a message, and what other examples of
its page have defined. A page that takes more for granted says so in a comment, once: ``.. given model: Any``.
Everything else that an example names must be there, and be called as it can be called.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "deploy" / "docs").rglob("*.rst"))]

# Handlers of examples are as short as those of users; libraries of others need not be installed; an example that shows
# two ways gives both the same name.
HEAD = """\
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-any-generics, allow-untyped-calls, no-warn-return-any
# mypy: allow-untyped-decorators, allow-redefinition, allow-subclassing-any, no-warn-unreachable
# mypy: disable-error-code="no-redef,import-not-found,import-untyped,empty-body,assignment,misc,union-attr"
from __future__ import annotations

from typing import Any

import trishula
import trishula.testing
from trishula import Agent, Message, current_delivery


async def example({parameters}) -> None:
"""
TAKEN_FOR_GRANTED = {
    "agent": "trishula.Agent",
    "bus": "trishula.Bus",
    "client": "trishula.Client",
    "message": "trishula.Message",
}


@dataclass(frozen=True)
class Example:
    """A block of Python on a page.

    Attributes:
        page: the page's path below the project.
        line: where the block begins, from 1.
        code: its text.
        given: name → type of what its page takes for granted.
    """

    page: str
    line: int
    code: str
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{re.sub(r'[^a-z]', '_', self.page.lower())}_{self.line}"

    def tree(self) -> ast.Module:
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(self.code, f"{self.page}:{self.line}", "exec", flags)
        assert isinstance(tree, ast.Module)
        return tree

    def defined(self) -> set[str]:
        """The names that it gives a meaning."""
        found: set[str] = set()
        for node in ast.walk(self.tree()):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        return found

    def module(self) -> str:
        """A module in which it is the body of a function; on a line of its own each, from a known one on."""
        granted = dict(TAKEN_FOR_GRANTED)
        if "await bus." in self.code:
            granted["bus"] = "trishula.AsyncClient"
        granted = {name: kind for name, kind in {**granted, **self.given}.items() if name not in self.defined()}
        parameters = ", ".join(f"{name}: {kind}" for name, kind in granted.items())
        return HEAD.format(parameters=parameters) + textwrap.indent(self.code, "    ") + "\n"


def examples_on(page: Path) -> list[Example]:
    text = page.read_text(encoding="utf-8")
    given = dict(re.findall(r"^\.\. given (\w+): (.+)$", text, re.M))
    lines = text.splitlines()
    found = []
    for index, line in enumerate(lines):
        block = re.fullmatch(r"( *)\.\. code-block:: python", line)
        if block is None:
            continue
        body = []
        for later in lines[index + 1 :]:
            if later.strip() and not later.startswith(block[1] + "   "):
                break
            body.append(later)
        # Options of the directive, such as :caption:, are no code.
        code = textwrap.dedent("\n".join(body)).strip("\n")
        code = re.sub(r"\A(?::[\w-]+:.*\n)+\n*", "", code)
        found.append(Example(page.relative_to(ROOT).as_posix(), index + 1, code, given))
    return found


EXAMPLES = [example for page in PAGES for example in examples_on(page)]


def complaints(examples: list[Example], folder: Path) -> list[str]:
    """What mypy finds in them, each with its page and its line there."""
    by_module = {}
    for example in examples:
        (folder / f"{example.name}.py").write_text(example.module(), encoding="utf-8")
        by_module[example.name] = example
    files = [str(folder / f"{name}.py") for name in by_module]
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", *files]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300.0)
    assert checked.returncode in (0, 1), checked.stdout + checked.stderr
    pages: dict[str, set[str]] = {}
    for example in examples:
        pages.setdefault(example.page, set()).update(example.defined())
    found = []
    for line in checked.stdout.splitlines():
        said = re.search(r"(\w+)\.py:(\d+): error: (.*)", line)
        if said is None:
            continue
        example = by_module[said[1]]
        unknown = re.match(r'Name "(\w+)" is not defined', said[3])
        if unknown is not None and unknown[1] in pages[example.page]:
            continue
        offset = int(said[2]) - HEAD.count("\n")
        found.append(f"{example.page}, the example of line {example.line}, its line {offset}: {said[3]}")
    # Sorted: mypy tells of the files in an order of its own.
    return sorted(found)


def missing_in(example: Example) -> list[str]:
    """What it imports from us that isn't there; mypy can't tell, for ``trishula`` imports what it exports on demand."""
    return [
        f"{node.module}.{name.name}"
        for node in ast.walk(example.tree())
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "trishula"
        for name in node.names
        if not hasattr(importlib.import_module(str(node.module)), name.name)
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.page}:{example.line}")
def test_it_is_python_and_imports_what_is_there(example: Example) -> None:
    assert missing_in(example) == []


def test_they_fit_the_code(tmp_path: Path) -> None:
    assert len(EXAMPLES) >= 8
    assert complaints(EXAMPLES, tmp_path) == []


def test_one_that_does_not_fit_is_found(tmp_path: Path) -> None:
    wrong = [
        Example("a.rst", 1, 'agent.sendd("dc")'),
        Example("b.rst", 3, 'bus.send("dc", payloud=1)'),
        Example("c.rst", 5, "print(no_such_name)"),
        Example("d.rst", 7, "trishula.testing.buss()"),
        Example("e.rst", 9, "defined_elsewhere()"),
        Example("e.rst", 11, "def defined_elsewhere() -> None: ..."),
    ]
    found = complaints(wrong, tmp_path)
    assert [line.partition(",")[0] for line in found] == ["a.rst", "b.rst", "c.rst", "d.rst"]
    assert missing_in(Example("f.rst", 1, "from trishula import Agent, NoSuchError")) == ["trishula.NoSuchError"]
