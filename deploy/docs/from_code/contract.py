"""The wire contract: the docstring of ``trishula.contract.uris`` and its names, as a page."""

from __future__ import annotations

import re

from deploy.docs.from_code.rst import dedented, list_table

from trishula.contract import uris as names

__all__ = ["text", "uris"]

#: What stands on a line of its own in the docstring, for its reader there, and is a paragraph of its own on the page.
_BEGINS = re.compile(r"    (May be repeated|Order|Answers|``\w+``(?=[:,]))")


def text() -> str:
    """The docstring, with each heading of a part as a title."""
    found = dedented(names.__doc__).replace("This module holds every URI; nothing else in the project", "")
    found = re.sub(r"\n\n[^\n]*spells one out[^\n]*$", "", found)
    found = re.sub(r":\w+:`~?([\w.]+)`", lambda role: f"``{_value(role[1])}``", found)
    lines = found.splitlines()
    out: list[str] = []
    for index, line in enumerate(lines):
        after = lines[index + 1] if index + 1 < len(lines) else ""
        if _BEGINS.match(line) and out[-1].endswith("."):
            out.append("")
        # What a term of a definition can't do is to go on in a second line.
        if out and out[-1] and line and not line.startswith(" ") and not out[-1].startswith(" ") and after[:1] == " ":
            out[-1] += f" {line}"
        else:
            out.append(line)
    return re.sub(r"^(Mailbox|Topics)(?: \((.*)\))?:$", _title, "\n".join(out), flags=re.M) + "\n"


def _title(found: re.Match[str]) -> str:
    said = f"\n\n{found[2][0].upper()}{found[2][1:]}." if found[2] else ""
    return f"{found[1]}\n{'-' * len(found[1])}{said}"


def _value(name: str) -> str:
    """What a constant of the module holds; the name itself if there is none of that name."""
    return str(getattr(names, name.rpartition(".")[2], name))


def uris() -> str:
    """Each name that is fixed, with its constant."""
    rows = [
        (f"``{value}``", f"``{constant}``")
        for constant, value in vars(names).items()
        if constant.isupper() and isinstance(value, str) and value.startswith(names.PREFIX) and value[-1] != "."
    ]
    return list_table(("URI", "In ``trishula.contract.uris``"), rows, (60, 40))
