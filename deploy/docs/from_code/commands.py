"""The commands: what ``--help`` says of each, as a page; from click's own objects."""

from __future__ import annotations

import re

import click
from deploy.docs.from_code.rst import dedented, escaped, list_table, titled

from trishula.cli.main import cli

__all__ = ["all_commands", "details", "overview"]

#: What every command has, which is said once.
_EVERYWHERE = {"--json"}


def all_commands() -> dict[str, click.Command]:
    """Each command by its full name (``trishula dead list``), in the order of the help."""
    found: dict[str, click.Command] = {}

    def walk(group: click.Group, path: str) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            full = f"{path} {name}"
            if command is None or command.hidden:
                continue
            if not isinstance(command, click.Group) or command.invoke_without_command:
                found[full] = command
            if isinstance(command, click.Group):
                walk(command, full)

    walk(cli, "trishula")
    return found


def overview() -> str:
    """Each command with its first sentence and a link."""
    rows = []
    for name, command in all_commands().items():
        first = " ".join(dedented(command.help).split("\n\n")[0].split()).split(". ")[0].rstrip(".")
        rows.append((f":ref:`{name} <{_label(name)}>`", f"{escaped(first)}."))
    return list_table(("Command", "What it does"), rows, (26, 74))


def details() -> str:
    """Each command: synopsis, help, arguments and options with their defaults."""
    return "\n".join(_section(name, command) for name, command in all_commands().items())


def _label(name: str) -> str:
    return name.replace(" ", "-")


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f".. _{_label(name)}:\n", titled(name, "-"), f".. code-block:: text\n\n   {name} {usage}\n"]
    parts += [_paragraph(paragraph) for paragraph in re.split(r"\n\s*\n", dedented(command.help))]
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or not record[1] or parameter.opts[-1] in _EVERYWHERE:
            continue
        rows.append((f"``{_spelled(record[0])}``", escaped(record[1])))
    if rows:
        parts.append(list_table(("Option", "Meaning"), rows, (38, 62)))
    return "\n".join(parts)


def _spelled(option: str) -> str:
    """An option and its value as on a page, where a choice may be broken: ``--type COMMAND | STATUS``."""
    option = re.sub(r"(?:INTEGER|FLOAT)(?: RANGE)?", "N", option)
    return re.sub(r" \[([^\]]*\|[^\]]*)\]", lambda choice: f" {choice[1].replace('|', ' | ')}", option)


def _paragraph(text: str) -> str:
    r"""A paragraph of a help; what stands behind click's ``\b`` keeps its lines."""
    if not text.startswith("\b"):
        return escaped(" ".join(text.split())) + "\n"
    head, *rest = text.removeprefix("\b").strip("\n").splitlines()
    if head.endswith(":"):
        return (
            "\n".join([f"{escaped(head)}\n", ".. code-block:: text\n", *(f"   {line.strip()}" for line in rest)]) + "\n"
        )
    return "\n".join([".. code-block:: text\n", *(f"   {line}" for line in (head, *rest))]) + "\n"
