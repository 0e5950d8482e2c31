"""Which faults strike a node whose agents have folders, and when: see :mod:`.faults`. Pure; no clock, no I/O."""

from __future__ import annotations

import random

from trishula_drill.faults import Cast, Fault, Kind

__all__ = ["FALLBACK_AFTER_S", "FALLBACK_DRILLS", "fallback_schedule"]

#: Name → what it does.
FALLBACK_DRILLS = {
    "fallback": "the node is killed or frozen and comes back, clients are killed; agents send by files meanwhile"
}

#: Shorter than an agent's own default, so that more fallbacks fit into an hour.
FALLBACK_AFTER_S = 0.5
#: A session with a node that hangs is given up after 3 s.
_UNNOTICED_S = 3.0
_LONG_S = 6.0

_WAYS = ("kill", "freeze", "kill and client", "flicker", "client", "kill")


def fallback_schedule(number: int, seed: int, cast: Cast) -> tuple[Fault, ...]:
    """The faults of one round, in the order in which they strike; see :func:`.faults.schedule`."""
    chance = random.Random(f"{seed}/fallback/{number}")
    return tuple(sorted(_faults(chance, number, cast), key=lambda fault: fault.at_s))


def _faults(chance: random.Random, number: int, cast: Cast) -> list[Fault]:
    at_s, victim = chance.uniform(0.0, 0.6), chance.choice(cast.clients)
    away_s = chance.uniform(FALLBACK_AFTER_S, _LONG_S)
    # Each way has its turn, so that a short run meets them all.
    match _WAYS[number % len(_WAYS)]:
        case "freeze":
            # From too short to be noticed to long enough for files.
            return [Fault(Kind.FREEZE_NODE, at_s, chance.uniform(1.0, _UNNOTICED_S + _LONG_S))]
        case "kill and client":
            # One that begins again while no node is there has files alone.
            return [
                Fault(Kind.KILL_NODE, at_s, away_s),
                Fault(Kind.KILL_CLIENT, at_s + away_s * chance.random(), target=victim),
            ]
        case "flicker":
            # Around the moment at which the fallback begins.
            return [Fault(Kind.KILL_NODE, at_s, FALLBACK_AFTER_S * chance.random())]
        case "client":
            return [Fault(Kind.KILL_CLIENT, at_s, target=victim)]
        case _:
            return [Fault(Kind.KILL_NODE, at_s, away_s)]
