"""``trishula bench``: measure a bus."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.cli.values import DURATION
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from rich.text import Text

    from trishula.tools.bench import Figures, Plan

__all__ = ["bench"]

#: The agent of a node of our own.
_AGENT = "bench"


@click.command()
@click.option("--duration", type=DURATION, default="60s", show_default=True, help="How long to measure.")
@click.option("--connections", type=click.IntRange(1, 1000), help="Of the sender (default 3; 1 with --max).")
@click.option("--rate", type=click.FloatRange(0.1), help="Messages a second on each connection (default 100).")
@click.option("--max", "at_most", is_flag=True, help="As fast as the window allows, instead of at a rate.")
@click.option(
    "--window",
    type=click.IntRange(1, 1024),
    default=256,
    show_default=True,
    help="With --max: messages without a receipt, over all connections.",
)
@click.option(
    "--size", "size_bytes", type=click.IntRange(40, 1_000_000), default=200, show_default=True, help="Bytes of payload."
)
@click.option("--copies", type=click.IntRange(1, 2), help="On how many nodes a message must be before its receipt.")
@click.option("--apart", is_flag=True, help="The sender at the first node of TRISHULA_URL, the receiver at the second.")
@click.option("--warm-up", type=DURATION, default="1s", show_default=True, help="Sent before, and not measured.")
@json_option
@click.pass_context
def bench(
    ctx: click.Context,
    duration: float,
    connections: int | None,
    rate: float | None,
    at_most: bool,
    window: int,
    size_bytes: int,
    copies: int | None,
    apart: bool,
    warm_up: float,
) -> None:
    """Measure latency and throughput.

    Sender and receiver are processes of their own, and every message is acknowledged. With TRISHULA_URL (or --url) and
    TRISHULA_TOKEN it measures that bus, as two instances of the token's agent. Without, it starts a durable node of its
    own on this machine and removes it afterwards. It ends with 8 if a message was lost or refused.

    \b
    Examples:
      trishula bench --duration 60s --connections 3 --rate 100
      trishula bench --max --duration 10s --json
      trishula --url ws://agni:8765/ws,ws://rushabdev:8765/ws bench --apart --copies 2
    """
    from trishula.tools.bench import Plan, measure

    state = ctx.ensure_object(State)
    if at_most and rate is not None:
        raise click.UsageError("--max and --rate exclude each other: leave one out")
    if duration <= 0:
        raise click.UsageError("--duration must be longer than nothing")
    plan = Plan(
        duration_s=duration,
        connections=connections or (1 if at_most else 3),
        rate=0.0 if at_most else rate or 100.0,
        window=window,
        size_bytes=size_bytes,
        warm_up_s=warm_up,
        copies=copies,
        apart=apart,
    )
    if at_most and plan.connections > window:
        raise click.UsageError(f"--window {window} can't be shared by {plan.connections} connections: each needs one")
    with _bus(state) as (who, where), _progress(state, plan) as on_progress:
        figures = measure(plan, **who, on_progress=on_progress)
    value = {**asdict(figures), "plan": asdict(plan), "bus": where, "machine": _machine()}
    state.show(value, lambda: _render(figures, plan, where))
    if not figures.is_clean:
        state_of = f"{figures.lost} of {figures.messages} messages were lost and {figures.refused} refused"
        raise _Loss(state_of)


class _Loss(click.ClickException):
    exit_code = int(Exit.LOSS)


@contextlib.contextmanager
def _bus(state: State) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Where to measure and as whom, and what to say about it."""
    profile = state.named_profile
    if state.url or os.environ.get("TRISHULA_URL") or profile or os.environ.get("TRISHULA_PROFILE"):
        from trishula.settings import load

        settings = load(url=state.url, profile=profile)
        key_file = "" if settings.keys.key_file is None else str(settings.keys.key_file)
        who = {"url": ",".join(settings.urls), "agent": settings.agent, "token": settings.token, "key_file": key_file}
        yield who, {"url": list(settings.urls), "own": False}
        return
    from trishula.tools.temporary_node import ThrowawayNode

    with ThrowawayNode(prefix="trishula-bench-") as node:
        filesystem = _filesystem_of(node.directory)
        if filesystem in ("tmpfs", "ramfs"):
            click.echo(
                f"trishula: {node.directory} is in memory ({filesystem}), where fsync costs nothing: "
                "set TMPDIR to a directory on a disk",
                err=True,
            )
        who = {"url": node.url, "token": node.token(_AGENT)}
        yield who, {"url": [node.url], "own": True, "filesystem": filesystem}


@contextlib.contextmanager
def _progress(state: State, plan: Plan) -> Iterator[Any]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    total = plan.duration_s * plan.rate * plan.connections if plan.rate else None
    console = state.console(stderr=True)
    columns = [TextColumn("measuring"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        # At full speed nobody knows how many there will be, but how long it takes.
        task = progress.add_task("bench", total=total if total else plan.duration_s, text="warming up")
        begin: float | None = None

        def told(sent: int, received: int) -> None:
            nonlocal begin
            now_s = progress.get_time()
            begin = now_s if begin is None else begin
            done = float(sent) if total else now_s - begin
            progress.update(task, completed=done, text=f"{sent} sent, {received} received")

        yield told


def _filesystem_of(path: Path) -> str:
    import psutil

    def length(mount: str) -> int:
        return len(mount) if path.resolve().is_relative_to(mount) else -1

    partitions = [(length(part.mountpoint), part.fstype) for part in psutil.disk_partitions(all=True)]
    best = max(partitions, default=(-1, "unknown"))
    return best[1] if best[0] >= 0 else "unknown"


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _render(figures: Figures, plan: Plan, where: dict[str, Any]) -> Text:
    """Lines of name, value, meaning: easy to read, easy to grep."""
    from rich.text import Text

    def ms(value: float) -> str:
        return f"{value:.2f} ms"

    pace = f"window {plan.window}" if not plan.rate else f"{plan.rate:g} msg/s each"
    bus = "a node of its own" if where["own"] else ", ".join(where["url"])
    rows = [
        ("Bus", bus, f"{plan.connections} connections, {pace}, {plan.duration_s:g} s, payload {plan.size_bytes} B"),
        ("Durability", figures.durability, "what a receipt meant"),
        ("Latency p50", ms(figures.latency_p50_ms), "send → receipt"),
        ("Latency p99", ms(figures.latency_p99_ms), f"send → receipt (max {ms(figures.latency_max_ms)})"),
        ("One-way p50", ms(figures.one_way_p50_ms), "send → handler"),
        ("One-way p99", ms(figures.one_way_p99_ms), f"send → handler (max {ms(figures.one_way_max_ms)})"),
        (
            "Success rate",
            f"{figures.success_rate * 100:.3f} %".replace("100.000", "100"),
            f"{figures.messages} messages: {figures.lost} lost, {figures.refused} refused, {figures.duplicates} twice",
        ),
        ("Throughput", f"{figures.throughput_per_s:,.0f} msg/s", "first send → last ack"),
        ("Connection", ms(figures.connect_ms), f"median until joined and set up (max {ms(figures.connect_max_ms)})"),
        ("Warm-up", f"{plan.warm_up_s:g} s", f"{figures.warm_up_messages} messages before, not measured"),
    ]
    text = Text()
    # The URL of a bus may be longer than any figure.
    width = max(20, *(len(value) for _, value, _ in rows))
    for name, value, meaning in rows:
        text.append(f"{name:<14}", style="bold")
        text.append(f"{value:>{width}}   ", style="cyan")
        text.append(meaning + "\n", style="dim")
    text.rstrip()
    return text
