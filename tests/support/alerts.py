"""What operators get to watch nodes with: alerts, their tests, runbooks, a dashboard; read for tests."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["DEPLOY", "alerts", "alert_sections", "commands", "expressions", "look_commands", "names_in", "panels"]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def alerts() -> list[dict[str, Any]]:
    """The rules, each as its map."""
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, rows included."""
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "trishula.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = board["panels"]
    return found


def expressions() -> list[str]:
    """All that rules and panels ask Prometheus; of panels with all nodes."""
    asked = [target["expr"].replace("$node", ".*") for panel in panels() for target in panel.get("targets", [])]
    return [*(rule["expr"] for rule in alerts()), *asked]


def names_in(expression: str) -> set[str]:
    """The series that an expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:(?:trishula|process)_[a-z0-9_]+|up)\b", bare))


def _runbooks() -> str:
    return (DEPLOY / "runbooks.rst").read_text(encoding="utf-8")


def alert_sections() -> dict[str, str]:
    """Each section of an alert, by its title."""
    text = _runbooks().partition("\nAlerts\n------\n")[2]
    parts = re.split(r"^(\w+)\n~+\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def look_commands() -> list[str]:
    """The commands below "How to look" of all alerts: they read and change nothing."""
    found = re.findall(r"^    (trishula .*)$", "".join(alert_sections().values()), re.M)
    return list(dict.fromkeys(found))


def commands() -> Iterator[list[str]]:
    """Every command line of the runbooks, as words behind "trishula"."""
    text = _runbooks()
    lines = [line.strip() for line in re.findall(r"^ +(trishula .*)$", text, re.M)]
    inline = [" ".join(one.split()) for one in re.findall(r"``(trishula [^`]+)``", text)]
    for line in dict.fromkeys([*lines, *inline]):
        yield shlex.split(line, comments=True)[1:]
