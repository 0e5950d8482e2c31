"""What nodes tell of themselves and of each other (``node.status``), and what is wrong by that.

:func:`check_status` looks at one node's answer, :func:`check_cluster` at those of several side by side: what neither
node can see alone is that nobody makes the link, or that both do. Policy only: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from trishula.contract.texts import one_line
from trishula.contract.units import show_bytes, show_duration
from trishula.doctor.findings import Finding, fault, ok, skipped, warning

__all__ = ["Reached", "check_cluster", "check_road", "check_status"]

Status = Mapping[str, Any]
#: Peer → why its port can't be reached from here; ``None`` if it can.
Reached = Mapping[str, str | None]

#: By so much clocks may differ before tokens and times of two nodes contradict each other noticeably.
_CLOCK_MS = 2000
_FULL_PERCENT = 80
#: Free pages of a file that can't shrink are worth a word from here on.
_MUCH_UNUSED_BYTES = 64 * 1024 * 1024
_HOW_AGENTS_AGREE = (
    "compare them with trishula token list at both, and copy agents.json of the right one to the other; or have both "
    "share them (agents.shared): then it goes by itself within seconds"
)
#: Of a node that shares, and knows nothing of whether its peer does.
_WHO_SHARES = (
    "this node shares its file: look at whether {} does too (agents.shared), and run the doctor again in a few seconds "
    "if so; else copy agents.json of the right one to the other"
)
_DIFFERENT = "the files of agents of {} and {} say different things: who may join depends on the node"
#: What a node says of a second link: both make it.
_SECOND = "doubles every event"
_KEY = "know the key"
#: A mirror that lags so much is worth a word, though it goes on.
_MIRROR_LATE_S = 300.0
#: A cell reads its own canary every 5 s.
_CANARY_LATE_S = 60.0
#: A link whose trouble is so old has none.
_RECENT_S = 60.0


def check_status(status: Status) -> list[Finding]:
    """What one node tells: its store, its mirrors, its agents' file, its clock, and each of its peers."""
    name = one_line(str(status.get("node")))
    found = [
        *_store(name, status),
        *_mirrors(name, status),
        *_cells(name, status),
        *_agents(name, status),
        *_clock(name, status),
    ]
    for peer in status.get("peers", ()):
        found += _peer(name, status, peer)
    return found


def _store(name: str, status: Status) -> Iterator[Finding]:
    check, store = f"node {name}: store", status.get("store") or {}
    if store.get("fault"):
        yield fault(check, one_line(str(store["fault"])), "runbook: A store's file was deleted or moved")
    elif store.get("shortage"):
        yield fault(check, f"it is full: {one_line(str(store['shortage']))}", "runbook: A store is full")
    elif not store.get("limit_bytes"):
        yield skipped(check, "the node doesn't tell how full it is")
    else:
        percent = 100 * store.get("used_bytes", 0) / store["limit_bytes"]
        told = f"{percent:.0f} % of limits.store is in use"
        if percent >= _FULL_PERCENT:
            yield warning(check, told, "see who fills it (trishula mailboxes), or raise limits.store")
        else:
            yield ok(check, told)
    unused_bytes = store.get("unused_bytes", 0)
    # A node of the release before tells neither figure.
    if not store.get("can_shrink", True) and unused_bytes >= _MUCH_UNUSED_BYTES:
        yield warning(
            f"node {name}: file",
            f"{show_bytes(unused_bytes)} of the store's file are free, and a file of an earlier release can't shrink",
            "stop the node and run: trishula node compact; or leave it, messages fill them",
        )


def _mirrors(name: str, status: Status) -> Iterator[Finding]:
    # A node of the release before tells of none.
    for one in status.get("mirrors") or ():
        check, where = f"node {name}: mirror", one_line(str(one.get("where")))
        told = f"{where} lacks {one.get('lag_records')} records of the journal"
        if one.get("fault"):
            yield warning(check, f"{told}: {one_line(str(one['fault']))}", "messages don't wait for it; mend that")
        elif one.get("lag_s", 0.0) >= _MIRROR_LATE_S:
            age = show_duration(one["lag_s"])
            yield warning(check, f"{told}, the oldest of {age} ago", "it catches up, if records come no faster")
        else:
            yield ok(check, f"{where} has the journal up to {one.get('sequence')}")


