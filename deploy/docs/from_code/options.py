"""The table of a node's options: what the reader of the configuration asks for, with its defaults and rules.

What an option means is in the docstring of the class that it ends up in: ``limits.mailbox`` is the attribute
``mailbox_bytes`` of :class:`~trishula_router.settings.limits.Limits`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deploy.docs.from_code.rst import dedented, escaped, list_table

from trishula_router.settings.alerts import AlertOptions
from trishula_router.settings.attachments import AttachmentOptions
from trishula_router.settings.cells import CellOptions
from trishula_router.settings.faults import MISSING, Asked
from trishula_router.settings.limits import Limits
from trishula_router.settings.mirror import MirrorOptions
from trishula_router.settings.objectives import ObjectiveOptions
from trishula_router.settings.options import (
    AgentsPolicy,
    DeliveryPolicy,
    NodeConfig,
    PresencePolicy,
    RetentionPolicy,
    parse_options,
)

__all__ = ["Option", "all_options", "table"]

_HOLDERS: dict[str, type] = {
    "": NodeConfig,
    "limits": Limits,
    "delivery": DeliveryPolicy,
    "presence": PresencePolicy,
    "retention": RetentionPolicy,
    "alerts": AlertOptions,
    "objectives": ObjectiveOptions,
    "agents": AgentsPolicy,
    "mirror": MirrorOptions,
    "attachments": AttachmentOptions,
    "cells": CellOptions,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a node.

    Attributes:
        key: its path below ``extra``, such as ``limits.payload``.
        default: what holds without it, as it is written; ``None`` if it must be there.
        rule: what a value must be.
        meaning: what it does, in reStructuredText.
    """

    key: str
    default: object
    rule: str
    meaning: str


def all_options() -> list[Option]:
    """Every option that there is, in the order in which they are read.

    Raises:
        LookupError: an option's class says nothing of it.
    """
    asked: list[Asked] = []
    parse_options({"state": "state"}, base=Path("/"), path="extra", asked=asked)
    found = []
    for one in asked:
        key = one.path.removeprefix("extra.")
        default = None if one.default is MISSING else one.default
        found.append(Option(key, default, one.rule, _meaning(key)))
    return found


def _meaning(key: str) -> str:
    section, _, name = key.rpartition(".")
    attributes = _attributes(_HOLDERS[section])
    for attribute, meaning in attributes.items():
        if re.fullmatch(rf"{name}(_bytes|_ms|_s|_per_s|_dir)?", attribute) or (
            attribute == "backoff" and name.startswith("backoff_")
        ):
            return meaning
    raise LookupError(f"the docstring of {_HOLDERS[section].__name__} says nothing of {key}")


def _attributes(holder: type) -> dict[str, str]:
    """Each attribute that a class's docstring describes → what it says."""
    _, _, described = dedented(holder.__doc__).partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", described, re.M)
    return {name: " ".join(text.split()) for name, text in found}


def table() -> str:
    """Key, default, what it means and what a value must be."""
    rows = []
    for option in all_options():
        default = "(required)" if option.default is None else _shown(option.default)
        meaning = option.meaning[:1].upper() + option.meaning[1:].rstrip(".")
        rows.append(
            (f"``{option.key}``", default, f"{meaning}. *{escaped(option.rule[:1].upper() + option.rule[1:])}.*")
        )
    return list_table(("Key", "Default", "Meaning, and what a value must be"), rows, (30, 14, 56))


def _shown(default: object) -> str:
    if default in ([], ""):
        return "(none)"
    return f"``{str(default).lower() if isinstance(default, bool) else default}``"
