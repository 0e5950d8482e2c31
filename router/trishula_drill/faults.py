"""Which faults strike when: the schedule of each drill, from its seed alone. Pure; no clock, no I/O.

``schedule(drill, round, seed)`` is the same on every machine: a seed that found something finds it again, as far as
the machine's own timing allows. What a fault does stands at its :class:`Kind`; :mod:`trishula_drill.rounds` and
:mod:`trishula_drill.proxy` do it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ALL", "DRILLS", "NETWORK", "Cast", "Fault", "Kind", "schedule"]


class Kind(StrEnum):
    """What a fault does."""

    KILL_NODE = "kill node"  # kill -9 of all its processes at once, then start it again
    RESTART_NODE = "restart node"  # SIGTERM, and start it again when it has ended
    KILL_CLIENT = "kill client"  # kill -9 of a sender or a receiver, then start it again
    FREEZE_NODE = "freeze node"  # SIGSTOP of all its processes, SIGCONT after ``for_s``
    FREEZE_CLIENT = "freeze client"  # the same for a sender or a receiver
    LATENCY = "latency"  # what passes the network waits up to ``amount`` s, both ways
    DOWN = "down"  # connections are reset, new ones refused
    RESET = "reset"  # connections are reset, new ones are welcome
    BLACK_HOLE = "black hole"  # nothing passes, nothing is closed
    SLOW_CLOSE = "slow close"  # the node's side of a connection is gone, and its client hears of it after ``for_s``
    LIMIT = "limited data"  # a connection is cut after ``amount`` bytes, in the midst of a message
    QUICK_LOSS = "quick session loss"  # each connection is reset within ``amount`` s after it was made
    SLICE = "slicing"  # bytes come in small pieces, up to ``amount`` at a time
    BANDWIDTH = "bandwidth"  # each direction of a connection carries ``amount`` bytes a second
    FULL = "disk full"  # the store may not grow any more; after ``for_s`` there is room again
    FSYNC = "failing fsync"  # each fsync of the store fails, for ``for_s``
    KILL_REDIS = "kill redis"  # kill -9; after ``for_s`` an empty one takes its place
    FLUSH_REDIS = "flush redis"  # it forgets everything
    SLOW_REDIS = "slow redis"  # it answers nobody for ``amount`` s, and then all that was asked
    FREEZE_REDIS = "freeze redis"  # SIGSTOP, SIGCONT after ``for_s``
    CUT_REDIS = "cut redis"  # its connections are reset, new ones are welcome
    CLOCK = "clock step"  # the wall clock of the node or of a client is set ``amount`` s ahead of the true one


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at_s: after the beginning of its round.
        for_s: how long it lasts; 0 for what is over at once.
        target: the client it hits; empty for the node, or for all clients.
        amount: see the kind.
    """

    kind: Kind
    at_s: float
    for_s: float = 0.0
    target: str = ""
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part: the names of the clients."""

    senders: tuple[str, ...]
    receivers: tuple[str, ...]

    @property
    def clients(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.senders, *self.receivers)


#: Name → what it does, in the order of ``all``.
DRILLS = {
    "kill9": "kill -9 of the node, again and again, under running traffic",
    "kill9-agent": "kill -9 of senders and receivers",
    "kill9-both": "kill -9 of the node and of clients, at about the same time",
    "restart": "the node is stopped in order and started again",
    "freeze": "SIGSTOP and SIGCONT of the node and of clients",
    "network": "latency, down, reset, black hole, slow close, limited data, slicing, quick losses, bandwidth",
    "disk-full": "the store is full, and has room again",
    "fsync": "each fsync of the store fails for a while, also while the node or a client is killed",
    "clock": "the wall clocks of the node and of clients are set, by minutes to weeks, back and forth",
}
ALL = "all"

NETWORK = (
    Kind.LATENCY,
    Kind.DOWN,
    Kind.RESET,
    Kind.BLACK_HOLE,
    Kind.SLOW_CLOSE,
    Kind.LIMIT,
    Kind.SLICE,
    Kind.QUICK_LOSS,
    Kind.BANDWIDTH,
)

#: A client gives a node up after 3.5 s of silence: some freezes are noticed, some are not.
_SHORT_S, _LONG_S = 0.2, 4.5


def schedule(drill: str, number: int, seed: int, cast: Cast) -> tuple[Fault, ...]:
    """The faults of one round, in the order in which they strike.

    Args:
        drill: a key of :data:`DRILLS`.
        number: of the round, from 0 on.
        seed: of the whole drill.
        cast: who can be hit.
    """
    # A string seeds by its own hash, which is the same everywhere.
    chance = random.Random(f"{seed}/{drill}/{number}")
    return tuple(sorted(_FAULTS[drill](chance, number, cast), key=lambda fault: fault.at_s))


def _kill_node(chance: random.Random, _number: int, _cast: Cast) -> list[Fault]:
    return [Fault(Kind.KILL_NODE, _soon(chance))]


def _restart_node(chance: random.Random, _number: int, _cast: Cast) -> list[Fault]:
    return [Fault(Kind.RESTART_NODE, _soon(chance))]


def _kill_client(chance: random.Random, _number: int, cast: Cast) -> list[Fault]:
    return [Fault(Kind.KILL_CLIENT, _soon(chance), target=chance.choice(cast.clients))]


def _kill_both(chance: random.Random, _number: int, cast: Cast) -> list[Fault]:
    victims = chance.sample(cast.clients, chance.randint(1, 2))
    at_s = _soon(chance)
    return [
        Fault(Kind.KILL_NODE, at_s),
        *(Fault(Kind.KILL_CLIENT, max(at_s + chance.uniform(-0.1, 0.1), 0.0), target=name) for name in victims),
    ]


def _freeze(chance: random.Random, _number: int, cast: Cast) -> list[Fault]:
    span_s = chance.uniform(_SHORT_S, _LONG_S)
    if chance.random() < 0.4:
        return [Fault(Kind.FREEZE_NODE, _soon(chance), span_s)]
    return [Fault(Kind.FREEZE_CLIENT, _soon(chance), span_s, chance.choice(cast.clients))]


def _network(chance: random.Random, number: int, cast: Cast) -> list[Fault]:
    # Each kind has its turn, so that a short run meets them all.
    kind = NETWORK[number % len(NETWORK)]
    target = chance.choice(("", *cast.clients))
    span_s = chance.uniform(_SHORT_S, _LONG_S if kind in (Kind.BLACK_HOLE, Kind.BANDWIDTH) else 1.5)
    if kind is Kind.QUICK_LOSS:
        # Long enough for many sessions, also more than a message may lose in ignorance.
        span_s = chance.uniform(_LONG_S, 2 * _LONG_S)
    amount = {
        Kind.LATENCY: chance.uniform(0.005, 0.3),
        Kind.LIMIT: float(chance.randint(200, 20_000)),
        Kind.SLICE: float(chance.randint(1, 200)),
        Kind.QUICK_LOSS: chance.uniform(0.05, 0.4),
        # From 64 kbit/s to 2 Mbit/s.
        Kind.BANDWIDTH: float(chance.randint(8_000, 250_000)),
    }.get(kind, 0.0)
    return [Fault(kind, _soon(chance), 0.0 if kind is Kind.RESET else span_s, target, amount)]


def _disk_full(chance: random.Random, _number: int, _cast: Cast) -> list[Fault]:
    # In KiB: how much room is left.
    return [Fault(Kind.FULL, _soon(chance), chance.uniform(1.0, 3.0), amount=float(chance.randint(16, 512)))]


def _fsync(chance: random.Random, _number: int, cast: Cast) -> list[Fault]:
    at_s, span_s = _soon(chance), chance.uniform(_SHORT_S, 2.5)
    faults = [Fault(Kind.FSYNC, at_s, span_s)]
    dice, inside_s = chance.random(), chance.uniform(0.0, span_s)
    if dice < 0.3:
        # What was written and not synced is in the file all the same. It starts again when the disk is well.
        faults.append(Fault(Kind.KILL_NODE, at_s + inside_s, span_s - inside_s + 0.01))
    elif dice < 0.6:
        faults.append(Fault(Kind.KILL_CLIENT, at_s + inside_s, target=chance.choice(cast.clients)))
    return faults


def _clock(chance: random.Random, _number: int, cast: Cast) -> list[Fault]:
    at_s = _soon(chance)
    faults = [Fault(Kind.CLOCK, at_s, amount=_ahead_s(chance))]
    dice = chance.random()
    if dice < 0.2:
        # Its time goes on over a restart, whatever the clock says then.
        faults.append(Fault(chance.choice((Kind.KILL_NODE, Kind.RESTART_NODE)), at_s + 0.5))
    elif dice < 0.7:
        victim = chance.choice(cast.clients)
        faults.append(Fault(Kind.CLOCK, at_s + chance.uniform(-at_s, 0.3), target=victim, amount=_ahead_s(chance)))
        if dice < 0.5:
            # What it had not acknowledged comes to it again, and it must know it under its new time.
            faults.append(
                chance.choice((Fault(Kind.KILL_NODE, at_s + 0.6), Fault(Kind.KILL_CLIENT, at_s + 0.6, 0.0, victim)))
            )
    return faults


def _ahead_s(chance: random.Random) -> float:
    """From two minutes to thirty days, as likely in each power of ten; back or forth."""
    return float(round(chance.choice((-1, 1)) * 10 ** chance.uniform(math.log10(120), math.log10(30 * 86_400))))


def _soon(chance: random.Random) -> float:
    return chance.uniform(0.0, 0.6)


_FAULTS = {
    "kill9": _kill_node,
    "kill9-agent": _kill_client,
    "kill9-both": _kill_both,
    "restart": _restart_node,
    "freeze": _freeze,
    "network": _network,
    "disk-full": _disk_full,
    "fsync": _fsync,
    "clock": _clock,
}
