"""The judgement of each check: what a node told, held against thresholds. Pure functions.

The facts have the shapes of the wire (:mod:`trishula.contract.uris`). What a node of an earlier release doesn't tell is
passed over, and never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from trishula.checks.outcome import Bounds, Figure, Level, Outcome, worst
from trishula.contract.texts import one_line
from trishula.contract.units import show_duration

__all__ = [
    "judge_agents",
    "judge_certificate",
    "judge_clock",
    "judge_dead",
    "judge_disk",
    "judge_journal",
    "judge_link",
    "judge_mailbox",
    "judge_ready",
]

Facts = Mapping[str, Any]
#: So many names are in a sentence and in labels at most: a bus may have thousands of agents.
MOST_NAMED = 20


def judge_ready(told: Facts) -> Outcome:
    """``node.ready``: critical if the node can't serve, a warning if a part of it is degraded."""
    failed = [one for one in told["checks"] if not one["ok"]]
    degraded = [one for one in told["checks"] if one["ok"] and one.get("degraded")]
    level = Level.CRITICAL if not told["ready"] else Level.WARNING if failed or degraded else Level.OK
    reasons = [f"{_name(one['check'])}: {_name(one.get('reason') or 'failed')}" for one in [*failed, *degraded]]
    words = "; ".join(reasons) or (
        f"the node {_name(told.get('node', '?'))} can serve" if told["ready"] else "the node can't serve"
    )
    figures = [Figure("node_ready", int(told["ready"]), "Whether the node can serve: 1 if it can.")]
    return Outcome("ready", level, words, tuple(figures))


def judge_agents(entries: Sequence[Facts], bounds: Bounds, now_ms: int, named: Collection[str] = ()) -> Outcome:
    """``directory.list``: for how long agents have been away.

    Args:
        entries: of the directory.
        bounds: seconds away.
        now_ms: the time.
        named: only these agents, each of which must be registered and have been there; without any, all agents that
            ever were there.
    """
    by_name = {str(entry["agent"]): entry for entry in entries}
    chosen = list(named) or list(by_name)
    figures, faults, levels = [], [], [Level.OK]
    present = 0
    for name in chosen:
        entry = by_name.get(name)
        if entry is None:
            levels.append(Level.CRITICAL)
            faults.append(f"{_name(name)} is not registered")
        elif entry.get("presence") in ("online", "busy"):
            present += 1
        elif entry.get("last_seen_at") is None:
            if named:
                levels.append(Level.CRITICAL)
                faults.append(f"{_name(name)} has never been there")
        else:
            away_s = max(0.0, (now_ms - entry["last_seen_at"]) / 1000)
            level = bounds.level(away_s)
            levels.append(level)
            text = "How long the agent has been away, in seconds."
            figures.append(Figure("agent_away_seconds", away_s, text, bounds, {"agent": name}))
            if level is not Level.OK:
                faults.append(f"{_name(name)} has been away for {show_duration(away_s)}")
    figures = sorted(figures, key=lambda figure: -figure.value)[:MOST_NAMED]
    figures.insert(0, Figure("agents_present", present, "How many of the agents that are looked at are there."))
    words = _listed(faults) or f"{present} of {len(chosen)} agents are there"
    return Outcome("agents", worst(levels), words, tuple(figures))


def judge_mailbox(boxes: Sequence[Facts], depth: Bounds, age: Bounds, now_ms: int) -> Outcome:
    """``node.mailboxes``: how many messages are open in a mailbox, and how old the oldest of them is.

    Args:
        boxes: the mailboxes.
        depth: messages, waiting or being handled.
        age: seconds.
        now_ms: the time.
    """
    faults, levels, deepest, oldest_s = [], [Level.OK], 0, 0.0
    for box in boxes:
        count = int(box.get("pending", 0)) + int(box.get("in_flight", 0))
        at = box.get("oldest_at")
        age_s = 0.0 if at is None or not count else max(0.0, (now_ms - at) / 1000)
        deepest, oldest_s = max(deepest, count), max(oldest_s, age_s)
        level = worst((depth.level(count), age.level(age_s)))
        levels.append(level)
        if level is not Level.OK:
            taken = "" if box.get("consumer") or box.get("able") else ", and nobody takes them"
            faults.append(
                f"{_name(box.get('address'))} has {count} open messages, the oldest {show_duration(age_s)} old{taken}"
            )
    figures = (
        Figure("mailbox_messages", deepest, "Open messages in the deepest mailbox.", depth),
        Figure("mailbox_oldest_seconds", oldest_s, "Age of the oldest open message, in seconds.", age),
    )
    words = _listed(faults) or f"the deepest mailbox has {deepest} open messages"
    return Outcome("mailbox", worst(levels), words, figures)


def judge_dead(count: int, bounds: Bounds, *, more: bool = False) -> Outcome:
    """How many dead letters there are; ``more``: at least so many."""
    words = f"{'at least ' if more else ''}{count} dead letter{'' if count == 1 else 's'}"
    level = bounds.level(count)
    if level is not Level.OK:
        words += "; look at them: trishula dead list"
    return Outcome("dead", level, words, (Figure("dead_letters", count, "Dead letters that the node keeps.", bounds),))


