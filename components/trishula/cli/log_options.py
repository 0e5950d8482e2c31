"""``--log-format`` and ``--log-level``, the same for a node and for agents."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from trishula.log_lines import FORMAT_VARIABLE, FORMATS, LEVEL_VARIABLE, LEVELS, LogOptionInvalid, chosen

__all__ = ["chosen_log", "log_options"]

F = TypeVar("F", bound=Callable[..., Any])


def log_options(function: F) -> F:
    """Both options, as the arguments ``log_format`` and ``log_level``."""
    form = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        help=f"The form of the log's lines: text for people, json for programs; auto is text, beneath systemd with "
        f"priorities (default: ${FORMAT_VARIABLE}, else auto).",
    )
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        help=f"From which level on the log has lines (default: ${LEVEL_VARIABLE}, else warning for a node and info for "
        "an agent).",
    )
    return form(level(function))


def chosen_log(log_format: str | None, log_level: str | None, default_level: str) -> tuple[str, str]:
    """The form and the level that options and environment ask for: an option comes before its variable.

    Raises:
        click.UsageError: a variable has a value that there is none of.
    """
    given = {FORMAT_VARIABLE: log_format, LEVEL_VARIABLE: log_level}
    environ = dict(os.environ) | {name: value for name, value in given.items() if value is not None}
    try:
        return chosen(environ, default_level)
    except LogOptionInvalid as error:
        raise click.UsageError(str(error)) from None
