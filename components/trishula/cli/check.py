"""``trishula check``: whether something is wrong, for cron jobs, Nagios and Prometheus: one question, one exit code.

Here each check asks a node; :mod:`trishula.checks` judges what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trishula.checks import forms
from trishula.checks import judging as judge
from trishula.checks.outcome import Bounds, Level, Outcome, worst
from trishula.cli.known import ask_newer, require_agent, require_agent_name
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.values import DURATION
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.contract.addresses import Address, is_capability
from trishula.errors import BusUnreachable, NotAllowed, OutcomeUnknown, TrishulaError

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["check"]

_DAY_S = 86_400.0
#: The node answers at most so many at a time; and so many dead letters are counted at most.
_PAGE, _MOST_LETTERS = 1000, 100_000
#: It reads the whole store.
_VERIFY_S = 600.0


@click.group(cls=Group)
def check() -> None:
    """Ask whether something is wrong, for a cron job, Nagios or Prometheus.

    It ends with 0 (ok), 1 (warning), 2 (critical) or 3 (unknown): Nagios' own numbers, in place of the program's other
    exit codes. Critical is also a node that can't be reached or doesn't answer now; unknown is what can't be looked at:
    no token, no right, a node of an earlier release. A wrong command line ends with 2 as everywhere.

    All checks but agents and certificate need an observer's or an operator's token, and journal an operator's.

    \b
    Examples:
      trishula check ready
      trishula check mailbox --warn 100 --crit 1000 --format nagios
      trishula check all --format prometheus > /var/lib/node_exporter/trishula.prom
    """


def _reported(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--format``, ``--json``, and the state of the command line."""
    function = click.pass_obj(function)
    function = json_option(function)
    return click.option(
        "--format", "form", type=click.Choice(["text", "json", "nagios", "prometheus"]), default="text",
        show_default=True, help="For people, for programs, for Nagios, or for Prometheus' textfile collector.",
    )(function)  # fmt: skip