def _cells(name: str, status: Status) -> Iterator[Finding]:
    one = status.get("cells")
    if not one:
        return
    check, where = f"node {name}: cells", one_line(str(one.get("where")))
    waiting = f"{one.get('waiting_messages')} messages wait for their cells"
    if one.get("fault"):
        yield warning(check, f"{waiting}: {one_line(str(one['fault']))}", "nothing is lost; mend that")
    elif (one.get("canary_s") or 0.0) >= _CANARY_LATE_S:
        age = show_duration(one["canary_s"])
        yield warning(
            check, f"what it puts on its own stream at {where} has not come back for {age}", "look at its log"
        )
    elif one.get("refused_entries"):
        count = one["refused_entries"]
        yield warning(
            check,
            f"{count} entries or homes at {where} have no good seal",
            "have all cells use the same cells.key_file; or else somebody who is no cell writes to that Redis",
        )
    elif (others := one.get("others") or {}).get("silent"):
        first = others["cells"][0]
        age = show_duration(first["heard_s"])
        yield warning(
            check,
            f"{others['silent']} other cells are not heard of, {one_line(str(first['cell']))} for {age}",
            "look whether their nodes run and reach Redis",
        )
    elif others.get("fault"):
        yield warning(check, f"other cells are not heard of: {one_line(str(others['fault']))}", "mend that")
    elif (one.get("topics") or {}).get("fault"):
        why = one_line(str(one["topics"]["fault"]))
        yield warning(check, f"live topics don't reach other cells: {why}", "messages do; mend that")
    else:
        yield ok(check, f"the cell {one_line(str(one.get('cell')))} is joined by {where}; {waiting}")


def _agents(name: str, status: Status) -> Iterator[Finding]:
    if status.get("agents_file_fault"):
        why = one_line(str(status["agents_file_fault"]))
        yield fault(f"node {name}: agents", why, "mend the file; the node takes it within a second")


def _clock(name: str, status: Status) -> Iterator[Finding]:
    gap_ms = status.get("clock_gap_ms", 0)
    if abs(gap_ms) >= _CLOCK_MS:
        yield warning(
            f"node {name}: clock",
            f"its machine's clock was set, and is {show_duration(abs(gap_ms) / 1000)} away from the node's",
            "have the machine follow NTP (timedatectl set-ntp true); if it stays so, the node believes it in a minute",
        )


def _peer(name: str, status: Status, peer: Status) -> Iterator[Finding]:
    other = one_line(str(peer.get("node")))
    yield _link(f"{name} – {other}: link", name, other, peer)
    if peer.get("fault"):
        yield fault(f"{name} – {other}: journal", one_line(str(peer["fault"])), "do what it says")
    ahead_ms = peer.get("clock_ahead_ms")
    if ahead_ms is not None and abs(ahead_ms) >= _CLOCK_MS:
        way = "ahead of" if ahead_ms > 0 else "behind"
        yield warning(
            f"{name} – {other}: clocks",
            f"the clock of {other} is {show_duration(abs(ahead_ms) / 1000)} {way} that of {name}",
            "have both machines follow NTP: timedatectl set-ntp true",
        )
    if peer.get("version") and status.get("version") and peer["version"] != status["version"]:
        yield warning(
            f"{name} – {other}: versions",
            f"{name} runs {one_line(str(status['version']))}, and {other} {one_line(str(peer['version']))}",
            "bring both to the same release; one release apart they work together meanwhile",
        )
    if peer.get("agents_differ"):
        yield fault(
            f"{name} – {other}: agents",
            _DIFFERENT.format(name, other),
            _HOW_AGENTS_AGREE if not status.get("agents_shared") else _WHO_SHARES.format(other),
        )