def judge_link(status: Facts, bounds: Bounds) -> Outcome:
    """``node.status``: whether each peer is linked, and how many of its records are not copied yet (``bounds``)."""
    figures, faults, levels = [], [], [Level.OK]
    peers = status.get("peers") or ()
    for peer in peers:
        name, is_up = str(peer.get("node")), peer.get("state") == "up"
        labels = {"peer": name}
        figures.append(
            Figure("link_up", int(is_up), "Whether there is a link to the peer: 1 if there is.", None, labels)
        )
        if not is_up:
            levels.append(Level.CRITICAL)
            why = (peer.get("link") or {}).get("trouble")
            faults.append(f"no link to {_name(name)}" + (f": {_name(why)}" if why else ""))
        if peer.get("fault"):
            levels.append(Level.CRITICAL)
            faults.append(f"{_name(name)}: {_name(peer['fault'])}")
        behind = peer.get("to_copy_records")
        if behind is not None:
            text = "Records of the peer that the node has not copied yet."
            figures.append(Figure("link_lag_records", behind, text, bounds, labels))
            levels.append(bounds.level(behind))
            if levels[-1] is not Level.OK:
                faults.append(f"{behind} records of {_name(name)} are not copied yet")
    words = _listed(faults) or (f"linked to {_listed([_name(peer.get('node')) for peer in peers])}" if peers else "")
    return Outcome("link", worst(levels), words or "the node has no peers", tuple(figures))


def judge_disk(status: Facts, bounds: Bounds) -> Outcome:
    """``node.status``: whether the store takes messages, and how much of its bound is in use (``bounds``: percent)."""
    store = status.get("store") or {}
    for key, words in (("fault", "the store fails: "), ("shortage", "the store is full: ")):
        if store.get(key):
            return Outcome("disk", Level.CRITICAL, f"{words}{_name(store[key])}")
    if not store.get("limit_bytes"):
        return Outcome("disk", Level.UNKNOWN, "the node doesn't tell how full its store is; update it")
    ratio = store.get("used_bytes", 0) / store["limit_bytes"]
    level = bounds.level(100 * ratio)
    words = f"{100 * ratio:.0f} % of limits.store is in use"
    if level is not Level.OK:
        words += "; see who fills it (trishula mailboxes), or raise limits.store"
    as_ratio = Bounds(bounds.warn / 100, bounds.crit / 100)
    return Outcome("disk", level, words, (Figure("store_used_ratio", ratio, "Part of limits.store in use.", as_ratio),))


def judge_certificate(left_s: Mapping[str, float], refusals: Mapping[str, str], bounds: Bounds) -> Outcome:
    """How long the nodes' certificates are valid.

    Args:
        left_s: by ``HOST:PORT``, for how many seconds it is valid.
        refusals: by ``HOST:PORT``, why it is not trusted, or could not be seen.
        bounds: seconds that are left.
    """
    if not left_s and not refusals:
        return Outcome("certificate", Level.UNKNOWN, "no URL begins with wss://, so there is no certificate to look at")
    levels, told, figures = [], [], []
    for place, why in refusals.items():
        levels.append(Level.CRITICAL)
        told.append(f"{place}: {_name(why)}")
    for place, seconds in left_s.items():
        levels.append(bounds.level(seconds))
        told.append(f"{place}: valid for {show_duration(seconds)}")
        text = "How long the node's certificate is valid, in seconds."
        figures.append(Figure("certificate_left_seconds", seconds, text, bounds, {"endpoint": place}))
    return Outcome("certificate", worst(levels), _listed(told), tuple(figures))


def judge_clock(status: Facts, entries: Sequence[Facts], bounds: Bounds) -> Outcome:
    """How far the clocks of the machine, of peers and of agents that are there are from the node's (``bounds``: s)."""
    seen = {"machine": ("the node's machine", status.get("clock_gap_ms"))}
    for peer in status.get("peers") or ():
        seen[f"peer {_name(peer.get('node'))}"] = (f"the node {_name(peer.get('node'))}", peer.get("clock_ahead_ms"))
    for entry in entries:
        if entry.get("presence") in ("online", "busy"):
            seen[f"agent {_name(entry['agent'])}"] = (f"the agent {_name(entry['agent'])}", entry.get("clock_skew_ms"))
    faults, levels, figures = [], [Level.OK], []
    for whose, (words, ahead_ms) in seen.items():
        if ahead_ms is None:
            continue
        levels.append(bounds.level(abs(ahead_ms) / 1000))
        text = "How far a clock is from the node's, in seconds; positive if it is ahead."
        figures.append(Figure("clock_ahead_seconds", ahead_ms / 1000, text, bounds, {"clock": whose}))
        if levels[-1] is not Level.OK:
            way = "ahead of" if ahead_ms > 0 else "behind"
            faults.append(f"the clock of {words} is {show_duration(abs(ahead_ms) / 1000)} {way} the node's")
    figures = sorted(figures, key=lambda figure: -abs(figure.value))[:MOST_NAMED]
    return Outcome("clock", worst(levels), _listed(faults) or f"{len(levels) - 1} clocks agree", tuple(figures))


def judge_journal(verification: Facts) -> Outcome:
    """``audit.verify``: critical if a record or a message is not as it was written."""
    damaged = verification["damaged"]
    figures = (
        Figure("journal_records", verification["records"], "Records that were read."),
        Figure("journal_damaged_records", len(damaged), "Records and messages that are not as they were written."),
    )
    if verification["ok"]:
        return Outcome("journal", Level.OK, f"{verification['records']} records, all as they were written", figures)
    told = _listed([f"record {_name(one.get('seq'))}: {_name(one.get('what'))}" for one in damaged])
    return Outcome("journal", Level.CRITICAL, told, figures)


def _name(value: object) -> str:
    return one_line(str(value))


def _listed(words: Sequence[str]) -> str:
    more = len(words) - MOST_NAMED
    return "; ".join([*words[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
