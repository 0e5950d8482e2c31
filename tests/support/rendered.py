"""Files for operators as their templates render them, with the names and paths of the sample cluster in ``deploy/``."""

from __future__ import annotations

from trishula_router.templates import SAMPLE, TEMPLATES, render

__all__ = ["rendered"]


def rendered(name: str, **instead: str) -> str:
    """The template ``name`` with the sample's values, or with those given ``instead``."""
    (template,) = (each for each in TEMPLATES if each.name == name)
    return render(template, {**SAMPLE, **instead})
