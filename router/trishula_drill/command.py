"""``trishula drill``: prove on this machine that nothing is lost and nothing runs twice."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.exit_codes import Exit
from trishula_drill.cells_faults import CELL_DRILLS
from trishula_drill.cluster_faults import CLUSTER_DRILLS
from trishula_drill.fallback_faults import FALLBACK_DRILLS
from trishula_drill.faults import ALL, DRILLS

if TYPE_CHECKING:
    from rich.text import Text

    from trishula_drill.report import Report

__all__ = ["drill", "ending_in_order"]

#: Of the violations that are shown; the first ones tell, the others follow.
_SHOWN = 20

#: The one that a node's own state directory is too good for.
_CLOCK = "clock"


def _listed(drills: Mapping[str, str]) -> str:
    return "\b\n" + "\n".join(f"  {name:<16} {text}" for name, text in drills.items())


@click.command(
    help=f"""Strike faults under running traffic, and check what became of every message.

Processes of their own send and receive on a node that is started for it; after the last fault everything is healed and
drained, and the store is examined. It ends with 8 if a message was lost, a handler ran twice, or another promise was
broken. The same seed strikes the same faults.

{_listed({**DRILLS, ALL: "all of these, the rounds shared among them"})}

With two linked nodes, senders and receivers on both:

{_listed(CLUSTER_DRILLS)}

With one node, agents with a folder each, and what moves files between the folders:

{_listed(FALLBACK_DRILLS)}

With two nodes that are not linked, joined by a Redis that is started for it (redis-server must be there):

{_listed(CELL_DRILLS)}

\b
Examples:
  trishula drill kill9 --rounds 20
  trishula drill {ALL} --rounds 60 --seed 7 --json
  trishula drill failover --rounds 50 --json
"""
)
@click.argument(
    "name", type=click.Choice([*DRILLS, ALL, *CLUSTER_DRILLS, *FALLBACK_DRILLS, *CELL_DRILLS]), metavar="NAME"
)
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True, help="How often faults strike.")
@click.option("--seed", type=click.IntRange(0), help="Of an earlier run, to strike the same faults again.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="A node's state directory to use and to leave as it is then (default: a throw-away one); not with the drill "
    "clock, nor with those of two nodes.",
)
@json_option
@click.pass_context
def drill(ctx: click.Context, name: str, rounds: int, seed: int | None, state: Path | None) -> None:
    from trishula_drill.report import Report
    from trishula_router.commands.state_dir import open_state_dir, require_crossbar

    if state is not None and name == _CLOCK:
        raise click.UsageError(
            f"--state {state} can't be used in the drill {_CLOCK}: messages that wait there would expire when a node "
            "is started with a clock that was set forward; leave it out for a throw-away directory"
        )
    require_crossbar()
    if state is not None and name in {**CLUSTER_DRILLS, **CELL_DRILLS}:
        raise click.UsageError(
            f"--state {state} can't be used in the drill {name}, which makes two nodes of its own; leave it out"
        )
    shared = ctx.ensure_object(State)
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    # Said before anything can go wrong.
    click.echo(f"seed {chosen}", err=True)
    where = None if state is None else open_state_dir(state)
    total = Report(name, chosen)
    with ending_in_order(), _progress(shared, rounds) as on_progress:
        for one, share in _shares(name, rounds, [one for one in DRILLS if state is None or one != _CLOCK]):
            _run(one, share, chosen, where, total, on_progress)
    shared.show(total.told(_SHOWN), lambda: _render(total))
    if not total.is_clean:
        raise _Broken(
            f"{total.lost} of {total.messages} messages were lost, {total.twice} handlers ran twice, "
            f"{len(total.violations)} promises were broken: repeat it with --seed {chosen}"
        )


class _Broken(click.ClickException):
    exit_code = int(Exit.LOSS)


def _shares(name: str, rounds: int, drills: Sequence[str]) -> list[tuple[str, int]]:
    """Each drill with its rounds; ``drills`` is what ``all`` stands for."""
    if name != ALL:
        return [(name, rounds)]
    each, more = divmod(rounds, len(drills))
    shares = [(one, each + (index < more)) for index, one in enumerate(drills)]
    return [(one, share) for one, share in shares if share]


def _run(name: str, rounds: int, seed: int, state: Path | None, total: Report, on_progress: Any) -> None:
    """One drill, added to the total."""
    from trishula_drill.rounds import run_drill

    before = total.rounds
    report = run_drill(
        name, rounds=rounds, seed=seed, state=state, on_progress=lambda now: on_progress(name, before + now.rounds)
    )
    total.merge(report)


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does: with nothing left behind."""
    import signal

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(state: State, rounds: int) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.fields[name]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    console = state.console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("drill", total=rounds, name="starting")
        yield lambda name, done: progress.update(task, completed=done, name=name)


def _render(report: Report) -> Text:
    """Lines of name, value, meaning."""
    from rich.text import Text

    faults = ", ".join(f"{count} × {kind}" for kind, count in sorted(report.faults_by_kind.items()))
    ends = ", ".join(f"{count} {state}" for state, count in sorted(report.ends.items()))
    refused = ", ".join(f"{count} {error}" for error, count in sorted(report.refused.items())) or "none"
    rows = [
        ("Drill", report.drill, f"seed {report.seed}, {report.duration_s:.0f} s"),
        ("Rounds", report.rounds, f"{report.faults} faults: {faults}"),
        ("Messages", report.messages, f"with a receipt, of {report.sent} sent; in the store: {ends}"),
        (
            "Without",
            report.sent - report.messages,
            f"a receipt: {report.unpromised} of killed senders; refused: {refused}",
        ),
        ("Lost", report.lost, "with a receipt, and not there, not ended, not handled, or changed"),
        ("Twice", report.twice, f"handled twice without excuse; {report.effects} effects in all"),
        ("Excused", report.excused, "handled again because the process was killed before the first run was on record"),
        ("Empty", report.empties, "empty inboxes that were checked"),
        ("Broken", len(report.violations), "promises altogether"),
    ]
    told = report.told(0)
    if "gap_p50_ms" in told:
        meaning = f"the longest {told['gap_max_ms']}; from a kill to a sender's first receipt from the other node"
        rows.append(("Gap ms", told["gap_p50_ms"], f"median of {len(report.gaps_ms)}, {meaning}"))
    if "filed" in told:
        rows.append(("Files", told["filed"], f"{told['before_receipt']} effects before a node had the message"))
    if "delay_max_ms" in told:
        rows.append(("Delay ms", told["delay_max_ms"], "the longest from send to handler"))
        rows.append(("Accept ms", told["accept_delay_max_ms"], "the longest from send to receipt"))
    text = Text()
    for name, value, meaning in rows:
        text.append(f"{name:<10}", style="bold")
        text.append(f"{value:>12}   ", style="cyan")
        text.append(meaning + "\n", style="dim")
    for violation in report.violations[:_SHOWN]:
        text.append(f"  {violation}\n", style="red")
    text.rstrip()
    return text
