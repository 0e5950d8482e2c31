"""``trishula slo``: whether the bus keeps what it promises in figures, and planned maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from trishula.checks.outcome import Level
from trishula.cli.known import ask_each_node, ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.values import Duration
from trishula.cli.words import NOTHING, local_time, plain
from trishula.contract import uris
from trishula.contract.texts import is_line
from trishula.contract.units import show_duration
from trishula.errors import BusUnreachable, OutcomeUnknown, TrishulaError

if TYPE_CHECKING:
    from trishula.cli.tables import Table
    from trishula.watching.bus_objectives import BusObjectives
    from trishula.watching.objectives import Verdict
    from trishula.watching.totals import Totals

__all__ = ["slo"]

#: With less of the budget of 30 days left, it is a warning.
_LITTLE_LEFT = 0.1
#: Pairs that are told of.
_MOST_PAIRS = 5
_BY = {"files": " by files", "link": " over the link"}
_BUDGET_WINDOW, _DAY_WINDOW = "30d", "24h"


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def slo(ctx: click.Context) -> None:
    """Show whether the bus keeps its objectives (operators and observers).

    For each objective: its target, the figure now (of the shortest window in which something was measured), what is
    left of the error budget of 30 days, and the burn rate in each window: 1 uses the budget up just when the window is
    over. Below it: what canaries between agents came to. All nodes that the URL or the profile names are asked and
    taken together; the bus is up while one of them at least is known to be. Of a node that can't be asked the others'
    journals tell, until its last sign of life.

    It ends as trishula check does: 0 (kept), 1 (an objective was missed in the last 24 h, little of a budget is left,
    or the triggers want the fallback), 2 (a budget of 30 days is used up, or no node can be reached), 3 (it could not
    be asked: no token, no right, a node of an earlier release).

    \b
    Examples:
      trishula slo
      trishula slo --json
      trishula slo maintenance start --for 30m --reason "a new disk"
    """
    if ctx.invoked_subcommand is None:
        state: State = ctx.find_object(State) or State()
        ctx.exit(int(_show(state)))


def _show(state: State) -> Level:
    # Late: it needs a library that only tools need.
    from trishula.cli.unasked import times_of_others
    from trishula.watching.bus_objectives import merge
    from trishula.watching.objectives import WINDOWS_S

    try:
        answers, faults = ask_each_node(state, uris.NODE_OBJECTIVES)
    except TrishulaError as error:
        return _nobody(state, {"": error})
    if not answers:
        return _nobody(state, faults)
    now = max(int(answer["now"]) for answer in answers.values())
    others = times_of_others(state, answers, now - round(1000 * WINDOWS_S[_BUDGET_WINDOW]), now)
    merged = merge(list(answers.values()), others)
    level = _level(merged)
    state.show(
        {**merged.as_map(), "state": level.word, "not_reached": {url: one.sentence for url, one in faults.items()}},
        lambda: _table(merged),
    )
    hour = merged.totals["1h"]
    for sentence in _of_canaries(hour, merged):
        state.note(sentence)
    for sentence in _remarks(merged):
        state.note(sentence, "yellow")
    for url, fault in faults.items():
        state.note(f"{plain(url)} is not among them: {plain(fault.sentence)}", "yellow")
    return level


def _nobody(state: State, faults: dict[str, TrishulaError]) -> Level:
    """What is said when no node answered."""
    is_down = any(one.temporary or isinstance(one, BusUnreachable | OutcomeUnknown) for one in faults.values())
    sentences = {url: one.sentence for url, one in faults.items()}
    level = Level.CRITICAL if is_down else Level.UNKNOWN
    if state.json:
        state.line({"nodes": [], "state": level.word, "not_reached": sentences})
    else:
        for sentence in sentences.values():
            click.echo(f"trishula: {plain(sentence)}", err=True)
    return level


def _level(merged: BusObjectives) -> Level:
    level = Level.WARNING if merged.triggers else Level.OK
    for verdicts in merged.verdicts.values():
        month, day = verdicts[_BUDGET_WINDOW], verdicts[_DAY_WINDOW]
        if not month.is_proven or month.budget is None:
            continue
        if month.budget <= 0:
            return Level.CRITICAL
        if month.budget < _LITTLE_LEFT or not day.is_met:
            level = Level.WARNING
    return level


def _table(merged: BusObjectives) -> Table:
    from trishula.cli.tables import Table
    from trishula.watching.objectives import WINDOWS_S

    first, *others = WINDOWS_S
    table = Table("Objective", "Target", "Now", "Budget", f"Burn: {first}", *others)
    for name, verdicts in merged.verdicts.items():
        measured = [one for one in verdicts.values() if one.value is not None]
        bound = "≥" if name == "availability" else "<"
        table.add_row(
            name,
            f"{bound} {_figure(name, merged.targets.target(name))}",
            _figure(name, measured[0].value) if measured else NOTHING,
            _part(verdicts[_BUDGET_WINDOW].budget),
            *(_burn(one) for one in verdicts.values()),
        )
    return table


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    if name in ("availability", "loss"):
        return f"{100 * value:.4g} %"
    return f"{value:.4g}" if name == "reconnects" else show_duration(value / 1000)


def _part(part: float | None) -> str:
    return NOTHING if part is None else f"{100 * max(-9.99, part):.0f} %"


def _burn(verdict: Verdict) -> str:
    if verdict.burn is None:
        return NOTHING
    return f"{verdict.burn:.2g}" if verdict.burn < 100 else f"{verdict.burn:.0f}"


def _of_canaries(hour: Totals, merged: BusObjectives) -> Iterator[str]:
    """What the canaries of an hour came to, by the road they took."""
    from trishula.watching.canary_roads import canary_roads

    for road in canary_roads(hour):
        if road.canaries:
            p50, p99 = (_figure("p99", road.one_way_ms.quantile(part)) for part in (0.5, 0.99))
            lost = f"{road.lost:,} lost" if road.lost else "none lost"
            yield f"canaries {road.words} in the last hour: {road.canaries:,}, {lost}; one way p50 {p50}, p99 {p99}"
    for one in merged.canaries_unmeasured:
        yield (
            f"canaries from {plain(one['node'])} to {plain(one['peer'])}: not measured; {plain(one['peer'])} runs a "
            "release that knows none over links"
        )


def _of_others(merged: BusObjectives) -> Iterator[str]:
    """What is known of nodes that did not answer."""
    for one in merged.not_asked:
        name, until = plain(one["node"]), one["known_until"]
        if one["stopped_at"] is not None:
            yield f"{name} stopped at {local_time(one['stopped_at'], 'seconds')}, and is down since"
        elif until is None:
            yield f"{name} is linked and was not asked: what is known of it is what the journals tell; name its URL too"
        else:
            yield (
                f"{name} could not be asked, and its last sign of life here is from {local_time(until, 'seconds')}: "
                "what became of it since is unknown, and counts as down for the bus"
            )


def _remarks(merged: BusObjectives) -> Iterator[str]:
    yield from _of_others(merged)
    for one in merged.triggers:
        yield f"{plain(one['node'])} wants the fallback: {plain(one['reason'])}"
    # Files take as long as whoever carries them.
    bad = [
        one
        for one in merged.canaries
        if one["lost"] or (one["road"] != "files" and (one["p99_ms"] or 0) > merged.targets.p99_ms)
    ]
    for one in bad[:_MOST_PAIRS]:
        yield (
            f"canaries from {plain(one['from'])} to {plain(one['to'])}{_BY.get(one['road'], '')}: "
            f"{one['lost']} of {one['canaries']} lost, p99 {_figure('p99', one['p99_ms'])}"
        )
    if len(bad) > _MOST_PAIRS:
        yield f"and {len(bad) - _MOST_PAIRS} more pairs, which --json has"
    for one in merged.maintenance[-3:]:
        yield (
            f"maintenance of {plain(one['node'])} from {local_time(one['begin'], 'seconds')} until "
            f"{local_time(one['until'], 'seconds')}, by {plain(one['by'])}: {plain(one['reason']) or 'no reason given'}"
        )


@slo.group(cls=Group)
def maintenance() -> None:
    """Declare planned maintenance, which counts for no objective (operators only).

    All nodes that the URL or the profile names are told.
    """


@maintenance.command()
@click.option(
    "--for",
    "for_s",
    type=Duration(least_s=1.0, most_s=7 * 86_400.0),
    default="30m",
    show_default=True,
    help="For how long at most.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why, in one line.")
@json_option
@click.pass_obj
def start(state: State, for_s: float, reason: str) -> None:
    """Begin maintenance now; while it lasts, downtime is planned.

    \b
    Examples:
      trishula slo maintenance start --for 30m --reason "a new disk"
    """
    if not is_line(reason) or len(reason) > 200:
        raise click.UsageError(f"--reason is {reason!r}; it must be one line of at most 200 characters")
    _declare(state, "start", {"for_s": for_s, "reason": reason})


@maintenance.command()
@json_option
@click.pass_obj
def end(state: State) -> None:
    """End maintenance before its time is over.

    \b
    Examples:
      trishula slo maintenance end
    """
    _declare(state, "end", {})


def _declare(state: State, act: str, options: dict[str, Any]) -> None:
    told: dict[str, Any] = {}
    faults: dict[str, TrishulaError] = {}
    for url, one in state.each_node():
        try:
            with one.bus() as bus:
                answer = ask_newer(bus, uris.ADMIN_MAINTENANCE, act, options)
        except TrishulaError as error:
            faults[url] = error
            continue
        told[str(answer["node"])] = answer["maintenance"]
    if not told:
        raise next(iter(faults.values()))
    for url, fault in faults.items():
        state.note(f"{plain(url)} was not told: {plain(fault.sentence)}", "yellow")
    if state.json:
        state.line(told)
        return
    for node, declared in told.items():
        if declared is None:
            state.print(f"{plain(node)}: no maintenance was under way")
        else:
            word = "maintenance until" if act == "start" else "maintenance ended"
            state.print(f"{plain(node)}: {word} {local_time(declared['until'], 'seconds')}")
