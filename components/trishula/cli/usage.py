"""What is said of a wrong command line: the option, the value, the rule, in the same words everywhere.

Click's own sentences name its types ("is not a valid integer range"). :func:`sentence_of` says what must be there
instead; :class:`Group` suggests the command that was meant, and lists commands with their whole sentences.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import click

__all__ = ["Group", "asks_for_help", "sentence_of"]

#: What newer clicks raise where a command is missing; older ones print the help by themselves.
_NO_COMMAND = getattr(click.exceptions, "NoArgsIsHelpError", ())

#: Click's sentences about a value, which begin with the value; of a choice it shows the value within them.
_ABOUT_A_VALUE = re.compile(r"(?P<value>.+?) is not (a valid |in the range |one of )", re.DOTALL)


class Group(click.Group):
    """A group of commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the group's own options.

        Raises:
            click.UsageError: of ``--json``, which each command has for itself, it says where that goes.
        """
        # The parser takes away what it has read.
        given = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            example = self._command_with("--json", ctx, given) if error.option_name == "--json" else None
            if example is None:
                raise
            raise click.UsageError(f"--json goes behind the command, as in: {example} --json", ctx) from None

    def _command_with(self, option: str, ctx: click.Context, given: Sequence[str]) -> str | None:
        """A command that has an option, as it is called: the one that was given, else the first; ``None``: none has."""
        for name in (*given, *self.list_commands(ctx)):
            command = self.get_command(ctx, name)
            if command is not None and any(option in param.opts for param in command.params):
                return f"{ctx.command_path} {name}"
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant.

        Raises:
            click.UsageError: there is none of that name.
        """
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        names = self.list_commands(ctx)
        near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names)}"
        raise click.UsageError(f"there is no command {name!r}{hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of the help, each command with its whole first sentence."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=1000)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def asks_for_help(error: click.UsageError) -> bool:
    """Whether nothing but a command is missing: a question more than a slip."""
    return isinstance(error, _NO_COMMAND)


def sentence_of(error: click.UsageError) -> str:
    """One sentence on a wrong command line, and where its help is."""
    sentence = "a command is missing" if asks_for_help(error) else error.format_message().rstrip(".")
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        rule = _rule_of(error.param.type) if error.param is not None else None
        told = _ABOUT_A_VALUE.match(error.message)
        if rule is not None and told is not None and error.param is not None:
            value = told["value"].strip("'")
            param = error.param
            name = param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name
            sentence = f"{name.rstrip('.')} is {value!r}; it must be {rule}"
    return f"{sentence} (try '{error.ctx.command_path} --help')" if error.ctx is not None else sentence


def _rule_of(kind: Any) -> str | None:
    """What a value of that type must be; ``None`` for types whose own sentences say it."""
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(map(str, kind.choices))}"
    if isinstance(kind, click.IntRange | click.FloatRange):
        what = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        if kind.min is None:
            return what if kind.max is None else f"{what} up to {kind.max}"
        return f"{what} from {kind.min} {'on' if kind.max is None else f'to {kind.max}'}"
    return None
