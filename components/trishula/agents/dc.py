"""dc, the coordinator: asks every agent that is there for its host report, collates, prints a table, tells everybody.

A *round* is: ask the directory who is there, send each a COMMAND ``host_report``, wait for all answers (an agent that
doesn't answer is part of the result), broadcast a STATUS with the summary. ``dc`` does one when it has joined and
whenever somebody calls its procedure ``collect``, one at a time; :func:`collect_reports` does the asking for any
client, such as a script's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trishula.agent import Agent
from trishula.agents.host_report import add_common
from trishula.cli.words import plain
from trishula.contract.units import show_bytes, show_duration
from trishula.contract.uris import DIRECTORY_LIST
from trishula.errors import ArgumentInvalid, TrishulaError
from trishula.runtime.pending import Pending

__all__ = ["agent", "build", "collect_reports", "main", "report_table", "summary_of"]

#: A report takes a fifth of a second to measure; the rest is for a busy or distant host.
_TIMEOUT_S = 10.0
_MAX_TIMEOUT_S = 60.0
#: What reads a pipe or a log wants a row on a line.
_PIPE_WIDTH = 140


class Asker(Protocol):
    """An agent or a client."""

    def request(self, uri: str, *args: Any, timeout: float = 10.0) -> Pending[Any]:
        """Ask the node."""

    def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Run an agent's procedure."""


async def collect_reports(asker: Asker, me: str, *, timeout_s: float = _TIMEOUT_S) -> dict[str, dict[str, Any]]:
    """The host report of every agent that is there but ``me``, by name: ``{"report", "took_ms"}`` or ``{"error"}``."""
    entries = await asker.request(DIRECTORY_LIST)
    present = sorted(
        entry["agent"] for entry in entries if entry["agent"] != me and entry.get("presence") not in (None, "offline")
    )

    async def ask(name: str) -> dict[str, Any]:
        begin_s = time.monotonic()
        try:
            report = await asker.call(name, "host_report", timeout=timeout_s)
        except TrishulaError as error:
            return {"error": error.sentence}
        return {"report": report, "took_ms": round((time.monotonic() - begin_s) * 1000, 2)}

    return dict(zip(present, await asyncio.gather(*map(ask, present)), strict=True))


def summary_of(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the others should know: who answered, who didn't, and where something runs low."""
    low = []
    for name, answer in reports.items():
        report: Any = answer.get("report")
        for part in ("disk", "memory") if isinstance(report, Mapping) else ():
            measured = report.get(part)
            percent = measured.get("percent") if isinstance(measured, Mapping) else None
            if isinstance(percent, int | float) and percent >= 90:
                low.append(f"{name}: {part} {percent:.0f} % used")
    return {
        "answered": [name for name, answer in reports.items() if "report" in answer],
        "silent": {name: answer["error"] for name, answer in reports.items() if "error" in answer},
        "low": low,
    }


def report_table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """The reports side by side, one line an agent."""
    table = Table("Agent", "Host", "Up", "CPU", "Load", "Memory", "Disk", "Answered in", title="Host reports")
    for name, answer in reports.items():
        cells: list[str | Text]
        try:
            cells = _cells(answer)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            # It is somebody else's, and must not hide the others.
            cells = [Text(plain(answer.get("error", "its report is not as it should be")), style="red")]
        table.add_row(name, *cells)
    return table


def _cells(answer: Mapping[str, Any]) -> list[str | Text]:
    report = answer["report"]
    cpu, memory, disk = report["cpu"], report["memory"], report["disk"]
    return [
        plain(report["host"]),
        show_duration(report["uptime_s"]),
        f"{cpu['percent']:.0f} % of {plain(cpu['cores'])}",
        " ".join(f"{load:.2f}" for load in cpu["load"]),
        f"{memory['percent']:.0f} % of {show_bytes(memory['total_bytes'])}",
        f"{disk['percent']:.0f} % of {show_bytes(disk['total_bytes'])}",
        show_duration(answer["took_ms"] / 1000),
    ]


def build(*, console: Console | None = None, **options: Any) -> Agent:
    """The agent.

    Args:
        console: where tables go; standard output if absent.
        options: those of :class:`~trishula.agent.Agent`.
    """
    agent = Agent("dc", capabilities=["coordination"], **options)
    add_common(agent)
    # What comes over the bus is somebody else's text: no markup.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    screen = console or Console(markup=False, highlight=False, width=width)

    async def round_of(timeout_s: float) -> dict[str, Any]:
        reports = await collect_reports(agent, agent.name, timeout_s=timeout_s)
        summary = summary_of(reports)
        if reports:
            screen.print(report_table(reports))
        await agent.broadcast(type="STATUS", subject="Host reports", payload=summary)
        return {"reports": reports, "summary": summary}

    under_way: asyncio.Task[dict[str, Any]] | None = None
    queued: asyncio.Task[dict[str, Any]] | None = None

    async def round_after(one: asyncio.Task[dict[str, Any]] | None, timeout_s: float) -> dict[str, Any]:
        nonlocal under_way, queued
        if one is not None:
            await asyncio.wait([one])
            under_way, queued = queued, None
        return await round_of(timeout_s)

    @agent.procedure()
    async def collect(timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """A round that begins from now on: everybody is asked. Returns the reports and the summary.

        There is one round at a time, however many ask for one: those who ask while it is under way share the next one,
        for whom it began too early.
        """
        nonlocal under_way, queued
        if not 0 < timeout_s <= _MAX_TIMEOUT_S:
            raise ArgumentInvalid(f"timeout_s is {timeout_s}; it must be over 0 and at most {_MAX_TIMEOUT_S:g} seconds")
        if queued is not None:
            mine = queued
        elif under_way is None or under_way.done():
            mine = under_way = asyncio.ensure_future(round_after(None, timeout_s))
        else:
            mine = queued = asyncio.ensure_future(round_after(under_way, timeout_s))
        # Whoever gives up ends it for nobody else.
        return await asyncio.shield(mine)

    @agent.on_start
    async def first_round() -> None:
        await collect()

    return agent


agent = build()


def main() -> None:
    """Run it."""
    agent.run()


if __name__ == "__main__":
    main()
