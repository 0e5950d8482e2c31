"""reStructuredText, written by a program: titles, tables, and plain text that is to be read as it stands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

__all__ = ["dedented", "escaped", "list_table", "titled"]


def escaped(text: str) -> str:
    """Plain text, such as a command's help, as it should be read; what stands in 'quotes' or `so` becomes literal."""
    parts = re.split(r"`([^`]+)`|(?<!\w)'([^' ][^']*)'(?!\w)", text)
    # Of three that follow one another the second and third are groups, of which one matched.
    out = []
    for index in range(0, len(parts), 3):
        out.append(re.sub(r"([\\*`|]|_(?!\w)|(?<!\w)_)", r"\\\1", parts[index]))
        literal = next((part for part in parts[index + 1 : index + 3] if part), None)
        if literal is not None:
            out.append(f"``{literal}``")
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"``\1``", "".join(out))


def list_table(head: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    """A table whose cells are reStructuredText, one paragraph each."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (head, *rows):
        for index, cell in enumerate(row):
            lines.append(f"   {'* -' if index == 0 else '  -'} {' '.join(cell.split())}".rstrip())
    return "\n".join(lines) + "\n"


def titled(title: str, line: str) -> str:
    """A section's title, underlined with ``line``."""
    return f"{title}\n{line * len(title)}\n"


def dedented(docstring: str | None) -> str:
    """A docstring without the indentation of its later lines."""
    return inspect.cleandoc(docstring or "")