def _bounded(
    warn: Any, crit: Any, kind: Any, help_: str, suffix: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--warn`` and ``--crit``."""

    def with_bounds(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, default, words in (("crit", crit, "Critical"), ("warn", warn, "A warning")):
            function = click.option(
                f"--{name}{suffix}", type=kind, default=default, show_default=True, help=f"{words} {help_}."
            )(function)
        return function

    return with_bounds


def _bounds(warn: float, crit: float, *, suffix: str = "", is_floor: bool = False) -> Bounds:
    if (crit > warn) if is_floor else (crit < warn):
        raise click.UsageError(
            f"--crit{suffix} would come before --warn{suffix}; what is critical is a warning at least: swap the two"
        )
    return Bounds(warn, crit, is_floor)


@dataclass(frozen=True, slots=True)
class _Check:
    """A check that is ready to be asked: its name, and what it asks of a node."""

    name: str
    ask: Callable[[Bus], Outcome]


def _report(state: State, form: str, checks: Sequence[_Check], others: Sequence[Outcome] = ()) -> None:
    outcomes = [*_outcomes(state, checks), *others]
    if state.json or form == "json":
        state.line([one.as_map() for one in outcomes])
    else:
        lines = {"text": forms.as_text, "nagios": forms.as_nagios, "prometheus": forms.as_prometheus}[form](outcomes)
        for line in lines:
            click.echo(plain(line))
    click.get_current_context().exit(int(worst(one.level for one in outcomes)))


def _outcomes(state: State, checks: Sequence[_Check]) -> Iterator[Outcome]:
    if not checks:
        return
    try:
        with state.bus(looks_only=True) as bus:
            for one in checks:
                try:
                    found = one.ask(bus)
                except (TrishulaError, TimeoutError) as error:
                    found = _failed(one.name, error)
                yield found
    except TrishulaError as error:
        for one in checks:
            yield _failed(one.name, error)


def _failed(name: str, error: TrishulaError | TimeoutError) -> Outcome:
    if isinstance(error, TimeoutError):
        return Outcome(name, Level.CRITICAL, "the node has not answered in time")
    # What would be no answer to a sender either is a fault of the node; the rest says nothing of it.
    is_down = error.temporary or isinstance(error, BusUnreachable | OutcomeUnknown)
    hint = "this needs an observer's or an operator's token: " if isinstance(error, NotAllowed) else ""
    return Outcome(name, Level.CRITICAL if is_down else Level.UNKNOWN, f"{hint}{plain(error.sentence)}")


def _now_ms() -> int:
    return int(time.time() * 1000)


def _ready() -> _Check:
    return _Check("ready", lambda bus: judge.judge_ready(ask_newer(bus, uris.NODE_READY)))


def _agents(bounds: Bounds, named: Sequence[str] = ()) -> _Check:
    return _Check("agents", lambda bus: judge.judge_agents(bus.request(uris.DIRECTORY_LIST), bounds, _now_ms(), named))


def _mailbox(depth: Bounds, age: Bounds, address: str | None = None) -> _Check:
    wanted: dict[str, Any] = {"limit": _PAGE} if address is None else {"limit": _PAGE, "agent": address}

    def ask(bus: Bus) -> Outcome:
        boxes = ask_newer(bus, uris.NODE_MAILBOXES, wanted)
        is_empty = not any(box["pending"] + box["in_flight"] for box in boxes)
        if address is not None and is_empty and not is_capability(address):
            # Of a name with a slip in it all would be well for ever.
            require_agent(bus, address)
        return judge.judge_mailbox(boxes, depth, age, _now_ms())

    return _Check("mailbox", ask)


def _dead(bounds: Bounds, agent: str | None = None) -> _Check:
    def ask(bus: Bus) -> Outcome:
        count, more, after = 0, True, 0
        while more and count < _MOST_LETTERS:
            options = {"after": after, "limit": _PAGE} | ({} if agent is None else {"agent": agent})
            told = bus.request(uris.ADMIN_DEAD_LIST, options)
            count += len(told["letters"])
            more = told["more"] and bool(told["letters"])
            after = told["letters"][-1]["seq"] if told["letters"] else after
        if agent is not None and not count:
            require_agent(bus, agent)
        return judge.judge_dead(count, bounds, more=more)

    return _Check("dead", ask)


def _link(bounds: Bounds) -> _Check:
    return _Check("link", lambda bus: judge.judge_link(bus.request(uris.NODE_STATUS), bounds))


def _disk(bounds: Bounds) -> _Check:
    return _Check("disk", lambda bus: judge.judge_disk(bus.request(uris.NODE_STATUS), bounds))


def _clock(bounds: Bounds) -> _Check:
    return _Check(
        "clock",
        lambda bus: judge.judge_clock(bus.request(uris.NODE_STATUS), bus.request(uris.DIRECTORY_LIST), bounds),
    )


def _journal() -> _Check:
    return _Check("journal", lambda bus: judge.judge_journal(bus.request(uris.AUDIT_VERIFY, timeout=_VERIFY_S)))


def _certificate(state: State, bounds: Bounds) -> Outcome | None:
    """What the nodes' certificates are like; ``None`` if no node of ours has any."""
    from trishula.cli.doctor_contact import try_tls
    from trishula.settings import load

    try:
        settings = load(url=state.url, profile=state.profile)
    except TrishulaError as error:
        return _failed("certificate", error)
    left_s: dict[str, float] = {}
    refusals: dict[str, str] = {}
    for url in settings.urls:
        contact = try_tls(url, settings)
        if not contact.is_tls:
            continue
        place = f"{contact.host}:{contact.port}"
        wrong = contact.dns_error or contact.tcp_error or contact.proxy_refusal or contact.tls_error
        if wrong is not None:
            refusals[place] = wrong
        elif contact.certificate_left_s is not None:
            left_s[place] = contact.certificate_left_s
    return judge.judge_certificate(left_s, refusals, bounds) if left_s or refusals else None


@check.command()
@_reported
def ready(state: State, form: str) -> None:
    """Whether the node can serve.

    It looks at its store, disk, peers and clock, and sends a message through itself.

    \b
    Examples:
      trishula check ready --format nagios
    """
    _report(state, form, [_ready()])


@check.command()
@click.option("--agent", "named", metavar="NAME", multiple=True, help="Only this agent, which must be there.")
@_bounded("10m", "1h", DURATION, "if an agent has been away for so long")
@_reported
def agents(state: State, form: str, named: tuple[str, ...], warn: float, crit: float) -> None:
    """Whether agents that were there once have been away for long.

    \b
    Examples:
      trishula check agents --agent agni --agent dc --warn 1m --crit 10m
    """
    for name in named:
        require_agent_name(name, "--agent")
    _report(state, form, [_agents(_bounds(warn, crit), named)])


@check.command()
@click.option("--agent", "address", metavar="ADDRESS", help="Only this agent's, its instances', or a capability's.")
@_bounded(1000, 10_000, click.IntRange(1), "if so many messages are open in a mailbox")
@_bounded("10m", "1h", DURATION, "if the oldest open message is so old", "-age")
@_reported
def mailbox(
    state: State, form: str, address: str | None, warn: int, crit: int, warn_age: float, crit_age: float
) -> None:
    """Whether many or old messages wait in a mailbox.

    \b
    Examples:
      trishula check mailbox --agent agni --warn 100 --crit 1000 --warn-age 1m --crit-age 10m
    """
    if address is not None:
        try:
            address = str(Address.parse(address))
        except ValueError as error:
            raise click.UsageError(f"--agent is {address!r}; {error}") from None
    depth, age = _bounds(warn, crit), _bounds(warn_age, crit_age, suffix="-age")
    _report(state, form, [_mailbox(depth, age, address)])


@check.command()
@click.option("--agent", metavar="NAME", help="Only letters to this agent and its instances.")
@_bounded(1, 100, click.IntRange(1), "if there are so many")
@_reported
def dead(state: State, form: str, agent: str | None, warn: int, crit: int) -> None:
    """Whether there are dead letters.

    \b
    Examples:
      trishula check dead --warn 1 --crit 10
    """
    if agent is not None:
        require_agent_name(agent, "--agent")
    _report(state, form, [_dead(_bounds(warn, crit), agent)])


@check.command()
@_bounded(1000, 100_000, click.IntRange(1), "if so many records of a peer are not copied yet")
@_reported
def link(state: State, form: str, warn: int, crit: int) -> None:
    """Whether the node is linked to all its peers, and in step with them.

    A missing link is critical, and so is what a peer's journal was refused for.

    \b
    Examples:
      trishula check link --format nagios
    """
    _report(state, form, [_link(_bounds(warn, crit))])


@check.command()
@_bounded(80, 95, click.FloatRange(0, 100), "if so many percent of limits.store are in use")
@_reported
def disk(state: State, form: str, warn: float, crit: float) -> None:
    """Whether the node's store has room and takes messages.

    \b
    Examples:
      trishula check disk --warn 70 --crit 90
    """
    _report(state, form, [_disk(_bounds(warn, crit))])


@check.command()
@_bounded("21d", "7d", DURATION, "if it is valid for so long or less")
@_reported
def certificate(state: State, form: str, warn: float, crit: float) -> None:
    """Whether the nodes' certificates are trusted, and for how long they are valid.

    Those of all nodes that the URL names with wss:// are looked at.

    \b
    Examples:
      trishula check certificate --warn 30d --crit 10d
    """
    bounds = _bounds(warn, crit, is_floor=True)
    _report(state, form, [], [_certificate(state, bounds) or judge.judge_certificate({}, {}, bounds)])


@check.command()
@_bounded("2s", "10s", DURATION, "if a clock differs by so much")
@_reported
def clock(state: State, form: str, warn: float, crit: float) -> None:
    """Whether the clocks of the node's machine, of its peers and of agents agree.

    \b
    Examples:
      trishula check clock --warn 500ms --crit 5s
    """
    _report(state, form, [_clock(_bounds(warn, crit))])


@check.command()
@_reported
def journal(state: State, form: str) -> None:
    """Whether the journal and all messages are as they were written; it reads the whole store.

    \b
    Examples:
      trishula check journal --format nagios
    """
    _report(state, form, [_journal()])


@check.command("all")
@_reported
def all_(state: State, form: str) -> None:
    """All checks with their own thresholds, but journal, which reads the whole store.

    The certificate is among them if a URL begins with wss://.

    \b
    Examples:
      trishula check all --format prometheus
    """
    checks = [
        _ready(),
        _agents(Bounds(600, 3600)),
        _mailbox(Bounds(1000, 10_000), Bounds(600, 3600)),
        _dead(Bounds(1, 100)),
        _link(Bounds(1000, 100_000)),
        _disk(Bounds(80, 95)),
        _clock(Bounds(2, 10)),
    ]
    found = _certificate(state, Bounds(21 * _DAY_S, 7 * _DAY_S, is_floor=True))
    # Without a token nobody can say more of a certificate than of the rest, which says so.
    _report(state, form, checks, [] if found is None else [found])
