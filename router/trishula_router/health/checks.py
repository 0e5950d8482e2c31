"""The checks of a node by itself: when it can't serve, and what is said then. Pure functions of figures.

A check fails (503) where an agent that comes here would be worse off than at another node, or at none. What is wrong
and lets the node serve is ``degraded``: it is told, and turns nobody away.
"""

from __future__ import annotations

from trishula.contract.units import show_bytes, show_duration
from trishula.runtime.clock import STEP_MS
from trishula_router.health.report import Check
from trishula_router.health.trial import Trial
from trishula_router.store.interface import Condition

__all__ = [
    "canary_check",
    "clock_check",
    "disk_check",
    "loop_check",
    "running_check",
    "store_check",
]

#: A write that waits for longer than that has met a disk that doesn't answer: senders wait just as long.
HANGS_S = 5.0
#: Without a try that passed for so long: four were due.
OLD_S = 60.0
#: A part of the room for messages that is too small for an upload of the largest messages, and at most so much.
_LEAST_SHARE, _LEAST_BYTES = 0.02, 16 * 1024 * 1024
#: A store that was short of room is no more once it has so many times as much.
_AGAIN = 1.5
#: A forecast within that time is told.
_SOON_S = 24 * 3600.0
#: So full a store is told of however slowly it grows: what is settled leaves its records and rows behind for good, so
#: somebody has to plan.
_NEARLY_FULL = 0.8
#: From that on clients take a node for dead: their pings wait for so long.
LATE_S = 2.0


def running_check(*, is_stopping: bool, is_held_back: bool) -> Check:
    """Whether the node is neither starting nor stopping.

    Args:
        is_stopping: it was asked to stop.
        is_held_back: nothing goes out, because the node waits for its peers' news after a start, or sets its clock.
    """
    if is_stopping:
        return Check("running", False, "the node is stopping and takes no more calls; use another node, or start it")
    if is_held_back:
        return Check(
            "running",
            False,
            "the node takes messages and delivers none yet: it waits for its peers' news after its start, or sets its "
            "clock; that takes seconds",
        )
    return Check("running", True)


def store_check(condition: Condition, proof: Trial, now_s: float) -> Check:
    """Whether the store can be written, and an fsync was done.

    Args:
        condition: how the store is.
        proof: the writes that were made to find that out, each with its fsync.
        now_s: the clock.
    """
    age_s = proof.age_s(now_s)
    figures = {
        "fsync_s_ago": None if age_s is None else round(age_s, 3),
        "fsync_s": None if proof.took_s is None else round(proof.took_s, 6),
    }
    why = _against_store(condition, proof, now_s)
    is_slow = not why and condition.index_fault is not None
    return Check("store", not why, why or condition.index_fault or "", degraded=is_slow, figures=figures)


def _against_store(condition: Condition, proof: Trial, now_s: float) -> str:
    if condition.fault is not None:
        return condition.fault
    if condition.shortage is not None:
        return f"the store is full, sends are refused and acks go on: {condition.shortage}"
    if condition.room_bytes is not None and condition.room_bytes <= 0:
        return (
            "the store is full, sends are refused and acks go on: free some space on its disk, raise limits.store, or "
            "have agents work off what waits"
        )
    if (waits_s := proof.waits_s(now_s)) > HANGS_S:
        return (
            f"the store's disk has not answered a write for {show_duration(waits_s)}, and everybody who sends waits "
            "for it; look at the disk (dmesg, iostat)"
        )
    if proof.fault is not None:
        return f"the store can't be written: {proof.fault}"
    return _against_age(proof, now_s, "write to the store")


def _against_age(trial: Trial, now_s: float, what: str) -> str:
    age_s = trial.age_s(now_s)
    if age_s is None:
        return f"no {what} has come through since the node's start; the first one takes a second"
    if age_s > OLD_S:
        return (
            f"the last {what} that came through was {show_duration(age_s)} ago, and one was due every few seconds; "
            "restart the node if that lasts"
        )
    return ""


