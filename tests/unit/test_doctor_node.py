"""What the doctor says of a node's machine, and of what nodes tell: each finding from its facts."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from trishula.doctor.findings import Finding, Level
from trishula_router.commands.doctor import _ready
from trishula_router.doctor.machine_checks import Machine, check_machine
from trishula_router.doctor.status_checks import check_cluster, check_road, check_status
from trishula_router.store.sqlite.files import schema_of
from trishula_router.store.sqlite.migrate import newest_version

GIB = 1024**3
DAY_S = 86400.0
STATE = Path("/var/lib/trishula")
RUNNING = Machine(
    STATE,
    config=Path("node.json"),
    config_faults=(),
    runs_as="process 7, started by trishula node start",
    port=8765,
    is_answering=True,
    file_system="ext4",
    free_bytes=50 * GIB,
    free_inodes=10**6,
    wanted_bytes=8 * GIB,
    schema=6,
    newest_schema=6,
    most_files=65536,
    certificate=Path("cert.pem"),
    certificate_left_s=60 * DAY_S,
    is_synchronised=True,
)
STOPPED = replace(RUNNING, runs_as=None, is_answering=None)


def only(found: list[Finding], *levels: Level) -> list[tuple[str, str, str]]:
    return [(one.check, one.sentence, one.to_do) for one in found if one.level in levels]


def test_a_good_machine_has_nothing_but_good_findings() -> None:
    found = check_machine(RUNNING)
    assert {one.level for one in found} == {Level.OK}
    assert [one.check for one in found] == [
        "node", "configuration", "port", "permissions", "file system", "disk", "schema", "open files", "certificate",
        "NTP",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "facts", "check", "sentence", "to_do"),
    [
        (
            RUNNING,
            {"config_faults": ("extra.x: it must go",)},
            "configuration",
            "node.json: extra.x",
            "node check node.json",
        ),
        (RUNNING, {"state_fault": "it has mode 0755"}, "state directory", "it has mode 0755", "do what it says"),
        (RUNNING, {"is_answering": False}, "port", "its port 8765 takes no connection", "node.log"),
        (STOPPED, {"port_taken_by": "nginx (process 9)"}, "port", "is taken by nginx (process 9)", "another port"),
        (STOPPED, {"port_forbidden": True, "port": 443}, "port", "may not listen on port 443", "CAP_NET_BIND_SERVICE"),
        (RUNNING, {"open_files": {STATE / "agents.json": 0o644}}, "permissions", "has mode 0644", "chmod go-rwx"),
        (RUNNING, {"closed_files": (STATE / "key.priv",)}, "permissions", "this user can't read", "chown"),
        (RUNNING, {"file_system": "nfs4"}, "file system", "network file system (nfs4)", "a disk of this machine"),
        (RUNNING, {"free_bytes": 1024}, "disk", "1 KiB left: sends are refused", "node.ballast"),
        (RUNNING, {"free_inodes": 3}, "inodes", "3 inodes left", "du --inodes"),
        (RUNNING, {"schema": 9}, "schema", "schema version 9, and this program knows versions up to 6", "upgrade"),
        (RUNNING, {"certificate_left_s": -3 * DAY_S}, "certificate", "is over since 3.0 d", "certbot renew"),
        (RUNNING, {"certificate_fault": "Permission denied"}, "certificate", "Permission denied", "readable"),
    ],
)
def test_each_fault_of_the_machine(base: Machine, facts: dict[str, Any], check: str, sentence: str, to_do: str) -> None:
    ((found, told, advice),) = only(check_machine(replace(base, **facts)), Level.FAULT)
    assert found == check
    assert sentence in told
    assert to_do in advice


@pytest.mark.parametrize(
    ("base", "facts", "check", "sentence"),
    [
        (STOPPED, {}, "node", "no node runs on /var/lib/trishula"),
        (RUNNING, {"file_system": "tmpfs"}, "file system", "a reboot loses every message"),
        (RUNNING, {"file_system": "overlay"}, "file system", "goes with the container"),
        (RUNNING, {"free_bytes": 4 * GIB}, "disk", "has 4 GiB left, and by limits.store the store may grow by 8 GiB"),
        (RUNNING, {"schema": 4}, "schema", "brings it to 6 at its next start"),
        (RUNNING, {"most_files": 1024}, "open files", "may open 1024 files"),
        (RUNNING, {"certificate_left_s": 5 * DAY_S}, "certificate", "is over in 5.0 d"),
        (RUNNING, {"is_synchronised": False}, "NTP", "nothing synchronises this machine's clock"),
    ],
)
def test_each_warning_of_the_machine(base: Machine, facts: dict[str, Any], check: str, sentence: str) -> None:
    machine = replace(base, **facts)
    ((found, told, advice),) = only(check_machine(machine), Level.WARNING)
    assert (found, only(check_machine(machine), Level.FAULT)) == (check, [])
    assert sentence in told
    assert advice


def test_what_is_not_known_is_skipped_with_its_reason() -> None:
    skipped = only(check_machine(Machine(STATE)), Level.SKIPPED)
    assert [check for check, _, _ in skipped] == [
        "configuration", "file system", "disk", "schema", "open files", "NTP"
    ]  # fmt: skip
    assert all(sentence for _, sentence, _ in skipped)


def test_the_schema_of_a_file_is_read_also_if_it_is_newer_than_known(tmp_path: Path) -> None:
    file = tmp_path / "node.sqlite"
    assert schema_of(file) is None
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version = {newest_version() + 3}")
    connection.close()
    assert schema_of(file) == newest_version() + 3
    file.write_bytes(b"no database" * 100)
    assert schema_of(file) is None


# -- what nodes tell ---------------------------------------------------------------------------------------------------

LINK = {"up": True, "made_by": "the peer", "up_for_s": 9.0, "trouble": None, "trouble_s_ago": None, "troubles": 0}
PEER = {"node": "laptop", "state": "up", "clock_ahead_ms": 3, "fault": None, "version": "2", "agents_differ": False}
STORE = {"limit_bytes": 100, "used_bytes": 10, "shortage": None, "fault": None}
STATUS = {"node": "agni", "version": "2", "store": STORE, "clock_gap_ms": 0, "agents_digest": "a"}


def status(link: dict[str, Any] | None = None, **peer: Any) -> dict[str, Any]:
    return {**STATUS, "peers": [{**PEER, **peer, "link": {**LINK, **(link or {})}}]}


def test_a_good_node_has_nothing_but_good_findings() -> None:
    assert {one.level for one in check_status(status())} == {Level.OK}


CELL = {
    "cell": "north",
    "where": "redis:6379",
    "waiting_messages": 2,
    "canary_s": 1.0,
    "refused_entries": 0,
    "fault": None,
}
OTHERS = {"silent": 0, "fault": None, "cells": [{"cell": "south", "heard_s": 7200.0, "agents": 1}]}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"fault": "Redis can't be reached"}, "2 messages wait for their cells: Redis can't be reached"),
        ({"canary_s": 100.0}, "has not come back"),
        ({"refused_entries": 3}, "have no good seal"),
        ({"others": {**OTHERS, "silent": 2}}, "2 other cells are not heard of, south for 2.0 h"),
        ({"others": {**OTHERS, "fault": "no permission"}}, "other cells are not heard of: no permission"),
        ({"topics": {"fault": "no permission"}}, "live topics don't reach other cells: no permission"),
    ],
)
def test_what_is_wrong_with_a_cell_is_a_warning(more: dict[str, Any], sentence: str) -> None:
    (found,) = [one for one in check_status({**status(), "cells": {**CELL, **more}}) if one.level is not Level.OK]
    assert (found.check, found.level) == ("node agni: cells", Level.WARNING)
    assert sentence in found.sentence


def test_of_a_cell_that_is_well_and_of_one_of_the_release_before_there_is_no_warning() -> None:
    for one in (CELL, {**CELL, "others": OTHERS, "topics": {"fault": None}}, {**CELL, "others": None, "topics": None}):
        assert {found.level for found in check_status({**status(), "cells": one})} == {Level.OK}


DOWN = {"up": False, "up_for_s": None, "trouble_s_ago": 1.0, "troubles": 3}


@pytest.mark.parametrize(
    ("told", "check", "sentence", "to_do"),
    [
        (
            status({**DOWN, "trouble": "x doubles every event"}),
            "agni – laptop: link",
            "both agni and laptop make",
            "rlinks",
        ),
        (
            status({"trouble": "a second doubles every event", "trouble_s_ago": 2.0}),
            "agni – laptop: link",
            "both agni",
            "rlinks",
        ),
        (
            status({**DOWN, "trouble": "perhaps laptop with another key: no"}),
            "agni – laptop: link",
            "another key",
            "node keys",
        ),
        (status({**DOWN, "trouble": "could not prove the key of laptop"}), "agni – laptop: link", "prove", "node keys"),
        (status({**DOWN, "trouble": "it has not come"}), "agni – laptop: link", "has not come", "look at laptop"),
        (status({**DOWN, "made_by": "this node", "trouble": "refused"}), "agni – laptop: link", "refused", "firewall"),
        (status(fault="an old copy"), "agni – laptop: journal", "an old copy", "do what it says"),
        (status(agents_differ=True), "agni – laptop: agents", "say different things", "token list"),
        (
            {**STATUS, "store": {**STORE, "shortage": "limits.store"}},
            "node agni: store",
            "full: limits.store",
            "runbook",
        ),
        ({**STATUS, "store": {**STORE, "fault": "deleted"}}, "node agni: store", "deleted", "runbook"),
        ({**STATUS, "agents_file_fault": "no JSON"}, "node agni: agents", "no JSON", "mend the file"),
    ],
)
def test_each_fault_that_a_node_tells(told: dict[str, Any], check: str, sentence: str, to_do: str) -> None:
    ((found, said, advice),) = only(check_status(told), Level.FAULT)
    assert found == check
    assert sentence in said
    assert to_do in advice


@pytest.mark.parametrize(
    ("told", "check", "sentence"),
    [
        ({**STATUS, "store": {**STORE, "used_bytes": 85}}, "node agni: store", "85 % of limits.store is in use"),
        (
            {**STATUS, "store": {**STORE, "unused_bytes": 1 << 27, "can_shrink": False}},
            "node agni: file",
            "128 MiB of the store's file are free",
        ),
        ({**STATUS, "clock_gap_ms": -5000}, "node agni: clock", "5.0 s away from the node's"),
        (status(clock_ahead_ms=-3000), "agni – laptop: clocks", "the clock of laptop is 3.0 s behind that of agni"),
        (status(version="3"), "agni – laptop: versions", "agni runs 2, and laptop 3"),
    ],
)
def test_each_warning_that_a_node_tells(told: dict[str, Any], check: str, sentence: str) -> None:
    ((found, said, advice),) = only(check_status(told), Level.WARNING)
    assert (found, only(check_status(told), Level.FAULT)) == (check, [])
    assert sentence in said and advice


def test_an_old_trouble_of_a_link_that_carries_is_none() -> None:
    told = status({"trouble": "a second doubles every event", "trouble_s_ago": 300.0})
    assert only(check_status(told), Level.FAULT, Level.WARNING) == []


def test_a_node_of_before_is_judged_by_what_it_tells() -> None:
    peer = {"node": "laptop", "state": "down", "fault": None}
    old = {"node": "agni", "version": "1", "store_bytes": 5, "peers": [peer]}
    found = check_status(old)
    assert only(found, Level.SKIPPED) == [("node agni: store", "the node doesn't tell how full it is", "")]
    assert only(found, Level.FAULT)[0][:2] == (
        "agni – laptop: link",
        "laptop can't be reached, and agni is too old to say why",
    )
    assert only(check_status({**old, "peers": [{**peer, "state": "up"}]}), Level.FAULT) == []


def pair(first: str, second: str) -> list[dict[str, Any]]:
    one = status({"made_by": first})
    other = {**status({"made_by": second}), "node": "laptop"}
    other["peers"] = [{**other["peers"][0], "node": "agni"}]
    return [one, other]


def test_side_by_side_it_shows_that_nobody_makes_the_link_or_that_both_do() -> None:
    assert check_cluster(pair("this node", "the peer")) == []
    ((check, told, _),) = only(check_cluster(pair("the peer", "the peer")), Level.FAULT)
    assert (check, told) == (
        "agni – laptop: link",
        "neither agni nor laptop makes the link: each waits for the other",
    )
    ((_, told, _),) = only(check_cluster(pair("this node", "this node")), Level.FAULT)
    assert told.startswith("both agni and laptop make the link")


def test_side_by_side_it_shows_who_names_whom_and_other_agents() -> None:
    one, other = pair("this node", "the peer")
    ((_, told, advice),) = only(check_cluster([one, {**other, "peers": []}]), Level.FAULT)
    assert told == "agni has laptop among its peers, and laptop doesn't have agni"
    assert advice.startswith("add agni to extra.peers")
    ((_, told, _),) = only(check_cluster([{**one, "peers": []}, {**other, "peers": []}]), Level.FAULT)
    assert told.startswith("neither agni nor laptop names the other")
    ((check, _, _),) = only(check_cluster([one, {**other, "agents_digest": "b"}]), Level.FAULT)
    assert check == "agni – laptop: agents"
    # The same node by two of its addresses is no pair.
    assert check_cluster([one, one]) == []


def test_side_by_side_it_shows_that_one_alone_shares_its_agents() -> None:
    one, other = pair("this node", "the peer")
    sharing = [{**one, "agents_shared": False}, {**other, "agents_shared": True}]
    ((check, told, advice),) = only(check_cluster(sharing), Level.FAULT)
    assert (check, told) == (
        "agni – laptop: agents",
        "laptop shares its file of agents and agni does not: what changes at one is unknown at the other",
    )
    assert advice.startswith('have agni share it too ("agents": {"shared": true} in extra; restart it)')
    # A node of the release before says nothing of it.
    assert check_cluster([one, {**other, "agents_shared": True}]) == []


def test_files_that_are_shared_may_differ_for_a_moment() -> None:
    one, other = ({**node, "agents_shared": True} for node in pair("this node", "the peer"))
    assert check_cluster([one, other]) == []
    differing = check_cluster([one, {**other, "agents_digest": "b"}])
    assert only(differing, Level.FAULT) == []
    ((_, told, advice),) = only(differing, Level.WARNING)
    assert told == "agni and laptop share their files of agents, and these say different things at the moment"
    assert advice.startswith("run the doctor again in a few seconds")
    ((_, _, advice),) = only(check_status({**status(agents_differ=True), "agents_shared": True}), Level.FAULT)
    assert advice.startswith("this node shares its file: look at whether laptop does too")


def test_the_road_to_each_peer() -> None:
    good, bad = check_road("agni", {"laptop": None, "desk": "10.0.0.9:8765: Connection refused"})
    assert (good.level, bad.level) == (Level.OK, Level.FAULT)
    assert "Connection refused" in bad.sentence and "firewall" in bad.to_do
    (bad,) = check_road("agni", {"laptop": "the certificate of laptop is not good: certificate has expired"})
    assert "has expired" in bad.sentence and "ca_certificates" in bad.to_do


class NotReady(BaseHTTPRequestHandler):
    """A node that is not ready."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"ready": false}')

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_node_itself_is_asked_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # Nobody listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), NotReady) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert _ready(f"ws://127.0.0.1:{server.server_port}/ws") == {"ready": False}
