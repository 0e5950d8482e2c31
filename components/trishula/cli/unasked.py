"""Nodes of the bus that were not asked, or can't be: what the journals of the others tell of their time."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from trishula.contract import uris
from trishula.errors import OutcomeUnknown, TrishulaError

if TYPE_CHECKING:
    from trishula.cli.state import State
    from trishula.watching.availability import NodeTime

__all__ = ["times_of_others"]

#: For so long journals are read: whoever asks how the bus does waits for it.
_READ_S = 20.0


def times_of_others(state: State, answered: Collection[str], since: int, now: int) -> dict[str, NodeTime]:
    """What is known of the time of each peer of the bus that did not answer, by its name.

    Of one that nothing can be found out about nothing is known; see :mod:`trishula.watching.lives`.

    Args:
        state: of the command.
        answered: the nodes that told of their time themselves.
        since, now: between which instants, ms since the epoch.
    """
    # Late: it needs a library that only tools need.
    from trishula.reports.reading import last_records, records_since
    from trishula.watching.availability import NodeTime
    from trishula.watching.lives import KINDS, Lives

    begun_s = time.monotonic()
    try:
        with state.bus(looks_only=True) as bus:
            status = bus.request(uris.NODE_STATUS)
            others = {str(peer["node"]) for peer in status.get("peers", ())} - set(answered)
            if not others:
                return {}

            def ask(question: dict[str, Any]) -> dict[str, Any]:
                if time.monotonic() - begun_s > _READ_S:
                    raise OutcomeUnknown("the journals are too long to be read in time")
                return cast("dict[str, Any]", bus.request(uris.AUDIT_QUERY, question))

            lives = Lives(since, now)
            try:
                for record in records_since(ask, status, since, [], KINDS):
                    lives.add(str(record["kind"]), _here(record), record)
                for record in last_records(ask, status, others):
                    lives.last(str(record["kind"]), _here(record), record)
            except TrishulaError:
                # Of a release that can't be asked so, or too slow: half of what journals tell would be wrong.
                return {name: NodeTime(now, until=now) for name in others}
    except TrishulaError:
        return {}
    return {name: one for name, one in lives.times({}, status).items() if name in others}


def _here(record: Mapping[str, Any]) -> int:
    return int(record["at"]) - int(record.get("clock_ahead_ms", 0))
