"""The options of what a node promises, ``objectives``: the targets, and which triggers turn the fallback on."""

from __future__ import annotations

from dataclasses import dataclass

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.watching.objectives import Objectives
from trishula_router.settings.faults import Section

__all__ = ["TRIGGERS", "ObjectiveOptions", "parse_objectives"]

#: What can turn the fallback on by itself.
TRIGGERS = ("uptime", "p99", "loss", "away")


@dataclass(frozen=True, slots=True)
class ObjectiveOptions(Objectives):
    """What a node promises, and what follows if things go badly.

    Attributes:
        availability: for which part of the time the node is to be able to serve, planned maintenance apart.
        p50_ms: how long half of the messages may take, from their acceptance until they are handed to an agent that is
            there.
        p99_ms: how long 99 of 100 messages may take so.
        loss: which part of the messages may end dead or expired.
        failover_ms: how long 99 of 100 agents may be nowhere whose node is gone.
        connect_ms: how long 99 of 100 clients may take from the proof of their identity until their first call.
        reconnects: how often an agent may attach to its mailbox anew in a day.
        triggers_off: the triggers that never turn the fallback on.
        agents: the agents whose absence turns the fallback on; with none named, all that are no operators or observers.
        step_ms: how long the shortest stretch is that is counted by itself; the triggers look once in each, and p99 and
            loss must be bad in five of them.
        uptime_window_s: 5 % of so long the node may be down until ``uptime`` fires.
        loss_window_s: 1 % of so long a time's messages may be lost until ``loss`` fires.
        away_ms: for how long an agent may be away until ``away`` fires.
        canaries: how many canaries are sent between agents in a minute at most; 0 for none.
    """

    triggers_off: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    step_ms: int = 60_000
    uptime_window_s: float = 86_400.0
    loss_window_s: float = 3600.0
    away_ms: int = 3_600_000
    canaries: int = 30


def parse_objectives(section: Section) -> ObjectiveOptions:
    """Read ``objectives``; each fault is left with ``section``."""

    def ms(key: str, default: str) -> float:
        return section.duration_s(key, default, "1ms", "1d") * 1000

    options = ObjectiveOptions(
        availability=section.part("availability", 0.99, 0.5, 0.99999),
        p50_ms=ms("p50", "50ms"),
        p99_ms=ms("p99", "100ms"),
        loss=section.part("loss", 0.001, 0.000001, 0.5),
        failover_ms=ms("failover", "5s"),
        connect_ms=ms("connect", "500ms"),
        reconnects=float(section.count("reconnects", 24, 1, 100_000)),
        triggers_off=section.names("triggers_off", f"one of {', '.join(TRIGGERS)}", TRIGGERS.__contains__),
        agents=section.names("agents", AGENT_RULE, is_agent_name),
        step_ms=round(section.duration_s("step", "1m", "1s", "1m") * 1000),
        uptime_window_s=section.duration_s("uptime_window", "24h", "10s", "30d"),
        loss_window_s=section.duration_s("loss_window", "1h", "10s", "30d"),
        away_ms=round(section.duration_s("away", "1h", "1s", "23h") * 1000),
        canaries=section.count("canaries", 30, 0, 60),
    )
    section.close()
    return options
