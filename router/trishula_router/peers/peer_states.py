"""How it stands with each peer, as operators are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trishula.contract.units import show_duration
from trishula_router.agents.revoking import PeerReached
from trishula_router.clocks.peer_clocks import PeerClocks
from trishula_router.peers.journal_policy import Lag, Peer, Replication
from trishula_router.store.interface import Store

__all__ = ["CANT_COPY", "clock_warning", "reached", "told"]


#: Of a peer that holds less of this node's journal than what was cut.
CANT_COPY = (
    "{name} lacks records that are in this node's archive alone, and is of a release that can't go on behind them: "
    "update it"
)


def told(
    replication: Replication,
    store: Store,
    clocks: PeerClocks,
    faults: Mapping[str, str],
    about: tuple[str, str],
    about_peers: Mapping[str, tuple[str, str]],
    now_s: float,
) -> list[dict[str, Any]]:
    """What there is to know of each peer, for ``node.status``.

    Args:
        replication: what each peer holds.
        store: what is held here.
        clocks: by how much the peers' clocks differ.
        faults: what makes replication with a peer impossible.
        about: what runs here, and the digest of the file of agents.
        about_peers: the same of each peer that told; one of an older version tells "" for both.
        now_s: the clock for spans.
    """
    own = store.high_water
    origins = sorted(store.origins(), key=lambda origin: origin.number) if replication.peers else []
    copied = {origin.epoch: origin.sequence for origin in origins}
    # Of a peer that was not heard of since this node started: what is here of the latest of its journals.
    held = {origin.node: origin.sequence for origin in origins}
    states = []
    for name, peer in replication.peers.items():
        version, agents = about_peers.get(name, ("", ""))
        lag, ahead_ms = replication.lag(name, own, now_s), clocks.ahead_ms(name)
        states.append(
            {
                "node": name,
                "state": "up" if peer.is_up else "down",
                "heard_s_ago": None if peer.heard_at_s is None else round(now_s - peer.heard_at_s, 3),
                "epoch": peer.epoch,
                "sent": lag.sent,
                "acknowledged": lag.durable,
                "lag_records": lag.records,
                "lag_s": None if lag.seconds is None else round(lag.seconds, 3),
                "copied": held.get(name, 0) if peer.epoch is None else copied.get(peer.epoch, 0),
                "to_copy_records": replication.lacks(name, copied),
                "fault": faults.get(name) or (CANT_COPY.format(name=name) if _cant_copy(peer, lag, store) else None),
                "version": version or None,
                "agents_differ": agents != about[1] if agents and about[1] else None,
                "clock_ahead_ms": ahead_ms,
                "warning": clock_warning(name, ahead_ms) if ahead_ms and clocks.differs(name) else None,
            }
        )
    return states


def _cant_copy(peer: Peer, lag: Lag, store: Store) -> bool:
    return peer.is_up and not peer.takes_bases and lag.durable < store.base().sequence


def clock_warning(name: str, ahead_ms: int) -> str:
    """What operators are told of a peer whose clock differs."""
    way = "ahead of" if ahead_ms > 0 else "behind"
    return (
        f"the clock of the node {name} is {show_duration(abs(ahead_ms) / 1000)} {way} this node's; messages live as "
        "long as they are to all the same, but the times that the two write down differ by that, and tokens begin and "
        "end at different times: have both follow NTP"
    )


def reached(replication: Replication, sequence: int) -> dict[str, PeerReached]:
    """Which peers heed a revocation whose record is at that place of our journal."""
    return {
        name: PeerReached(peer.revokes and replication.durable_at(name) >= sequence, peer.is_up, peer.revokes)
        for name, peer in replication.peers.items()
    }
