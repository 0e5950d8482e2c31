"""The table of errors: what each class of ``trishula.errors`` says of itself."""

from __future__ import annotations

from deploy.docs.from_code.rst import dedented, list_table

from trishula.errors import TrishulaError, wire_errors

__all__ = ["WAY_OUT", "table", "told_by"]

#: How the paragraph of a docstring begins that says what to do.
WAY_OUT = "What to do: "
_PREFIX = "trishula.error."


def told_by(error: type[TrishulaError]) -> tuple[str, str]:
    """What happened, and what to do, of one class: each on one line, the second with a capital letter."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in dedented(error.__doc__).split("\n\n")]
    way_out = next((text.removeprefix(WAY_OUT) for text in paragraphs if text.startswith(WAY_OUT)), "")
    others = [text for text in paragraphs[1:] if not text.startswith((WAY_OUT, "Attributes:"))]
    return " ".join([paragraphs[0], *others]), way_out[:1].upper() + way_out[1:]


def table() -> str:
    """Each error that travels: URI and class, whether to ask again, what happened, what to do."""
    rows = []
    for uri, error in wire_errors().items():
        happened, way_out = told_by(error)
        names = f"``{uri.removeprefix(_PREFIX)}`` :class:`~trishula.errors.{error.__name__}`"
        rows.append((names, "yes" if error.temporary else "no", happened, way_out))
    return list_table(("Error", "Again?", "What happened", "What to do"), rows, (24, 8, 34, 34))
