"""What a node tells of its store and of its peers, in words: for ``trishula node status``.

A node of an older version tells less; what it doesn't tell is left out. What peers say of themselves is shown as
somebody else's text.
"""

from __future__ import annotations

from typing import Any

from trishula.cli.words import local_time, plain
from trishula.contract.units import show_bytes, show_duration

__all__ = ["cell_lines", "fallback_lines", "grant_lines", "link_lines", "mirror_lines", "peer_line", "store_lines"]


def peer_line(peer: dict[str, Any]) -> str:
    """One peer: whether it is there, what it has of our journal, and what we lack of what it has."""
    line = f"{peer['node']}: {peer['state']}"
    if peer["state"] == "down":
        heard_s = peer["heard_s_ago"]
        line += ", never heard of since the start" if heard_s is None else f" for {show_duration(heard_s)}"
    line += f", has our journal up to {peer['acknowledged']}"
    if peer["lag_records"]:
        line += f" ({peer['lag_records']} records behind"
        line += ")" if peer["lag_s"] is None else f" for {show_duration(peer['lag_s'])})"
    if peer["to_copy_records"]:
        line += f", {peer['to_copy_records']} records still to be copied from it"
    return "; ".join([line, *(told for key in ("fault", "warning") if (told := peer.get(key)))])


def link_lines(peer: dict[str, Any]) -> list[str]:
    """The link to a peer, why there is none, and what else of it an operator compares."""
    lines, link = [], peer.get("link")
    if link is not None:
        line = f"link, made by {link['made_by']}: "
        line += "none" if not link["up"] else f"up for {show_duration(link['up_for_s'])}"
        if link.get("trouble"):
            line += f"; {show_duration(link['trouble_s_ago'])} ago: {plain(link['trouble'])}"
            line += f" ({link['troubles']} times)" if link["troubles"] > 1 else ""
        lines.append(line)
    facts = []
    if (ahead_ms := peer.get("clock_ahead_ms")) is not None:
        facts.append(f"its clock is {abs(ahead_ms)} ms {'behind' if ahead_ms < 0 else 'ahead of'} this node's")
    if peer.get("version"):
        facts.append(f"version {plain(peer['version'])}")
    if peer.get("heard_s_ago") is not None and peer["state"] == "up":
        facts.append(f"heard of {show_duration(peer['heard_s_ago'])} ago")
    if peer.get("agents_differ"):
        facts.append("its file of agents says something else than this node's: trishula token list, at both")
    return [*lines, *([", ".join(facts)] if facts else [])]


def fallback_lines(known: dict[str, Any]) -> list[str]:
    """That the bus is in fallback, why and since when; nothing while it is live, or of a node that doesn't know."""
    told = known.get("fallback") or {}
    if told.get("mode") in (None, "live"):
        return []
    what = "messages are taken all the same" if told.get("sends") else "no messages are taken"
    since, by = local_time(told.get("since"), "seconds"), plain(told.get("by"))
    return [f"the bus is in {plain(told['mode'])} since {since}, {what}; {by}: {plain(told.get('reason'))}"]


def grant_lines(known: dict[str, Any]) -> list[str]:
    """The grants that end or have a reason; nothing of a node that doesn't know such."""
    lines = []
    for one in known.get("timed_grants") or ():
        until = "" if one["until"] is None else f" until {local_time(one['until'] * 1000, 'seconds')}"
        reason = "" if one["reason"] is None else f": {plain(one['reason'])}"
        lines.append(f"{plain(one['agent'])} may {plain(one['act'])} {plain(one['grant'])}{until}{reason}")
    return lines


def cell_lines(known: dict[str, Any]) -> list[str]:
    """How the node is joined with other cells; nothing of a node that is not, or doesn't know of any."""
    one = known.get("cells")
    if not one:
        return []
    line = f"cell {plain(one['cell'])}, joined by {plain(one['where'])}"
    line += "" if one["leads"] else ", its linked node forwards and reads"
    line += f": {one['out_messages']} messages are out at other cells, {one['waiting_messages']} wait to get there"
    if one["waiting_messages"]:
        line += f", the first for {show_duration(one['waiting_s'])}"
    return [f"{line}; {plain(one['fault'])}" if one.get("fault") else line]


def mirror_lines(known: dict[str, Any]) -> list[str]:
    """How far each mirror of the journal is; nothing of a node that has none, or doesn't know of any."""
    lines = []
    for one in known.get("mirrors") or ():
        line = f"mirror to {plain(one['where'])}: has the journal up to {one['sequence']}"
        if one["lag_records"]:
            line += f", {one['lag_records']} records behind for {show_duration(one['lag_s'])}"
        lines.append(f"{line}; {plain(one['fault'])}" if one.get("fault") else line)
    return lines


def store_lines(known: dict[str, Any]) -> list[str]:
    """How full the store is, and what is wrong with it. A node of the release before tells its size alone."""
    line, store = f"store: {show_bytes(known['store_bytes'])}", known.get("store") or {}
    if limit_bytes := store.get("limit_bytes"):
        percent = 100 * store["used_bytes"] / limit_bytes
        line += f" on disk, {show_bytes(store['used_bytes'])} in use, {percent:.0f} % of the {show_bytes(limit_bytes)} "
        line += f"of limits.store, {show_bytes(store['free_bytes'])} left on the disk"
        line += f" and {show_bytes(store['reserve_bytes'])} kept back for acks"
    lines = [f"{line}, journal at {known['high_water']}"]
    archive = known.get("archive") or {}
    if archive.get("base"):
        lines[0] += f", up to {archive['base']} in {archive['segments']} archive segments"
    if archive.get("fault"):
        lines.append(f"archive: {plain(archive['fault'])}")
    if store.get("fault"):
        lines.append(f"store out of use: {store['fault']}")
    if store.get("shortage"):
        lines.append(f"store full, sends are refused and acks go on: {store['shortage']}")
    return lines