def disk_check(
    condition: Condition,
    full_in_s: float | None,
    shrinks_per_s: float | None,
    *,
    was_short: bool = False,
    archive_fault: str | None = None,
) -> Check:
    """Whether there is room, and will be.

    Args:
        condition: how the store is.
        full_in_s: in how long it will be full, by the last hours; ``None`` if it won't, or that isn't known.
        shrinks_per_s: by how many bytes a second its room shrinks; ``None`` if that isn't known.
        was_short: whether there was too little room at the last look. Then it takes more room to be well again: a
            node at the edge would send its agents away and take them back with each message.
        archive_fault: why old records can't go into the archive, so that the store grows.
    """
    room_bytes = condition.room_bytes
    # Of what is used and what is left for messages.
    fullness = condition.used_bytes / max(1, condition.used_bytes + max(0, room_bytes or 0))
    figures = {
        "used_bytes": condition.used_bytes,
        "room_bytes": room_bytes,
        "full": None if room_bytes is None else round(fullness, 3),
        "free_bytes": condition.free_bytes,
        "full_in_h": None if full_in_s is None else round(full_in_s / 3600, 2),
        "growth_bytes_per_h": None if shrinks_per_s is None else round(shrinks_per_s * 3600),
    }
    if room_bytes is None:
        return Check("disk", True, archive_fault or "", degraded=archive_fault is not None, figures=figures)
    margin = _AGAIN if was_short else 1.0
    least = margin * min(_LEAST_BYTES, _LEAST_SHARE * (condition.used_bytes + max(0, room_bytes)))
    way_out = "free some space on its disk, raise limits.store, or have agents work off what waits"
    if room_bytes < least:
        room = show_bytes(max(0, room_bytes))
        return Check("disk", False, f"the store has room for {room} more; {way_out}", figures=figures)
    if full_in_s is not None and full_in_s < _SOON_S:
        reason = f"the store will be full in {show_duration(full_in_s)}, if it goes on as in the last hours; {way_out}"
        return Check("disk", True, reason, degraded=True, figures=figures)
    if fullness >= _NEARLY_FULL:
        forecast = "" if full_in_s is None else f", and will be full in {show_duration(full_in_s)} at the present pace"
        reason = f"the store is {fullness:.0%} full{forecast}; {way_out}"
        return Check("disk", True, reason, degraded=True, figures=figures)
    return Check("disk", True, archive_fault or "", degraded=archive_fault is not None, figures=figures)


def clock_check(gap_ms: int, peers_ahead_ms: dict[str, int], peers: int) -> Check:
    """Whether the node's clock can be believed.

    Against one peer nobody knows whose clock is wrong; against most of several it is this one's.

    Args:
        gap_ms: by how much the machine's clock is ahead of the node's, which doesn't follow a step for a minute.
        peers_ahead_ms: the peers whose clocks differ, and by how much they are ahead.
        peers: how many peers there are.
    """
    figures = {"gap_ms": gap_ms, "peers_ahead_ms": peers_ahead_ms}
    if abs(gap_ms) >= STEP_MS:
        way = "ahead of" if gap_ms > 0 else "behind"
        return Check(
            "clock",
            False,
            f"the machine's clock was set: it is {show_duration(abs(gap_ms) / 1000)} {way} the node's, which believes "
            "it if it stays so for a minute; have the machine follow NTP (timedatectl)",
            figures=figures,
        )
    if not peers_ahead_ms:
        return Check("clock", True, figures=figures)
    differ = ", ".join(
        f"{name}'s is {show_duration(abs(by_ms) / 1000)} {'ahead' if by_ms > 0 else 'behind'}"
        for name, by_ms in sorted(peers_ahead_ms.items())
    )
    if peers >= 2 and 2 * len(peers_ahead_ms) > peers:
        reason = f"this node's clock differs from most of its peers' ({differ}); have this machine follow NTP"
        return Check("clock", False, reason, figures=figures)
    reason = f"clocks of peers differ from this node's ({differ}); have all machines follow NTP"
    return Check("clock", True, reason, degraded=True, figures=figures)


def loop_check(worst_s: float) -> Check:
    """Whether the event loop comes around in time.

    Args:
        worst_s: how much too late a timer came, at worst, in the last seconds.
    """
    figures = {"worst_lag_s": round(worst_s, 3)}
    if worst_s < LATE_S:
        return Check("loop", True, figures=figures)
    return Check(
        "loop",
        False,
        f"the node stood still for {show_duration(worst_s)} within the last seconds, and agents take it for dead after "
        f"{LATE_S:g} s: the machine is overloaded or slept, or the node has too much to do (top, trishula mailboxes)",
        figures=figures,
    )


def canary_check(canary: Trial, proof: Trial, now_s: float) -> Check:
    """Whether a message goes the whole way through the node.

    Args:
        canary: the messages that are sent to find that out.
        proof: what each has the store write.
        now_s: the clock.
    """
    age_s = canary.age_s(now_s)
    figures = {
        "passed_s_ago": None if age_s is None else round(age_s, 3),
        "took_s": None if canary.took_s is None else round(canary.took_s, 6),
    }
    refused = False
    if (waits_s := canary.waits_s(now_s)) > HANGS_S:
        why = (
            f"a message of the node to itself has been under way for {show_duration(waits_s)}; the other checks may "
            "say where it waits, else restart the node"
        )
    elif canary.fault is not None:
        why = f"a message of the node to itself did not come through: {canary.fault}"
        refused = proof.fault is not None
    else:
        why = _against_age(canary, now_s, "message of the node to itself")
    return Check("canary", not why, why, refused=refused, figures=figures)
