"""The notifier: what is wrong, when it is told, in which form, and that a road that is down blocks nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from trishula_router.alerts.conditions import OTHERS, Condition, Facts, find_conditions
from trishula_router.alerts.forms import as_mail, as_slack, as_webhook, line_of
from trishula_router.alerts.notifier import Notifier
from trishula_router.alerts.policy import Alert, AlertPolicy
from trishula_router.alerts.roads import RoadFailed
from trishula_router.settings.alerts import AlertOptions, SecretMissing, parse_alerts, read_secret
from trishula_router.settings.faults import Fault, Section

NOW = 1_764_362_082_000
HOUR_MS = 3_600_000
READY: dict[str, Any] = {"ready": True, "checks": [{"check": "store", "ok": True, "reason": ""}]}
OPTIONS = AlertOptions()


def keys(facts: Facts, options: AlertOptions = OPTIONS, node: str = "agni") -> list[tuple[str, str]]:
    return [one.key for one in find_conditions(facts, options, node, NOW)]


def peer(name: str, state: str = "up", ahead_ms: int | None = 0) -> dict[str, Any]:
    return {"node": name, "state": state, "clock_ahead_ms": ahead_ms}


def agent(name: str, away_ms: int | None, presence: str = "offline") -> dict[str, Any]:
    return {"agent": name, "presence": presence, "last_seen_at": None if away_ms is None else NOW - away_ms}


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_of_a_node_that_is_well_there_is_nothing() -> None:
    assert keys(Facts(READY, peers=[peer("rushabdev")], agents=[agent("dc", 0, "online")])) == []


def test_a_check_that_fails_and_a_store_that_is_out_of_use() -> None:
    ready = {"ready": False, "checks": [{"check": "disk", "ok": False, "reason": "the disk is full; make room"}]}
    (one,) = find_conditions(Facts(ready, store_fault="no room"), OPTIONS, "agni", NOW)
    assert (one.key, one.sentence) == (("not_ready", "disk"), "the disk is full; make room")
    assert keys(Facts(READY, store_fault="no room")) == [("not_ready", "store")]


def test_what_has_a_kind_of_its_own_is_told_once() -> None:
    checks = [{"check": name, "ok": False, "reason": "no"} for name in ("peers", "clock", "loop")]
    facts = Facts({"ready": False, "checks": checks}, peers=[peer("rushabdev", "down")])
    assert keys(facts) == [("not_ready", "loop"), ("link", "rushabdev")]


def cell(**more: Any) -> dict[str, Any]:
    others = {"known": 1, "silent": 0, "cells": [{"cell": "south", "heard_s": 3.0, "agents": 1}], "fault": None}
    well = {"cell": "north", "where": "redis:6379", "waiting_messages": 0, "waiting_s": 0.0, "canary_s": 1.0}
    return {**well, "fault": None, "others": others, **more}


def test_of_a_cell_that_is_well_there_is_nothing() -> None:
    for told in (None, cell(), cell(canary_s=None), cell(others=None), cell(waiting_s=59.0, canary_s=59.0)):
        assert keys(Facts(READY, cells=told)) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"fault": "Redis can't be reached: refused"},
            "Redis at redis:6379 doesn't do what the cell north asks: Redis",
        ),
        ({"waiting_messages": 1200, "waiting_s": 90.0}, "1,200 messages are not known to have reached their cells"),
        ({"canary_s": 300.0}, "what the cell north puts on its own stream is not read since 5 min"),
    ],
)
def test_what_is_wrong_with_the_own_cell_is_told(more: dict[str, Any], said: str) -> None:
    (one,) = find_conditions(Facts(READY, cells=cell(**more)), OPTIONS, "agni", NOW)
    assert one.key == ("cells", "")
    assert one.sentence.startswith(said)
    assert find_conditions(Facts(READY, cells=cell(**more), cells_late_s=500.0), OPTIONS, "agni", NOW) == (
        [one] if "fault" in more else []
    )


def test_a_cell_that_is_not_heard_of_is_told_once_by_linked_nodes_and_not_while_redis_is_away() -> None:
    silent: dict[str, Any] = {"known": 2, "silent": 1, "fault": None}
    silent["cells"] = [{"cell": "west", "heard_s": 7200.0, "agents": 1}, {"cell": "south", "heard_s": 3.0, "agents": 1}]
    facts = Facts(READY, cells=cell(others=silent), peers=[peer("rushabdev")])
    assert keys(facts) == [("cell_silent", "west")]
    assert keys(facts, node="zeta") == []
    assert "for 2 h" in find_conditions(facts, OPTIONS, "agni", NOW)[0].sentence
    assert keys(Facts(READY, cells=cell(others={**silent, "fault": "no Redis"}))) == []


def test_links_and_clocks() -> None:
    facts = Facts(READY, peers=[peer("rushabdev", "down"), peer("dc", ahead_ms=-1500)], clock_gap_ms=1001)
    assert keys(facts) == [("link", "rushabdev"), ("clock", ""), ("clock", "dc")]
    assert keys(Facts(READY, peers=[peer("dc", ahead_ms=999)], clock_gap_ms=1000)) == []


def test_an_agent_that_is_away_for_long_is_missed_unless_it_is_an_operator_or_never_came() -> None:
    agents = [
        agent("scout", HOUR_MS + 1),
        agent("late", HOUR_MS),
        agent("boss", 2 * HOUR_MS),
        agent("never", None),
        agent("there", 2 * HOUR_MS, "online"),
    ]
    facts = Facts(READY, agents=agents, visitors=frozenset({"boss"}))
    assert keys(facts) == [("agent_away", "scout")]
    assert keys(facts, replace(OPTIONS, agents=("boss",))) == [("agent_away", "boss")]


def test_a_node_that_lost_its_network_does_not_tell_of_each_agent() -> None:
    found = find_conditions(
        Facts(READY, agents=[agent(f"a{number:03}", 2 * HOUR_MS) for number in range(300)]), OPTIONS, "agni", NOW
    )
    assert len(found) == 21
    assert "280 more" in found[-1].sentence


def test_mailboxes_and_dead_letters() -> None:
    boxes = [
        {"address": "deep", "pending": 9_990, "in_flight": 11, "oldest_at": NOW},
        {"address": "old", "pending": 1, "in_flight": 0, "oldest_at": NOW - 901_000},
        {"address": "fine", "pending": 10_000, "in_flight": 0, "oldest_at": NOW - 900_000},
        {"address": "empty", "pending": 0, "in_flight": 0, "oldest_at": None},
    ]
    assert keys(Facts(READY, mailboxes=boxes)) == [("backlog", "deep"), ("backlog", "old")]
    assert keys(Facts(READY, dead_letters=1)) == [("dead_letters", "")]
    assert keys(Facts(READY, dead_letters=1), replace(OPTIONS, dead_letters=2)) == []
    assert keys(Facts(READY, dead_letters=5), replace(OPTIONS, dead_letters=0)) == []


@pytest.mark.parametrize(("left_days", "is_told"), [(15, False), (13, True), (-1, True)])
def test_a_certificate_that_ends_soon(left_days: int, is_told: bool) -> None:
    facts = Facts(READY, certificate_ends_at=NOW + left_days * 86_400_000)
    assert (("certificate", "") in keys(facts)) is is_told


def test_of_what_both_nodes_know_one_tells() -> None:
    def told(node: str, other: str, state: str) -> bool:
        return ("dead_letters", "") in keys(Facts(READY, peers=[peer(other, state)], dead_letters=1), node=node)

    assert told("agni", "rushabdev", "up")
    assert not told("rushabdev", "agni", "up")
    # The one that tells is gone.
    assert told("rushabdev", "agni", "down")


# -- when it is told ---------------------------------------------------------------------------------------------------

A, B = Condition("link", "a", "a is gone"), Condition("link", "b", "b is gone")


def policy(rate_per_s: float = 1.0) -> AlertPolicy:
    return AlertPolicy("agni", after_s=60.0, repeat_s=3600.0, rate_per_s=rate_per_s)


def run(there: AlertPolicy, found: list[Condition], *seconds: float) -> list[str]:
    alerts = [alert for at_s in seconds for alert in there.step(found, NOW + round(at_s * 1000), at_s)]
    return [f"{one.state} {one.condition.about}{' again' if one.is_repeat else ''}" for one in alerts]


def test_a_condition_is_told_once_it_has_lasted_and_its_end_is_told() -> None:
    there = policy()
    assert run(there, [A], 0, 5, 59) == []
    assert run(there, [A], 60, 65, 100) == ["firing a"]
    assert run(there, [], 105, 110, 159) == []
    assert run(there, [], 160, 165) == ["resolved a"]
    assert there.told() == []


def test_what_comes_and_goes_is_told_once_and_what_was_short_not_at_all() -> None:
    there = policy()
    assert run(there, [A], 0, 30) == run(there, [], 35) == []
    assert run(there, [A], 40, 99) == []
    assert run(there, [A], 100) == ["firing a"]
    assert run(there, [], 105) + run(there, [A], 110) + run(there, [], 115) + run(there, [A], 120) == []


def test_it_is_told_again_while_it_lasts() -> None:
    there = policy()
    assert run(there, [A], 0, 60) == ["firing a"]
    assert run(there, [A], 3659) == []
    assert run(there, [A], 3660) == ["firing a again"]


def test_too_many_are_held_back_and_counted() -> None:
    there = policy(rate_per_s=1 / 60)
    many = [Condition("agent_away", f"a{number}", "away") for number in range(15)]
    there.step(many, NOW, 0.0)
    assert len(there.step(many, NOW, 60.0)) == 10
    # What was held back goes out as there is room, long before anything is told again, and is counted once.
    assert there.step(many, NOW, 90.0) == []
    later = [alert for at_s in range(120, 520, 5) for alert in there.step(many, NOW, float(at_s))]
    assert [(one.condition.about, one.held_back, one.is_repeat) for one in later] == [
        ("a10", 5, False), ("a11", 0, False), ("a12", 0, False), ("a13", 0, False), ("a14", 0, False),
    ]  # fmt: skip


def test_what_nobody_knows_of_comes_before_what_is_told_again() -> None:
    there = policy(rate_per_s=1 / 3600)
    many = [Condition("agent_away", f"a{number}", "away") for number in range(10)]
    there.step(many, NOW, 0.0)
    assert len(there.step(many, NOW, 60.0)) == 10
    there.step([*many, A], NOW, 3600.0)
    (only,) = there.step([*many, A], NOW, 3660.0)
    assert only.condition == A


def test_what_is_among_the_rest_now_has_not_ended() -> None:
    there = policy()
    rest = Condition("link", OTHERS, "and 1 more of the same")
    assert run(there, [B, rest], 0, 60) == ["firing b", f"firing {OTHERS}"]
    assert run(there, [A, rest], 65, 130, 200) == ["firing a"]
    assert run(there, [A], 205, 230) == []
    assert run(there, [A], 265) == ["resolved b", f"resolved {OTHERS}"]


def test_a_mailbox_that_was_passed_by_a_deeper_one_is_still_told_by_its_name() -> None:
    def told(deep: int) -> list[tuple[str, str]]:
        depths = {f"b{number:02}": 20_000 + (deep if number == 24 else 0) for number in range(25)}
        boxes = [{"address": name, "pending": depth, "in_flight": 0} for name, depth in depths.items()]
        return keys(Facts(READY, mailboxes=sorted(boxes, key=lambda box: -box["pending"])))

    assert told(0) == told(5)
    assert told(5)[-1] == ("backlog", OTHERS)


def test_what_a_node_says_nothing_of_has_not_ended() -> None:
    there = policy()
    assert run(there, [A], 0, 60) == ["firing a"]
    there.forget({"link"})
    assert run(there, [], 65, 130, 200) == [] and there.told() == []


def test_what_was_told_is_known_after_a_restart() -> None:
    before = policy()
    assert run(before, [A, B], 0, 60) == ["firing a", "firing b"]
    # Nobody was told of this one yet.
    run(before, [A, B, Condition("link", "c", "c is gone")], 65)
    after = policy()
    after.recall(before.memory([]), NOW + 70_000, 5.0)
    assert run(after, [A], 10, 60, 64) == []
    assert run(after, [A], 65) == ["resolved b"]
    assert after.told()[0]["since"] == NOW
    # From when it was told, 10 s before the restart.
    assert [run(after, [A], at_s) for at_s in (3594.0, 3596.0)] == [[], ["firing a again"]]


def test_what_no_road_has_taken_yet_is_told_by_the_next_run() -> None:
    there = policy()
    there.step([A, B], NOW, 0.0)
    (a, _) = there.step([A, B], NOW + 60_000, 60.0)
    assert [one.about for one in there.memory([a])] == ["b"]
    there.step([B], NOW + 65_000, 65.0)
    (end,) = there.step([B], NOW + 125_000, 125.0)
    assert (end.state, [one.about for one in there.memory([])]) == ("resolved", ["b"])
    # Its end waits.
    assert [one.about for one in there.memory([end])] == ["b", "a"]


def test_an_end_waits_for_its_turn() -> None:
    there = policy(rate_per_s=1 / 3600)
    many = [Condition("agent_away", f"a{number}", "away") for number in range(10)]
    there.step(many, NOW, 0.0)
    assert len(there.step(many, NOW, 60.0)) == 10
    ends = [alert for at_s in range(120, 120 + 11 * 3600, 600) for alert in there.step([], NOW, float(at_s))]
    assert [one.state for one in ends] == ["resolved"] * 10


# -- forms -------------------------------------------------------------------------------------------------------------

HOSTILE = Alert("firing", "agni", Condition("backlog", "x\n<!channel>", "x\r\nBcc: all <!channel> & \x1b[2J"), NOW, NOW)


def test_no_form_can_be_broken_out_of() -> None:
    assert line_of(HOSTILE).isprintable()
    said = json.loads(as_webhook(HOSTILE))
    assert said["state"] == "firing" and said["since"] == "2025-11-28T20:34:42Z"
    assert "\n" not in said["sentence"] and "\x1b" not in said["about"]
    text = json.loads(as_slack(HOSTILE))["text"]
    assert "<" not in text and "&lt;!channel&gt; &amp;" in text
    mail = as_mail(HOSTILE, AlertOptions(mail_from="a@example.org", mail_to=("b@example.org", "c@example.org")))
    assert mail["Bcc"] is None and mail["To"] == "b@example.org, c@example.org"
    assert "\n" not in str(mail["Subject"])


def test_what_was_held_back_is_told() -> None:
    assert "3 alerts were held back" in line_of(replace(HOSTILE, held_back=3))


# -- sending -----------------------------------------------------------------------------------------------------------


class Rig:
    """A notifier whose one road answers as the test says."""

    def __init__(self, node: str = "agni") -> None:
        self.clock = Clock()
        self.facts = Facts(READY)
        self.sent: list[str] = []
        self.kept: list[str] = []
        self.answer: Any = lambda: succeed("taken")
        options = AlertOptions(webhook="env:X", after_s=0.0)
        self.notifier = Notifier(
            node,
            options,
            self._facts,
            self._send,
            clock=self.clock,  # type: ignore[arg-type]
            now=lambda: NOW + round(self.clock.seconds() * 1000),
            random=lambda: 0.0,
            keep=self.kept.append,
        )

    async def _facts(self) -> Facts:
        return self.facts

    def _send(self, road: str, alert: Alert) -> Deferred[str]:
        self.sent.append(f"{road} {alert.state} {alert.condition.about}")
        answer: Deferred[str] = self.answer()
        return answer

    def round(self) -> None:
        done: list[object] = []
        Deferred.fromCoroutine(self.notifier.round()).addCallback(done.append)
        assert done == [None]

    def told(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        Deferred.fromCoroutine(self.notifier.told()).addCallback(found.append)
        return found[0]


def test_what_fails_is_tried_again_after_growing_pauses() -> None:
    rig = Rig()
    rig.answer = lambda: fail(RoadFailed("it is down"))
    rig.facts = Facts(READY, peers=[peer("b", "down")])
    rig.round()
    assert rig.sent == ["webhook firing b"]
    assert rig.told()["roads"] == [{"road": "webhook", "waiting": 1, "fault": "it is down"}]
    rig.clock.advance(1.9)
    assert len(rig.sent) == 1
    rig.clock.advance(0.2)
    assert len(rig.sent) == 2
    rig.answer = lambda: succeed("taken")
    rig.clock.advance(4.1)
    assert rig.sent == ["webhook firing b"] * 3
    assert rig.told()["roads"] == [{"road": "webhook", "waiting": 0, "fault": None}]


def test_what_changed_is_kept_and_the_next_run_tells_the_end() -> None:
    rig = Rig()
    rig.facts = Facts(READY, peers=[peer("b", "down")])
    rig.round()
    rig.clock.advance(5.0)
    rig.round()
    rig.notifier.stop()
    assert len(rig.kept) == 1
    after = Rig()
    after.notifier.recall(rig.kept[-1])
    after.facts = Facts(READY, peers=[peer("b", "down")])
    after.round()
    assert after.sent == []
    after.clock.advance(5.0)
    after.facts = Facts(READY)
    after.round()
    assert after.sent == ["webhook resolved b"]
    assert after.kept == ["[]"]


def test_what_can_not_be_read_is_no_reason_not_to_start() -> None:
    rig = Rig()
    rig.notifier.recall('{"of": "another version"}')
    rig.round()
    assert rig.sent == []


def test_what_no_try_can_help_is_given_up() -> None:
    rig = Rig()
    rig.answer = lambda: fail(RoadFailed("404", is_temporary=False))
    rig.facts = Facts(READY, peers=[peer("b", "down")])
    rig.round()
    assert rig.told()["roads"] == [{"road": "webhook", "waiting": 0, "fault": "404"}]


def test_one_is_under_way_at_a_time_and_the_queue_is_bounded() -> None:
    rig = Rig()
    never: Deferred[str] = Deferred()
    rig.answer = lambda: never
    for number in range(200):
        rig.facts = Facts(READY, peers=[peer(f"b{number}", "down")])
        rig.clock.advance(3600.0)
        rig.round()
    assert rig.sent == ["webhook firing b0"]
    assert rig.told()["roads"][0]["waiting"] == 100
    never.callback("taken")


def test_a_test_says_what_came_of_it_and_is_not_repeated() -> None:
    rig = Rig()
    found: list[Any] = []
    Deferred.fromCoroutine(rig.notifier.test()).addCallback(found.append)
    rig.answer = lambda: fail(RoadFailed("it is down"))
    Deferred.fromCoroutine(rig.notifier.test()).addCallback(found.append)
    rig.clock.advance(10_000.0)
    assert found == [
        [{"road": "webhook", "ok": True, "detail": "taken"}],
        [{"road": "webhook", "ok": False, "detail": "it is down"}],
    ]
    assert rig.sent == ["webhook test "] * 2


def test_a_node_that_stops_sends_nothing_more() -> None:
    rig = Rig()
    rig.answer = lambda: fail(RoadFailed("it is down"))
    rig.facts = Facts(READY, peers=[peer("b", "down")])
    rig.round()
    rig.notifier.stop()
    rig.clock.advance(10_000.0)
    assert len(rig.sent) == 1
    assert not rig.clock.getDelayedCalls()


def test_no_end_is_told_when_another_node_tells_from_now_on_or_the_store_fails() -> None:
    rig = Rig(node="rushabdev")
    rig.facts = Facts(READY, peers=[peer("agni", "down")], dead_letters=1)
    rig.round()
    assert rig.sent == ["webhook firing agni", "webhook firing "]
    rig.facts = Facts(READY, peers=[peer("agni")], dead_letters=1)
    for _ in range(3):
        rig.clock.advance(5.0)
        rig.round()
    assert rig.sent[2:] == ["webhook resolved agni"]
    alone = Rig()
    alone.facts = Facts(READY, dead_letters=1)
    alone.round()
    alone.facts = Facts(READY, store_fault="disk I/O error", is_store_read=False)
    for _ in range(3):
        alone.clock.advance(5.0)
        alone.round()
    assert alone.sent == ["webhook firing ", "webhook firing store"]


# -- options -----------------------------------------------------------------------------------------------------------


def faults(**raw: object) -> list[str]:
    found: list[Fault] = []
    parse_alerts(Section(raw, "extra.alerts", found))
    return [one.sentence for one in found]


MAIL = {"mail_server": "mail.example.org:587", "mail_from": "a@example.org", "mail_to": ["b@example.org"]}


def test_what_is_right_has_no_fault() -> None:
    assert faults() == []
    assert faults(webhook="file:webhook.url", slack="env:SLACK_URL", **MAIL) == []
    assert faults(mail_user="me", mail_password="file:mail.password", **MAIL) == []


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"webhook": "https://hooks.example.org/secret"}, "extra.alerts.webhook is "),
        ({"mail_server": "mail.example.org:587"}, 'extra.alerts.mail_from is ""; it must be there, because'),
        (
            {**MAIL, "mail_server": "mail.example.org"},
            'extra.alerts.mail_server is "mail.example.org"; it must be HOST:PORT',
        ),
        ({**MAIL, "mail_server": "mail.example.org:0"}, "it must name a port from 1 to 65535"),
        ({**MAIL, "mail_to": ["b@example.org\nBcc: x@y.z"]}, "extra.alerts.mail_to[0] is"),
        ({**MAIL, "mail_user": "me"}, 'extra.alerts.mail_password is ""; it must be file:PATH or env:NAME'),
        ({**MAIL, "mail_tls": "ssl"}, 'extra.alerts.mail_tls is "ssl"; it must be one of starttls, tls, none'),
        (
            {**MAIL, "mail_tls": "none", "mail_user": "me", "mail_password": "env:X"},
            "it must be starttls or tls, or the password would travel for all to read",
        ),
        ({"no_such": 1}, "extra.alerts.no_such is 1; it is an unknown key"),
    ],
)
def test_each_fault_is_one_sentence(raw: dict[str, object], sentence: str) -> None:
    found = faults(**raw)
    assert any(sentence in one for one in found), found
    assert all("\n" not in one for one in found)


def test_a_secret_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://hooks.example.org/x\n")
    assert read_secret("file:url", tmp_path) == read_secret(f"file:{tmp_path}/url", Path("/"))
    assert read_secret("env:HOOK", tmp_path, {"HOOK": " https://x "}) == "https://x"
    for where, why in (("env:HOOK", "is not set"), ("file:none", "can't be read: No such file"), ("file:e", "empty")):
        (tmp_path / "e").write_text(" \n")
        with pytest.raises(SecretMissing, match=why):
            read_secret(where, tmp_path, {})