def _link(check: str, name: str, other: str, peer: Status) -> Finding:
    link = peer.get("link")
    if link is None:
        if peer.get("state") == "up":
            return ok(check, "it is up")
        return fault(check, f"{other} can't be reached, and {name} is too old to say why", "look at node.log of both")
    why, ago_s = one_line(str(link.get("trouble") or "")), link.get("trouble_s_ago")
    is_recent = bool(why) and ago_s is not None and ago_s < _RECENT_S
    if _SECOND in why and is_recent:
        return fault(
            check,
            f"both {name} and {other} make a link to each other, and one of the two is refused again and again",
            "take the rlinks entry out of one of the two configurations, best out of the one with the public address",
        )
    if link.get("up"):
        return ok(check, f"it is up, made by {link.get('made_by')}")
    told = f"there is none: {why}" if why else "there is none, and no attempt has failed yet"
    if _KEY in why or "another key" in why or "prove the key" in why:
        return fault(
            check,
            told,
            f"trishula node keys, at {name} and {other}: each key belongs into the other's paths.peer.auth.cryptosign",
        )
    if link.get("made_by") == "the peer":
        to_do = f"look at {other} (trishula node status there): does it run, and has it an rlinks entry for {name}?"
    else:
        to_do = f"is {other} started, does a firewall let its port in, is rlinks.{other} its address?"
    return fault(check, told, to_do)


def check_road(name: str, reached: Reached) -> list[Finding]:
    """Whether the peers that a node links to can be reached from its machine at all."""
    found = []
    for peer, why in reached.items():
        check = f"{name} – {peer}: address"
        if why is None:
            found.append(ok(check, f"{peer} takes connections from here"))
        else:
            to_do = f"start {peer}, open its port in its firewall for this machine, or correct rlinks.{peer}"
            if "certificate" in why:
                to_do = f"renew it at {peer}, or correct tls.hostname and tls.ca_certificates of rlinks.{peer} here"
            found.append(fault(check, f"no link to {peer} can be made from here: {one_line(why)}", to_do))
    return found


def check_cluster(statuses: Sequence[Status]) -> list[Finding]:
    """What only several answers side by side show, of each pair of nodes."""
    found: list[Finding] = []
    by_name = {str(status.get("node")): status for status in statuses}
    for (one, first), (other, second) in combinations(by_name.items(), 2):
        found += _pair(one_line(one), first, one_line(other), second)
    return found


def _pair(one: str, first: Status, other: str, second: Status) -> Iterator[Finding]:
    sides = [_told_of(first, other), _told_of(second, one)]
    if sides[0] is None and sides[1] is None:
        yield fault(
            f"{one} – {other}: peers",
            f"neither {one} nor {other} names the other among its peers: messages of one are unknown to the other",
            "link them: deploy/docs, how to link nodes",
        )
        return
    if sides[0] is None or sides[1] is None:
        lacks, named = (one, other) if sides[0] is None else (other, one)
        yield fault(
            f"{one} – {other}: peers",
            f"{named} has {lacks} among its peers, and {lacks} doesn't have {named}",
            f"add {named} to extra.peers and its key to paths.peer at {lacks}, and restart it",
        )
        return
    makers = [side["link"]["made_by"] for side in sides if side and side.get("link")]
    if makers == ["the peer", "the peer"]:
        yield fault(
            f"{one} – {other}: link",
            f"neither {one} nor {other} makes the link: each waits for the other",
            "give one of the two an rlinks entry for the other, best the one that has no public address",
        )
    elif makers == ["this node", "this node"]:
        yield fault(
            f"{one} – {other}: link",
            f"both {one} and {other} make the link, and one of the two is refused again and again",
            "take the rlinks entry out of one of the two configurations, best out of the one with the public address",
        )
    yield from _agents_of_both(one, first, other, second)


def _agents_of_both(one: str, first: Status, other: str, second: Status) -> Iterator[Finding]:
    check = f"{one} – {other}: agents"
    # A node of the release before doesn't tell whether it shares.
    sharing = first.get("agents_shared"), second.get("agents_shared")
    if None not in sharing and sharing[0] != sharing[1]:
        shares, lacks = (one, other) if sharing[0] else (other, one)
        yield fault(
            check,
            f"{shares} shares its file of agents and {lacks} does not: what changes at one is unknown at the other",
            f'have {lacks} share it too ("agents": {{"shared": true}} in extra; restart it), or neither',
        )
    digests = first.get("agents_digest"), second.get("agents_digest")
    if not all(digests) or digests[0] == digests[1]:
        return
    if sharing == (True, True):
        yield warning(
            check,
            f"{one} and {other} share their files of agents, and these say different things at the moment",
            "run the doctor again in a few seconds; if it stays so, node.log of both says why",
        )
        return
    yield fault(check, _DIFFERENT.format(one, other), _HOW_AGENTS_AGREE)


def _told_of(status: Status, name: str) -> Status | None:
    return next((peer for peer in status.get("peers", ()) if peer.get("node") == name), None)
