"""What an operator would have been called for within a span: links down, changes of mode, set clocks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Incidents"]

#: An agent that is away for less has only connected anew.
_AWAY_MS = 60 * 60_000


class Incidents:
    """Takes note of records that tell of one.

    Args:
        since, until: the span, ms since the epoch.
    """

    def __init__(self, since: int, until: int) -> None:
        self._since, self._until = since, until
        self._found: list[dict[str, Any]] = []
        #: What was said of the bus's mode, in whichever node's journal: (when, the record).
        self._modes: list[tuple[int, Mapping[str, Any]]] = []
        #: (kind, about) → the incident that goes on.
        self._open: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, kind: str, at: int, record: Mapping[str, Any]) -> None:
        """Take note of a record; arguments as those of :meth:`.messages.Messages.add`."""
        node = str(record.get("node"))
        if kind == "link":
            event, about = str(record.get("event")), f"{node} – {record.get('peer')}"
            if event == "down":
                self._begin("link down", about, at, str(record.get("detail") or ""))
            elif event == "up":
                self._end("link down", about, at)
        elif kind == "mode":
            # One node may end what another one began, and journals are read one after the other.
            self._modes.append((at, record))
        elif kind == "clock_set":
            self._note("clock set", node, at, f"by {record.get('by_ms')} ms")
        elif kind == "restored":
            self._note("restored from a backup", node, at, "")
        elif kind == "dead":
            count = len(record.get("messages", ()))
            self._note("dead letters", node, at, f"{count}: {record.get('reason') or 'no reason was given'}")

    def _begin(self, kind: str, about: str, at: int, detail: str) -> None:
        if (kind, about) not in self._open:
            self._open[kind, about] = one = _incident(kind, about, at, None, detail)
            self._found.append(one)

    def _end(self, kind: str, about: str, at: int) -> None:
        one = self._open.pop((kind, about), None)
        if one is not None:
            one["until"] = at

    def _note(self, kind: str, about: str, at: int, detail: str) -> None:
        self._found.append(_incident(kind, about, at, at, detail))

    def told(self, nodes: Iterable[Mapping[str, Any]], agents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """``[{kind, about, from, until, detail}…]`` in order of time; ``until`` is ``None`` of what goes on.

        Args:
            nodes, agents: what :meth:`.presence.Presence.told` found of them.
        """
        for at, record in sorted(self._modes, key=lambda one: one[0]):
            if record.get("mode") == "fallback":
                self._begin("fallback", "the bus", at, f"{record.get('reason')} ({record.get('by')})")
            else:
                self._end("fallback", "the bus", at)
        self._modes.clear()
        found = list(self._found)
        for node in nodes:
            found += self._of_spans("node down", str(node["node"]), node["down"], 0)
            found += self._of_spans("node not known", str(node["node"]), node["unknown"], 0)
            found += self._of_spans("maintenance", str(node["node"]), node["planned"], 0)
        for agent in agents:
            found += self._of_spans("agent away", str(agent["agent"]), agent["away"], _AWAY_MS)
        within = [one for one in found if one["from"] < self._until and (one["until"] or self._until) >= self._since]
        return sorted(within, key=lambda one: (one["from"], one["kind"], one["about"]))

    def _of_spans(self, kind: str, about: str, spans: Sequence[Sequence[int]], least_ms: int) -> list[dict[str, Any]]:
        return [
            _incident(kind, about, begin, None if end >= self._until else end, "")
            for begin, end in spans
            if end - begin >= least_ms
        ]


def _incident(kind: str, about: str, begin: int, until: int | None, detail: str) -> dict[str, Any]:
    return {"kind": kind, "about": about, "from": begin, "until": until, "detail": detail}
