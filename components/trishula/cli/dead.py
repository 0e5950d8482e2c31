"""``trishula dead``: messages that could not be handled, for operators: look at them, put them back, delete them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.known import require_agent
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.values import DURATION, instant_ms
from trishula.cli.words import fact_of, local_time, plain
from trishula.contract import uris
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from trishula.cli.tables import Fields, Table

__all__ = ["dead"]

#: The node answers at most so many at a time.
_PAGE = 1000


@click.group(cls=Group)
def dead() -> None:
    """List, show, put back or delete dead letters (operators only).

    Dead letters are messages whose attempts are used up, or that were refused for good. A letter's number is that of
    the node you ask: linked nodes number their letters each for itself.

    \b
    Examples:
      trishula dead list --agent agni
      trishula dead show 4711
      trishula dead replay 4711 4712
      trishula dead purge --older-than 30d
    """


@dead.command("list")
@click.option("--agent", metavar="NAME", help="Only letters to this agent and its instances.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only letters behind this number.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many letters.")
@click.option("--since", metavar="WHEN", help='Only dead since: "1h" for an hour ago, or 2026-11-23T00:00:00.')
@json_option
@click.pass_obj
def list_(state: State, agent: str | None, after: int, limit: int, since: str | None) -> None:
    """List dead letters, oldest first.

    \b
    Examples:
      trishula dead list --limit 20
      trishula dead list --agent agni --json
    """
    letters: list[dict[str, Any]] = []
    more, place = True, after
    since_at = instant_ms(since, "--since", int(time.time() * 1000)) or 0
    with state.bus(looks_only=True) as bus:
        while more and len(letters) < limit:
            # What was dead before is left out here: the node lists by number alone.
            most = _PAGE if since_at else min(_PAGE, limit - len(letters))
            options = {"after": place, "limit": most}
            told = bus.request(uris.ADMIN_DEAD_LIST, options if agent is None else {**options, "agent": agent})
            fitting = [letter for letter in told["letters"] if (letter.get("dead_at") or since_at) >= since_at]
            more = (told["more"] and bool(told["letters"])) or len(fitting) > limit - len(letters)
            letters += fitting[: limit - len(letters)]
            place = told["letters"][-1]["seq"] if told["letters"] else place
        if agent is not None and not letters:
            require_agent(bus, agent)
    if letters or state.json:
        state.show({"letters": letters, "more": more}, lambda: _table(letters))
    else:
        state.note("no dead letters" if agent is None else f"no dead letters to {plain(agent)}")
    if more and letters:
        state.note(f"there are more: --after {letters[-1]['seq']}, or a higher --limit")


@dead.command()
@click.argument("number", type=click.IntRange(1))
@json_option
@click.pass_obj
def show(state: State, number: int) -> None:
    """Show one dead letter with its message.

    \b
    Examples:
      trishula dead show 4711
    """
    with state.bus() as bus:
        letter = bus.request(uris.ADMIN_DEAD_SHOW, number)
    state.show(letter, lambda: _fields(letter))


@dead.command()
@click.argument("numbers", type=click.IntRange(1), nargs=-1, required=True)
@json_option
@click.pass_obj
@click.pass_context
def replay(ctx: click.Context, state: State, numbers: tuple[int, ...]) -> None:
    """Put dead letters back into their mailboxes.

    They start anew, with no failures and their first time to live. It ends with 0 only if all of them are back.

    \b
    Examples:
      trishula dead replay 4711 4712
    """
    outcomes: list[bool] = []
    with state.bus() as bus:
        for start in range(0, len(numbers), _PAGE):
            outcomes += bus.request(uris.ADMIN_DEAD_REPLAY, list(numbers[start : start + _PAGE]))
    replayed = [number for number, back in zip(numbers, outcomes, strict=True) if back]
    left = [number for number, back in zip(numbers, outcomes, strict=True) if not back]
    lines = [f"{len(replayed)} of {len(numbers)} dead letters are back in their mailboxes"]
    lines += [f"{number} is not: it is no dead letter (any more), or its recipient is gone" for number in left]
    state.show({"replayed": replayed, "left": left}, lambda: "\n".join(lines))
    if left:
        ctx.exit(Exit.NOT_FOUND)


@dead.command()
@click.argument("numbers", type=click.IntRange(1), nargs=-1)
@click.option(
    "--older-than",
    type=DURATION,
    metavar="DURATION",
    help='All that have been dead for longer than this, such as "30d".',
)
@click.option("--all", "everything", is_flag=True, help="All dead letters there are.")
@json_option
@click.pass_obj
@click.pass_context
def purge(
    ctx: click.Context, state: State, numbers: tuple[int, ...], older_than: float | None, everything: bool
) -> None:
    """Delete the bodies of dead letters; the journal still tells their lives.

    It ends with 5 if one of the numbers is no dead letter's.

    \b
    Examples:
      trishula dead purge 4711 4712
      trishula dead purge --older-than 30d
    """
    if sum((bool(numbers), older_than is not None, everything)) != 1:
        raise click.UsageError("name the letters by their numbers, or give one of --older-than and --all")
    with state.bus() as bus:
        if numbers:
            count = sum(
                bus.request(uris.ADMIN_DEAD_PURGE, list(numbers[start : start + _PAGE]))
                for start in range(0, len(numbers), _PAGE)
            )
        else:
            before = {} if older_than is None else {"before": int((time.time() - older_than) * 1000)}
            # It may have to write a lot.
            count = bus.request(uris.ADMIN_DEAD_PURGE, before, timeout=600.0)
    left = len(set(numbers)) - count if numbers else 0
    said = f"{count} dead letter{' was' if count == 1 else 's were'} purged"
    if left > 0:
        said += (
            f"; {left} of the numbers {'is' if left == 1 else 'are'} no dead letter's (any more): trishula dead list"
        )
    state.show({"purged": count}, lambda: said)
    if left > 0:
        ctx.exit(Exit.NOT_FOUND)


def _table(letters: list[dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table(
        "Number", "Dead since", "Type", "To", "Message", "From", "Attempts", "Reason",
        below=("From", "Attempts", "Reason"),
    )  # fmt: skip
    for letter in letters:
        table.add_row(
            str(letter.get("seq")),
            local_time(letter.get("dead_at"), "seconds"),
            *(plain(letter.get(key)) for key in ("type", "to", "id", "from", "attempts", "reason")),
        )
    return table


def _fields(letter: dict[str, Any]) -> Fields:
    from trishula.cli.tables import Fields

    message = letter.get("message")
    rows = [(plain(key), fact_of(key, value)) for key, value in letter.items() if key != "message"]
    for key, value in message.items() if isinstance(message, dict) else ():
        # What the letter says of the message already is not said twice.
        if letter.get(key) != value:
            rows.append((f"message.{plain(key)}", fact_of(key, value)))
    return Fields(rows)
