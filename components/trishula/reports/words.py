"""Figures of a report as people read them, the same in every form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trishula.contract.texts import one_line

if TYPE_CHECKING:
    from trishula.reports.summary import Report

__all__ = ["caveats", "instant", "milliseconds", "percent", "seconds", "size", "tables", "verdict"]

#: More rows than these are in the JSON form; a last row of one cell says so.
_MOST_ROWS = 50

#: Who told when nodes were down, if not each of them itself for the whole span.
_TOLD_BY = {
    "journal": "Not asked when they were down: {}. Their journals tell that they were stopped or killed, and not that "
    "they stood still, were not ready, or were down as planned; name all nodes in the URL or the profile",
    "both": "Before they began to count by themselves, it is known from journals alone when they were down: {}",
}

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def instant(at_ms: int | None) -> str:
    """``2026-11-29 01:02:03 UTC``."""
    return "–" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def seconds(span_s: float | None) -> str:
    """``3.2 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if span_s is None:
        return "–"
    if span_s < 60:
        return f"{span_s:.3g} s"
    minutes, rest_s = divmod(round(span_s), 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} d {hours_left} h"
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest_s} s"


def milliseconds(span_ms: int | None) -> str:
    """``12 ms``, or as :func:`seconds`."""
    return "–" if span_ms is None else f"{span_ms} ms" if span_ms < 10_000 else seconds(span_ms / 1000)


def percent(share: float | None) -> str:
    """``99.95 %``, never rounded up to all; ``unknown`` of no time that is known."""
    if share is None:
        return "unknown"
    if share >= 1:
        return "100 %"
    return f"{int(share * 100_000) / 1000:g} %"


def size(count_bytes: float | None) -> str:
    """``12 MiB``."""
    if count_bytes is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if count_bytes < 1024:
            return f"{count_bytes:.3g} {unit}" if unit != "B" else f"{count_bytes:.0f} B"
        count_bytes /= 1024
    return f"{count_bytes:.3g} GiB"


def verdict(report: Report) -> list[tuple[str, str]]:
    """What a reader wants to know first: a name and a figure each."""
    messages, latency, bus = report["messages"], report["latency"], report["bus"]
    lost = messages["dead"] + messages["expired"]
    return [
        ("Availability", percent(bus["availability"])),
        ("Messages accepted", f"{messages['accepted']:,}"),
        ("Done", f"{messages['done']:,}"),
        ("Dead or expired", f"{lost:,}"),
        ("Not ended yet", f"{messages['open']:,}"),
        ("Latency p50 / p99", f"{milliseconds(latency['p50_ms'])} / {milliseconds(latency['p99_ms'])}"),
        ("Reconnects", f"{sum(one['reconnects'] for one in report['agents']):,}"),
        ("Failovers", f"{len(report['failovers']):,}"),
        ("Incidents", f"{len(report['incidents']):,}"),
    ]


def caveats(report: Report) -> list[str]:
    """What the report does not know, a sentence each."""
    missing = [
        one_line(f"{one.get('reason')}: records of {one.get('node')} after {one.get('held')} are not in this report")
        for one in report["missing"]
    ]
    missing += [
        one_line(
            f"Nothing is known of {one['node']} after {instant(one['unknown'][0][0])}, its last sign of life in the "
            "journals here, and nobody could ask "
            "it: its availability is that of the time before, and for the bus it counts as down since"
        )
        for one in report["nodes"]
        if one["unknown"]
    ]
    for told_by, sentence in _TOLD_BY.items():
        names = [str(one["node"]) for one in report["nodes"] if one["told_by"] == told_by]
        if names:
            missing.append(one_line(sentence.format(", ".join(names))))
    return missing


def tables(report: Report) -> list[Table]:
    """All tables: a title, the heads of the columns, the rows. Texts of others have one line, and are no markup yet."""
    capacity = report["capacity"]
    return [
        (
            "Incidents",
            ("from", "until", "what", "where", "detail"),
            _rows(
                (
                    instant(one["from"]),
                    "goes on" if one["until"] is None else instant(one["until"]),
                    one["kind"],
                    one["about"],
                    one["detail"],
                )
                for one in report["incidents"]
            ),
        ),
        (
            "Nodes",
            ("node", "availability", "down", "planned", "unknown", "crashes"),
            _rows(
                (
                    one["node"],
                    percent(one["availability"]),
                    seconds(one["down_s"]),
                    seconds(one["planned_s"]),
                    seconds(one["unknown_s"]),
                    one["crashes"],
                )
                for one in report["nodes"]
            ),
        ),
        (
            "Agents",
            ("agent", "sessions", "reconnects", "failovers", "refused", "away"),
            _rows(
                (
                    one["agent"],
                    one["sessions"],
                    one["reconnects"],
                    one["failovers"],
                    one["refusals"],
                    seconds(one["away_s"]),
                )
                for one in report["agents"]
            ),
        ),
        (
            "Messages by sender and recipient",
            ("from", "to", "accepted", "done", "dead", "expired", "open", "p50", "p99"),
            _rows(
                (
                    *(one[name] for name in ("from", "to", "accepted", "done", "dead", "expired", "open")),
                    milliseconds(one["p50_ms"]),
                    milliseconds(one["p99_ms"]),
                )
                for one in report["pairs"]
            ),
        ),
        (
            "Failovers",
            ("when", "agent", "from", "to", "took"),
            _rows(
                (instant(one["at"]), one["agent"], one["from"], one["to"], seconds(one["took_s"]))
                for one in report["failovers"]
            ),
        ),
        (
            "Canaries",
            ("road", "sent", "lost", "one way p50", "one way p99"),
            _rows(
                (
                    one["road"],
                    *(
                        (
                            f"{one['canaries']:,}",
                            f"{one['lost']:,}",
                            milliseconds(one["p50_ms"]),
                            milliseconds(one["p99_ms"]),
                        )
                        if one["canaries"]
                        else ("not measured", "–", "–", "–")
                    ),
                )
                for one in report.get("canaries", ())
            ),
        ),
        (
            "Capacity",
            ("messages a day", "store", "limit", "bytes a message", "lasts"),
            _rows(
                [
                    (
                        f"{capacity['per_day']:,.0f}",
                        size(capacity["store_bytes"]),
                        size(capacity["limit_bytes"]),
                        size(capacity["bytes_per_message"]),
                        "–" if capacity["days_left"] is None else f"{capacity['days_left']:,.0f} days at this rate",
                    )
                ]
            ),
        ),
    ]


def _rows(rows: Any) -> list[tuple[str, ...]]:
    found = [tuple(one_line(str(cell)) for cell in row) for row in rows]
    if len(found) <= _MOST_ROWS:
        return found
    more = f"and {len(found) - _MOST_ROWS:,} more, which the JSON form has"
    return [*found[:_MOST_ROWS], (more,)]
