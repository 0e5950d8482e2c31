"""Which faults strike linked nodes, and when: see :mod:`.faults`. Pure; no clock, no I/O."""

from __future__ import annotations

import random

from trishula_drill.faults import Fault, Kind

__all__ = ["BUSIEST", "CLUSTER_DRILLS", "LINK", "NODES", "cluster_schedule"]

#: In the order in which their configurations name them: the later one has the link to the earlier one.
NODES = ("primary", "failover")
#: A target: what runs between the nodes. A node's name as the target of a fault of the network is the way to it that
#: the clients take.
LINK = "link"
#: A target: the node that most clients are on when the fault strikes.
BUSIEST = ""

#: Name → what it does.
CLUSTER_DRILLS = {
    "failover": "kill -9 of the node that most clients are on; they go on at the other one",
    "netsplit": "the link is cut, broken or slow; a node is frozen, cut off from clients or all, or killed alone",
    "cold-start": "both nodes are stopped or killed, and started in every order, one of them late",
    "rolling-restart": "one node after the other is stopped in order and started again",
}

#: Around the 2.5 s after which a node takes its peer for away, and the 3 s after which a client drops a silent node.
_SHORT_S, _LONG_S = 0.3, 7.0


def cluster_schedule(drill: str, number: int, seed: int) -> tuple[Fault, ...]:
    """The faults of one round, in the order in which they strike; see :func:`.faults.schedule`."""
    chance = random.Random(f"{seed}/{drill}/{number}")
    return tuple(sorted(_FAULTS[drill](chance, number), key=lambda fault: fault.at_s))


def _failover(chance: random.Random, _number: int) -> list[Fault]:
    return [Fault(Kind.KILL_NODE, _soon(chance), chance.uniform(0.5, 3.0), BUSIEST)]


def _netsplit(chance: random.Random, number: int) -> list[Fault]:
    # Each way has its turn, so that a short run meets them all.
    way = _WAYS[number % len(_WAYS)]
    node = chance.choice(NODES)
    at_s, span_s = _soon(chance), chance.uniform(_SHORT_S, _LONG_S)
    match way:
        case "freeze":
            return [Fault(Kind.FREEZE_NODE, at_s, span_s, node)]
        case "clients":
            return [Fault(chance.choice((Kind.BLACK_HOLE, Kind.DOWN)), at_s, span_s, node)]
        case "all":
            # Not in the same instant: cables are pulled one by one, and each order shows something else.
            kind, later_s = chance.choice((Kind.BLACK_HOLE, Kind.DOWN)), chance.uniform(0.0, 1.0)
            return [Fault(kind, at_s, span_s, LINK), Fault(kind, at_s + later_s, chance.uniform(_SHORT_S, 4.0), node)]
        case "kill":
            # One of two that can't reach each other is killed, with what it has alone; the link heals before or after.
            down_s = span_s * chance.random()
            return [
                Fault(chance.choice((Kind.BLACK_HOLE, Kind.DOWN)), at_s, span_s, LINK),
                Fault(Kind.KILL_NODE, at_s + down_s, chance.uniform(0.0, 4.0), node),
            ]
        case "slow":
            return [Fault(Kind.LATENCY, at_s, span_s, LINK, chance.uniform(0.02, 0.5))]
        case "pieces":
            return [Fault(Kind.SLICE, at_s, min(span_s, 2.0), LINK, float(chance.randint(1, 200)))]
        case "reset":
            return [Fault(Kind.RESET, at_s, 0.0, LINK)]
        case _:
            return [Fault(chance.choice((Kind.BLACK_HOLE, Kind.DOWN)), at_s, span_s, LINK)]


_WAYS = ("link", "clients", "freeze", "all", "kill", "reset", "slow", "link", "pieces", "kill")


def _cold_start(chance: random.Random, _number: int) -> list[Fault]:
    at_s = _soon(chance)
    later_s = at_s + chance.uniform(0.0, 1.0)
    downs = dict(zip(chance.sample(NODES, 2), (at_s, later_s), strict=True))
    # Started when both are down: at the same time, or one of them is alone for a while.
    first_s = later_s + chance.uniform(0.1, 1.0)
    second_s = first_s + chance.choice((0.0, chance.uniform(0.5, 8.0)))
    ups = dict(zip(chance.sample(NODES, 2), (first_s, second_s), strict=True))
    return [
        Fault(chance.choice((Kind.KILL_NODE, Kind.RESTART_NODE)), downs[node], ups[node] - downs[node], node)
        for node in NODES
    ]


def _rolling_restart(chance: random.Random, number: int) -> list[Fault]:
    return [Fault(Kind.RESTART_NODE, _soon(chance), target=NODES[number % len(NODES)])]


def _soon(chance: random.Random) -> float:
    return chance.uniform(0.0, 0.6)


_FAULTS = {
    "failover": _failover,
    "netsplit": _netsplit,
    "cold-start": _cold_start,
    "rolling-restart": _rolling_restart,
}
