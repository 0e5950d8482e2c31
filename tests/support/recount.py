"""The figures of a report, counted anew out of the audit: none of the code of :mod:`trishula.reports` takes part.

What is compared is what ``trishula audit query`` prints, record for record, with what ``trishula report`` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Record", "differences", "down_stretches", "links_down"]

#: A record as ``audit query`` prints it.
Record = Mapping[str, Any]

#: A node that was killed may have looked at itself so long after its last record, as long as a minute's step is.
_LOOKED_MS = 61_000
#: It says that it is back so soon after the record of its start.
_BACK_MS = 3000
_ENDS = ("done", "dead", "expired", "cancelled")


def _at(record: Record) -> int:
    """When, by the clock of the node that was asked; ms."""
    return int(record["at"]) - int(record.get("clock_ahead_ms", 0))


def down_stretches(records: Sequence[Record], seen: Sequence[int] = ()) -> list[tuple[int, int]]:
    """When the node of a journal that begins with its first start was down: (from, until), ms.

    Args:
        seen: when others saw it last, of each of its runs.
    """
    found: list[tuple[int, int]] = []
    last: int | None = None
    is_over = False
    for record in records:
        if record["kind"] == "node_started" and last is not None:
            later = [at for at in seen if last < at < _at(record) and not is_over]
            found.append((max([last, *later]), _at(record)))
        is_over = record["kind"] == "node_stopped"
        last = _at(record) if last is None or is_over else max(last, _at(record))
    return found


def seen_by_others(node: str, journals: Mapping[str, Sequence[Record]]) -> list[int]:
    """When others' links to a node came or went, and the last record of a run of theirs in which one was left open."""
    seen: list[int] = []
    for observer, records in journals.items():
        last, is_open = 0, False
        for record in [*records, None]:
            if is_open and (record is None or record["kind"] in ("node_started", "node_stopped")):
                seen.append(last if record is None or record["kind"] == "node_started" else _at(record))
                is_open = False
            if record is None or observer == node:
                break
            last = max(last, _at(record))
            if record["kind"] == "link" and record["peer"] == node and record["event"] in ("proven", "up", "down"):
                seen.append(_at(record))
                is_open = record["event"] != "down"
    return seen


def links_down(records: Sequence[Record]) -> list[int]:
    """When a link of the node went down, ms."""
    return [_at(record) for record in records if record["kind"] == "link" and record["event"] == "down"]


def differences(report: Mapping[str, Any], journals: Mapping[str, Sequence[Record]]) -> list[str]:
    """Where a report tells something else than the journals do; one sentence each, none if it is right.

    Args:
        report: ``trishula report --json``, of a span in which all began; each message has ended.
        journals: node → its whole journal.
    """
    since, until = report["since"], report["until"]
    #: Sender, id, use and recipient of a message that a node or two have accepted → its positions, its first instant.
    accepted: dict[tuple[str, ...], tuple[list[int], int]] = {}
    ends: dict[int, list[tuple[str, int]]] = {}
    redelivered = 0
    for records in journals.values():
        for record in records:
            if record["kind"] == "accepted":
                key = record["from"].partition("/")[0], record["id"], str(record.get("use", 0)), record["to"]
                positions, at = accepted.setdefault(key, ([], _at(record)))
                accepted[key] = [*positions, record.get("position", record["seq"])], min(at, _at(record))
            elif record["kind"] in _ENDS:
                for position in record["messages"]:
                    ends.setdefault(position, []).append((record["kind"], _at(record)))
            elif record["kind"] == "returned" and since <= _at(record) < until:
                redelivered += len(record["messages"])
    accepted = {key: value for key, value in accepted.items() if since <= value[1] < until}
    counts, took_ms = Counter({"accepted": len(accepted)}), []
    pairs = Counter((key[0], key[3].partition("/")[0]) for key in accepted)
    for positions, at in accepted.values():
        # Two nodes can accept one message and end it; the bus holds with the one that took it.
        all_ends = [end for position in positions for end in ends.get(position, ())] or [("open", 0)]
        told = min(all_ends, key=lambda end: ([*_ENDS, "open"].index(end[0]), end[1]))
        counts[told[0]] += 1
        if told[0] == "done":
            took_ms.append(max(0, told[1] - at))
    took_ms.sort()
    told_pairs = {(pair["from"], pair["to"]): pair["accepted"] for pair in report["pairs"]}
    found = [
        _compared(f"messages {name}", report["messages"][name], counts[name]) for name in ("accepted", *_ENDS, "open")
    ]
    found.append(_compared("redeliveries", report["messages"]["redeliveries"], redelivered))
    for name, part in (("p50_ms", 50), ("p90_ms", 90), ("p99_ms", 99), ("max_ms", 100)):
        # The nearest rank: so many of a hundred took no longer.
        rank = max(1, -(-part * len(took_ms) // 100))
        found.append(_compared(f"latency {name}", report["latency"][name], took_ms[rank - 1] if took_ms else None))
    found.append(_compared("pairs", told_pairs, dict(pairs)))
    found.append(_compared("messages in the series", sum(s["accepted"] for s in report["series"]), len(accepted)))
    for node in report["nodes"]:
        records = journals[node["node"]]
        seen = seen_by_others(node["node"], journals)
        told = node["told_by"] == "journal"
        stopped = [
            (max(a, since), min(b, until)) for a, b in down_stretches(records, seen if told else ()) if b > since
        ]
        down = [(begin, end) for begin, end in node["down"]]
        if node["told_by"] == "journal":
            found.append(_compared(f"{node['node']} down", down, stopped))
            down = stopped
        else:
            found += [
                f"{node['node']} down: the report says {down}, and the journal says that it was from {begin} to {end}"
                for begin, end in stopped
                if end - begin > _LOOKED_MS and not any(_is_that(told, (begin, end)) for told in down)
            ]
        # What is not known of the time before its first start is neither up nor down.
        since_here = max(since, _at(records[0]))
        last_seen = max([_at(records[-1]), *seen])
        for begin, end in node["unknown"]:
            # Its link was down when the report was made; else it was there until then.
            found.append(_compared(f"{node['node']} unknown", (begin, end), (last_seen, until)))
            until = begin
        share = 1 - sum(end - begin for begin, end in down) / (until - since_here)
        until = report["until"]
        found.append(_compared(f"{node['node']} available", round(node["availability"], 4), round(share, 4)))
    begun = [one["from"] for one in report["incidents"] if one["kind"] == "link down"]
    written = {at for records in journals.values() for at in links_down(records)}
    found += [f"a link is down at {at} in the report, and in no journal" for at in begun if at not in written]
    return [one for one in found if one]


def _is_that(told: tuple[int, int], written: tuple[int, int]) -> bool:
    """Whether a node that says when it was down says what its journal does."""
    return 0 <= told[0] - written[0] <= _LOOKED_MS and 0 <= told[1] - written[1] <= _BACK_MS


def _compared(what: str, told: object, counted: object) -> str:
    return "" if told == counted else f"{what}: the report says {told}, the journals say {counted}"
