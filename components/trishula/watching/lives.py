"""What journals tell of when nodes were up: of those that were not asked, or don't know any more. No I/O and no clock.

A node writes when it starts and when it stops. One that was killed writes nothing, so a start without a stop before
says that it was down: from its last *sign of life* before until the start. A sign of life is a record of its own, or of
another node whose link to it came up, went down, or still carried when that node wrote its last record.

After the last sign of life of a node that nobody could ask nothing is known of it: it may serve agents on its side of a
broken link, or be gone. That is neither up nor down. Whoever stopped in order is down until it starts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.availability import NodeTime
from trishula.watching.outages import Stretch, united, within

__all__ = ["KINDS", "Life", "Lives"]

#: The kinds of records that are needed, beside the last one of each node whatever it is.
KINDS = ("link", "node_started", "node_stopped")
#: What becomes of a link while both of its nodes run.
_SIGNS = ("proven", "up", "down")


@dataclass
class Life:
    """What the journal of one node tells.

    Attributes:
        begun_at: its first start, if that is in the span.
        last_at: its last record.
        stopped_at: when it stopped in order, and did not start since.
        crashes: how often it was killed.
    """

    begun_at: int | None = None
    last_at: int | None = None
    stopped_at: int | None = None
    crashes: int = 0
    #: When it was down: from when on if it was killed, which other journals may know better; and until when.
    killed: list[Stretch] = field(default_factory=list)
    stopped: list[Stretch] = field(default_factory=list)
    #: What other nodes' journals tell of it: instants of signs of life.
    signs: list[int] = field(default_factory=list)
    #: To whom a link carries.
    links: set[str] = field(default_factory=set)


class Lives:
    """Takes note of records as they are read, of each journal in its order; also of those behind the span.

    Args:
        since, until: the span, ms since the epoch.
    """

    def __init__(self, since: int, until: int) -> None:
        self._since, self._until = since, until
        self.lives: dict[str, Life] = {}

    def _life(self, name: str) -> Life:
        return self.lives.setdefault(name, Life())

    def add(self, kind: str, at: int, record: Mapping[str, Any]) -> int | None:
        """Take note of a record.

        Args:
            kind, record: as ``trishula.audit.query`` tells it.
            at: its instant, by the clock of whoever was asked.

        Returns:
            Of a start: when the run before ended, as this journal tells it; ``None`` of other records, and if it does
            not tell.
        """
        name = str(record.get("node"))
        life = self._life(name)
        ended_at = None
        if kind == "node_started":
            ended_at = self._started(life, at, int(record["seq"]))
        elif kind == "node_stopped":
            life.stopped_at = at
            self._unlink(life, at)
        elif kind == "link" and record.get("event") in _SIGNS:
            peer = str(record.get("peer"))
            self._life(peer).signs.append(at)
            # One may be over that was replaced already: rather too few signs than false ones.
            (life.links.discard if record["event"] == "down" else life.links.add)(peer)
        life.last_at = at if life.last_at is None else max(life.last_at, at)
        return ended_at

    def last(self, kind: str, at: int, record: Mapping[str, Any]) -> None:
        """Take note of the last record of a journal, of whatever kind; it may be from before the span, or known."""
        life = self._life(str(record.get("node")))
        if life.last_at is None:
            self.add(kind, at, record)
        else:
            life.last_at = max(life.last_at, at)

    def _started(self, life: Life, at: int, sequence: int) -> int | None:
        ended_at = life.last_at if life.stopped_at is None else life.stopped_at
        if life.stopped_at is not None:
            life.stopped.append((life.stopped_at, at))
        elif life.last_at is not None:
            life.killed.append((life.last_at, at))
            life.crashes += self._since <= at < self._until
            self._unlink(life, life.last_at)
        elif sequence > 1:
            # Its last record is from before the span.
            life.stopped.append((self._since, at))
        else:
            life.begun_at = at
        life.stopped_at = None
        return ended_at

    def _unlink(self, life: Life, at: int) -> None:
        for peer in life.links:
            self._life(peer).signs.append(at)
        life.links.clear()

    def times(self, told: Mapping[str, NodeTime], status: Mapping[str, Any]) -> dict[str, NodeTime]:
        """What is known of each node's time: what it said itself, and where it said nothing what journals tell.

        Args:
            told: what nodes said, by their names.
            status: ``trishula.node.status`` of the node whose journals these are. It runs, and knows its peers.
        """
        for life in list(self.lives.values()):
            if life.last_at is not None:
                self._unlink(life, life.last_at)
        peers = {str(peer["node"]): peer.get("state") == "up" for peer in status.get("peers", ())}
        running = {str(status.get("node")), *(name for name, is_up in peers.items() if is_up)}
        # A peer of which there is no record, or whose links alone are told of, is a node too.
        names = [name for name, life in self.lives.items() if life.last_at is not None]
        names += [name for name in (*peers, *told) if name not in names]
        found = {name: self._time(name, told.get(name), name in running) for name in dict.fromkeys(names)}
        # One that began to run behind the span is none of it.
        return {name: time for name, time in found.items() if time.since < self._until}

    def _time(self, name: str, told: NodeTime | None, is_running: bool) -> NodeTime:
        life = self.lives.get(name) or Life()
        down = united([*self._killed(life), *life.stopped, *self._still_stopped(life)])
        begun_at = self._since if life.begun_at is None else life.begun_at
        if told is not None and life.last_at is None:
            return told
        if told is not None:
            before = within(down, 0, told.since)
            return NodeTime(min(begun_at, told.since), united([*before, *told.down]), told.declared)
        known_until = None
        if not is_running and life.stopped_at is None:
            known_until = max((at for at in (life.last_at, *life.signs) if at is not None), default=self._since)
            if known_until >= self._until:
                known_until = None
        return NodeTime(begun_at, down, until=known_until)

    def _still_stopped(self, life: Life) -> Iterable[Stretch]:
        return () if life.stopped_at is None else ((life.stopped_at, self._until),)

    @staticmethod
    def _killed(life: Life) -> Iterable[Stretch]:
        for last_at, started_at in life.killed:
            signs = (at for at in life.signs if last_at < at < started_at)
            yield max(signs, default=last_at), started_at
