"""The reference of the front door's tools, from ``trishula.front_door.tools``: what a model reads, for people."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_args, get_origin

from deploy.docs.from_code.rst import list_table
from msgspec import Meta

from trishula.front_door.tools import READS_ONLY, TOOLS, Tools

__all__ = ["details"]


def details() -> str:
    """Each tool with its arguments."""
    parts = []
    for name in TOOLS:
        verb = getattr(Tools, name)
        said = inspect.getdoc(verb) or ""
        if name in READS_ONLY:
            said += "\n\nIt changes nothing."
        parts.append(f"{name}\n{'-' * len(name)}\n\n{said}\n\n{_arguments(verb)}")
    return "\n\n".join(parts)


def _arguments(verb: Any) -> str:
    rows = []
    for parameter in list(inspect.signature(verb, eval_str=True).parameters.values())[1:]:
        annotation, said = parameter.annotation, ""
        if get_origin(annotation) is Annotated:
            notes = [note for note in get_args(annotation)[1:] if isinstance(note, Meta)]
            said = " ".join(filter(None, (note.description for note in notes)))
            for note in notes:
                if note.ge is not None and note.le is not None:
                    said += f" From {note.ge:g} to {note.le:g}."
        if parameter.default is inspect.Parameter.empty:
            said += " Required."
        elif parameter.default not in (None, ""):
            said += f" By default ``{_shown(parameter.default)}``."
        rows.append((f"``{parameter.name}``", said.replace("*", r"\*")))
    return list_table(("Argument", "Meaning"), rows, (20, 80)) if rows else ""


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
