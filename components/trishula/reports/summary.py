"""A report's figures, out of the records of the journals that a node holds. No I/O and no clock.

=============  =======================================================================================================
``since``      the span: from this instant (ms since the epoch)
``until``      to this one, which is not in it any more
``made_at``    when the report was made
``node``       the node that was asked, with its ``version``
``step_s``     how long a step of the series is
``messages``   ``{accepted, done, dead, expired, cancelled, open, redeliveries}``: how the messages stand that were
               accepted in the span; a broadcast counts once for each recipient
``latency``    ``{messages, p50_ms, p90_ms, p99_ms, max_ms}`` from acceptance until done, exactly, of those that are
               done
``series``     ``[{at, accepted, done, dead, expired, cancelled, open, p50_ms, p99_ms}…]``: the same of each step in
               which a message was accepted
``pairs``      ``[{from, to, accepted, …, p50_ms, p99_ms}…]``: the same of each sender and recipient, the busiest first
``nodes``      ``[{node, availability, down_s, down: [[from, until]…], planned_s, planned: [[from, until]…],
               unknown_s, unknown: [[from, until]…], crashes, told_by}…]``; ``availability`` is a share, 0 to 1, of
               what is known, ``null`` if nothing is; ``planned`` is when it was down within declared maintenance;
               ``unknown`` is the time since the last sign of life of a node that nobody could ask; ``told_by`` is
               ``node`` if it said so itself, ``journal`` if it was not asked, ``both`` if it doesn't know of all of
               the span
``bus``        ``{availability, down_s, down, planned_s, planned}``: down is when all nodes are
``agents``     ``[{agent, sessions, reconnects, failovers, refusals, away_s, away: [[from, until]…]}…]``
``failovers``  ``[{agent, from, to, at, took_s}…]``
``incidents``  ``[{kind, about, from, until, detail}…]``; ``until`` is ``null`` of what goes on
``capacity``   ``{per_day, store_bytes, limit_bytes, bytes_per_message, days_left}``: how long the store of the node
               lasts at the span's rate; ``null`` for what isn't known
``canaries``   ``[{road, canaries, lost, p50_ms, p99_ms}…]``: what nodes counted of canaries, by the road they took;
               the command adds it, for no journal tells of canaries
``missing``    nodes of which newer records are not here: ``[{node, reason, …}…]``
=============  =======================================================================================================

Instants of other nodes are put into the clock of the node that is asked, as far as the difference is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trishula.reports.incidents import Incidents
from trishula.reports.messages import Messages
from trishula.reports.presence import Presence
from trishula.watching.availability import NodeTime

__all__ = ["Report", "Summary", "step_for"]

#: A report, as the module's docstring has it.
Report = dict[str, Any]

_DAY_MS = 86_400_000
#: Steps that a person can name, in ms.
_STEPS_MS = (1000, 10_000, 60_000, 300_000, 900_000, 3_600_000, 6 * 3_600_000, _DAY_MS)
#: More than so many steps are no picture.
_MOST_STEPS = 200


def step_for(span_ms: int) -> int:
    """How long a step of a series should be, in ms: the shortest that makes a picture."""
    return next((step for step in _STEPS_MS if span_ms / step <= _MOST_STEPS), _STEPS_MS[-1])


class Summary:
    """Takes note of records, journal after journal, each in its order.

    Args:
        since, until: the span, ms since the epoch.
        times: what nodes said of their time, by their names.
    """

    def __init__(self, since: int, until: int, times: Mapping[str, NodeTime] | None = None) -> None:
        self._since, self._until = since, until
        self._step_ms = step_for(until - since)
        self._messages = Messages(since, until, self._step_ms)
        self._presence = Presence(since, until, times)
        self._incidents = Incidents(since, until)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take note of a record, as ``trishula.audit.query`` tells it."""
        kind = str(record.get("kind"))
        at = int(record["at"]) - int(record.get("clock_ahead_ms", 0))
        # Messages that were accepted in the span may end behind it.
        self._messages.add(kind, at, record)
        self._presence.add(kind, at, record)
        if at < self._until:
            self._incidents.add(kind, at, record)

    def add_last(self, record: Mapping[str, Any]) -> None:
        """Take note of the last record of the journal of a node that was not asked; it may be from before the span."""
        at = int(record["at"]) - int(record.get("clock_ahead_ms", 0))
        self._presence.add_last(str(record.get("kind")), at, record)

    def report(self, status: Mapping[str, Any], made_at: int, missing: Sequence[Mapping[str, Any]] = ()) -> Report:
        """The report; see the module's docstring.

        Args:
            status: ``trishula.node.status`` of the node that was asked.
            made_at: the time, ms since the epoch.
            missing: what the node said of journals whose records it doesn't hold.
        """
        messages, presence = self._messages.told(), self._presence.told(status)
        return {
            "since": self._since,
            "until": self._until,
            "made_at": made_at,
            "node": status.get("node"),
            "version": status.get("version"),
            "step_s": self._step_ms / 1000,
            **messages,
            **presence,
            "incidents": self._incidents.told(presence["nodes"], presence["agents"]),
            "capacity": self._capacity(messages["messages"]["accepted"], status),
            "missing": [dict(one) for one in missing],
        }

    def _capacity(self, accepted: int, status: Mapping[str, Any]) -> dict[str, Any]:
        store = status.get("store") or {}
        per_day = accepted * _DAY_MS / max(1, self._until - self._since)
        # All that the store ever took, the node's own and copies, by what it takes now.
        records = int(status.get("high_water", 0)) + sum(
            int(peer.get("copied") or 0) for peer in status.get("peers", ())
        )
        used, limit, room = store.get("used_bytes") or None, store.get("limit_bytes"), store.get("room_bytes")
        # A settled message leaves three records and more: accepted, delivered, done.
        each = None if not used or records < 300 else used / (records / 3)
        days = None if each is None or room is None or not per_day else max(0, room) / (each * per_day)
        return {
            "per_day": round(per_day, 1),
            "store_bytes": store.get("size_bytes"),
            "limit_bytes": limit,
            "bytes_per_message": None if each is None else round(each),
            "days_left": None if days is None else round(days, 1),
        }
