"""The check of a node's peers: when what is wrong with a peer makes *this* node unfit. Pure functions of figures.

A peer that is away makes nothing unfit. The node that is left is the one that everybody needs: a primary that said "not
ready" because its failover is gone would take itself out of service as well. So it is ``degraded``, with the peer and
what its absence costs (receipts with one copy). The same holds for a peer that is behind: that is the peer's trouble.

Unfit is a node that lacks what its peers have: an agent that came here would find its mailbox as it was, while another
node has it as it is. That is so when it has had much to copy for a while, and when it can't copy at all, because its
copy of the peer's journal and the peer's journal are not the same any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trishula.contract.units import show_duration
from trishula_router.health.report import Check

__all__ = ["peer_check"]

#: A burst is copied within that time.
_LONG_S = 10.0
#: A peer that lacks our records for longer than that has no copy of what we accept.
_LAG_S = 10.0


def peer_check(peers: Sequence[Mapping[str, Any]], behind_s: Mapping[str, float]) -> Check:
    """Whether this node has what its peers have.

    Args:
        peers: as ``node.status`` tells them; none of a node that is alone, which is always fit.
        behind_s: for how long each peer has had much that is not here.
    """
    figures = {"peers": [_figures(peer) for peer in peers]}
    unfit = [why for peer in peers if (why := _against(peer, behind_s))]
    if unfit:
        return Check("peers", False, "; ".join(unfit), figures=figures)
    ailing = [why for peer in peers if (why := _ailing(peer))]
    return Check("peers", True, "; ".join(ailing), degraded=bool(ailing), figures=figures)


def _figures(peer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: peer[key] for key in ("node", "state", "heard_s_ago", "lag_records", "lag_s", "to_copy_records")}


def _against(peer: Mapping[str, Any], behind_s: Mapping[str, float]) -> str:
    name = peer["node"]
    if peer["fault"]:
        return f"nothing can be copied from {name}: {peer['fault']}"
    for_s = behind_s.get(name, 0.0)
    if for_s >= _LONG_S:
        return (
            f"{peer['to_copy_records']} records of {name} have been missing here for {show_duration(for_s)} and more, "
            "so mailboxes may be as they were; wait until they are copied (trishula node status)"
        )
    return ""


def _ailing(peer: Mapping[str, Any]) -> str:
    name = peer["node"]
    if peer["state"] != "up":
        heard_s = peer["heard_s_ago"]
        since = "since this node's start" if heard_s is None else f"for {show_duration(heard_s)}"
        return (
            f"{name} has not been heard {since}, so what is accepted here is on one node less; look at {name} and at "
            "the network between the two"
        )
    if peer["lag_s"] is not None and peer["lag_s"] >= _LAG_S:
        return (
            f"{name} lacks {peer['lag_records']} records of this node, for {show_duration(peer['lag_s'])} by now; look "
            f"at {name}'s disk and load"
        )
    return ""
