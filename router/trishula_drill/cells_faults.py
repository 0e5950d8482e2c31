"""Which faults strike cells that Redis joins, and when: see :mod:`.faults`. Pure; no clock, no I/O."""

from __future__ import annotations

import random

from trishula_drill.faults import Fault, Kind

__all__ = ["CELLS", "CELL_DRILLS", "cells_schedule"]

#: The cells, of one node each.
CELLS = ("north", "south")

#: Name → what it does.
CELL_DRILLS = {"redis": "Redis is killed, flushed, slow, frozen, cut off; a cell is killed, too"}

#: Around the 5 s after which a cell gives a Redis up that answers nothing.
_SHORT_S, _LONG_S = 0.3, 7.0

_WAYS = ("kill", "flush", "slow", "freeze", "cut", "kill both", "flush twice")


def cells_schedule(number: int, seed: int) -> tuple[Fault, ...]:
    """The faults of one round, in the order in which they strike; see :func:`.faults.schedule`."""
    chance = random.Random(f"{seed}/redis/{number}")
    return tuple(sorted(_faults(chance, number), key=lambda fault: fault.at_s))


def _faults(chance: random.Random, number: int) -> list[Fault]:
    at_s, span_s = chance.uniform(0.0, 0.6), chance.uniform(_SHORT_S, _LONG_S)
    # Each way has its turn, so that a short run meets them all.
    match _WAYS[number % len(_WAYS)]:
        case "flush":
            return [Fault(Kind.FLUSH_REDIS, at_s)]
        case "flush twice":
            # Around the 3 s after which is sent again what no news came of.
            return [Fault(Kind.FLUSH_REDIS, at_s), Fault(Kind.FLUSH_REDIS, at_s + chance.uniform(2.5, 3.5))]
        case "slow":
            return [Fault(Kind.SLOW_REDIS, at_s, amount=span_s)]
        case "freeze":
            return [Fault(Kind.FREEZE_REDIS, at_s, span_s)]
        case "cut":
            return [Fault(Kind.CUT_REDIS, at_s + 0.2 * times) for times in range(chance.randint(1, 5))]
        case "kill both":
            return [
                Fault(Kind.KILL_REDIS, at_s, span_s),
                Fault(Kind.KILL_NODE, at_s + span_s * chance.random(), target=chance.choice(CELLS)),
            ]
        case _:
            return [Fault(Kind.KILL_REDIS, at_s, span_s)]
