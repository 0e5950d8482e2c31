"""Files for operators as their templates render them, with the names and paths of the sample cluster in ``deploy/``."""

from __future__ import annotations

from importlib.resources import files
from string import Template

__all__ = ["SAMPLE", "rendered"]

#: What a template may name. ``program`` is what ``deploy/install.sh`` installs.
SAMPLE = {
    "node": "agni",
    "program": "/opt/trishula/bin/trishula",
    "config": "/etc/trishula/node.json",
    "state": "/var/lib/trishula",
}


def rendered(name: str, **instead: str) -> str:
    """The template ``name`` with the sample's values, or with those given ``instead``."""
    text = (files("trishula_router") / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute(SAMPLE | instead)
