"""A node whose machine's clock is set for good: its instants follow, and spans go on as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from tests.support.nodes import START_MS, Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import StorageFailed
from trishula.runtime.clock import BELIEVED_AFTER_MS, SteadyClock
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.tokens import TokenEntry
from trishula_router.clocks.timeline import NOTE, Timeline
from trishula_router.store.memory import MemoryStore

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
BELIEVED_AFTER_S = BELIEVED_AFTER_MS / 1000


class Machine:
    """A machine on which a node is started again and again, and whose clock is set.

    Attributes:
        set_by_ms: how far its clock is ahead of the true one.
        boot: names its last start.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.store = HeldStore(MemoryStore("epoch-1"))
        self.set_by_ms = 0
        self.boot = "boot-1"
        self._steady_began_s = 0.0

    def wall_ms(self) -> float:
        return START_MS + self.clock.seconds() * 1000 + self.set_by_ms

    def start_again(self) -> None:
        self.boot += "+"
        self._steady_began_s = self.clock.seconds()

    def node(self) -> Rig:
        """Start the node."""
        timeline = Timeline.go_on(
            result_of(self.store.remembered(NOTE)).get(NOTE),
            boot=self.boot,
            arrival=self.store.high_water,
            wall_ms=self.wall_ms,
            steady_ms=lambda: (self.clock.seconds() - self._steady_began_s) * 1000,
            stepped=lambda gap_ms: None,
        )
        agents = {name: AgentEntry() for name in ("agni", "dc", "rushabdev")}
        return Rig(self.directory, self.store, self.clock, agents=agents, timeline=timeline).start()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(params=[HOUR_MS, -HOUR_MS, 50 * YEAR_MS, -50 * YEAR_MS], ids=["forward", "back", "far", "far back"])
def step_ms(request: pytest.FixtureRequest) -> int:
    step: int = request.param
    return step


def believe(machine: Machine, rig: Rig, step_ms: int) -> None:
    """The clock is set, and has been so for long enough."""
    machine.set_by_ms += step_ms
    rig.advance(BELIEVED_AFTER_S + 1)


def gap_ms(machine: Machine, rig: Rig) -> float:
    return machine.wall_ms() - rig.node.now()


def test_a_step_that_lasts_is_believed(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    dc = rig.join("dc")
    machine.set_by_ms = step_ms
    rig.advance(1.0)
    told = rig.call(dc, uris.NODE_STATUS)["clock_gap_ms"]
    assert told == pytest.approx(step_ms, abs=20)
    rig.advance(BELIEVED_AFTER_S)
    assert abs(gap_ms(machine, rig)) <= 1
    assert rig.call(dc, uris.NODE_STATUS)["clock_gap_ms"] == 0
    # What it writes from now on is in the new time, and a record tells of it.
    rig.send(dc, {"id": "m1", "to": "agni"})
    (record,) = result_of(rig.store.records(after=0, limit=100, kind="clock_set"))
    assert abs(record.at - machine.wall_ms()) <= 1100
    assert msgspec.json.decode(record.facts)["by_ms"] == pytest.approx(step_ms, abs=700)
    (delivery,) = rig.fetch(rig.join("agni"))["deliveries"]
    assert abs(delivery["message"]["accepted_at"] - machine.wall_ms()) <= 1


def test_a_step_that_is_taken_back_is_not(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    machine.set_by_ms = step_ms
    rig.advance(BELIEVED_AFTER_S - 5)
    machine.set_by_ms = 0
    rig.advance(3 * BELIEVED_AFTER_S)
    assert abs(gap_ms(machine, rig)) < 1
    assert result_of(rig.store.records(after=0, limit=100, kind="clock_set")) == []


def test_times_to_live_are_as_long_as_they_were(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    dc = rig.join("dc")
    rig.send(dc, *({"id": f"m{ttl_s}", "to": "agni", "ttl_ms": ttl_s * 1000} for ttl_s in (100, 200)))
    deadline_at = rig.node.now() + 200_000
    rig.send(dc, {"id": "dated", "to": "agni", "deadline_at": deadline_at}, sent_at=rig.node.now())
    believe(machine, rig, step_ms)
    assert rig.states(dc, "m100", "m200", "dated") == dict.fromkeys(("m100", "m200", "dated"), "accepted")
    rig.advance(55.0)
    assert rig.states(dc, "m100", "m200", "dated") == {"m100": "expired", "m200": "accepted", "dated": "accepted"}
    rig.advance(100.0)
    assert rig.states(dc, "m200", "dated") == {"m200": "expired", "dated": "expired"}


def test_leases_and_pauses_are_as_long_as_they_were(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "paused", "to": "agni"}, {"id": "leased", "to": "agni"})
    first, second = rig.pushed(agni)
    for _ in range(3):
        # Failed three times, it pauses for 1, 2 and 4 s; the last time when the clock is about to be believed.
        rig.nack(agni, first["token"])
        rig.advance(5.0)
        (first,) = rig.pushed(agni)
    machine.set_by_ms = step_ms
    rig.call(agni, uris.MAILBOX_WORKING, second["token"], 600)
    rig.advance(BELIEVED_AFTER_S - 4.0)
    rig.call(agni, uris.MAILBOX_WORKING, first["token"], 600)
    rig.nack(agni, first["token"])
    rig.advance(6.0)
    assert abs(gap_ms(machine, rig)) <= 1
    assert rig.ids(agni) == []
    rig.advance(3.0)
    assert rig.ids(agni) == ["paused"]
    rig.advance(600.0)
    assert "leased" in rig.ids(agni)


def test_nobody_becomes_stale_by_it(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    agni = rig.join("agni")
    rig.attach(agni)
    rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.node.now()})
    machine.set_by_ms = step_ms
    rig.advance(BELIEVED_AFTER_S - 10)
    rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.node.now() + step_ms})
    rig.outlet.announced.clear()
    rig.advance(25.0)
    assert rig.outlet.announced == []
    entry = rig.call(rig.join("dc"), uris.DIRECTORY_GET, "agni")
    assert entry["presence"] == "online"
    assert machine.wall_ms() - entry["last_beat_at"] == pytest.approx(25_000, abs=700)
    # Stale in the end, after 30 s of silence.
    rig.advance(10.0)
    assert [event["presence"] for _, event in rig.outlet.announced if event["agent"] == "agni"] == ["stale"]


def test_tokens_end_by_the_new_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.set_by_ms = -50 * YEAR_MS
    rig = machine.node()
    token = TokenEntry("0" * 64, created_at=0.0, expires_at=(START_MS + 30_000) / 1000)
    with update_agents(rig.agents_file) as agents:
        agents["dc"] = AgentEntry(tokens=(token,))
    rig.advance(1.0)
    rig.node.admission.admit("dc", 77, "0" * 64, rig.clock.seconds())
    rig.join("dc", session=77)
    rig.advance(40.0)
    assert rig.outlet.closed == []
    believe(machine, rig, 50 * YEAR_MS)
    rig.advance(1.0)
    assert [session for session, _, _ in rig.outlet.closed] == [77]


def test_the_life_of_a_message_has_sane_spans(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    (delivery,) = rig.pushed(agni)
    rig.call(agni, uris.MAILBOX_WORKING, delivery["token"], 600)
    believe(machine, rig, step_ms)
    rig.ack(agni, delivery["token"])
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    here_at = [event["at"] - event.get("clock_ahead_ms", 0) for event in life["events"]]
    assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "done"]
    assert here_at[1] - here_at[0] == 0
    assert here_at[2] - here_at[1] == pytest.approx(61_000, abs=700)
    assert life["settled_at"] - life["accepted_at"] == pytest.approx(61_000, abs=700)


def test_a_restart_of_the_node_goes_on_with_its_time(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 300_000})
    rig.stop()
    machine.set_by_ms = step_ms
    machine.clock.advance(10.0)
    rig = machine.node()
    assert abs(gap_ms(machine, rig) - step_ms) <= 100
    rig.advance(BELIEVED_AFTER_S + 1)
    assert abs(gap_ms(machine, rig)) <= 1
    dc = rig.join("dc")
    assert rig.states(dc, "m1") == {"m1": "accepted"}
    rig.advance(225.0)
    assert rig.states(dc, "m1") == {"m1": "accepted"}
    rig.advance(20.0)
    assert rig.states(dc, "m1") == {"m1": "expired"}


def test_after_a_crash_it_goes_on_as_well(machine: Machine) -> None:
    rig = machine.node()
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni", "ttl_ms": 300_000})
    rig.crash()
    machine.set_by_ms = HOUR_MS
    rig = machine.node()
    rig.advance(BELIEVED_AFTER_S + 10)
    assert abs(gap_ms(machine, rig)) <= 1
    assert rig.states(rig.join("dc"), "m1") == {"m1": "accepted"}


def test_after_a_start_of_the_machine_its_clock_counts_as_it_is(machine: Machine) -> None:
    rig = machine.node()
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni", "ttl_ms": 300_000})
    rig.stop()
    machine.start_again()
    machine.clock.advance(400.0)
    rig = machine.node()
    assert abs(gap_ms(machine, rig)) <= 1
    rig.advance(11.0)
    assert rig.states(rig.join("dc"), "m1") == {"m1": "expired"}


def test_what_was_there_before_a_start_with_a_wrong_clock_keeps_its_time(machine: Machine) -> None:
    # A machine without a clock of its own: 50 years back until somebody tells it the time.
    rig = machine.node()
    dc = rig.join("dc")
    rig.send(dc, {"id": "old", "to": "agni", "ttl_ms": 300_000})
    rig.stop()
    machine.start_again()
    machine.set_by_ms = -50 * YEAR_MS
    rig = machine.node()
    dc = rig.join("dc")
    rig.send(dc, {"id": "new", "to": "agni", "ttl_ms": 300_000})
    believe(machine, rig, 50 * YEAR_MS)
    rig.advance(230.0)
    assert rig.states(dc, "old", "new") == {"old": "accepted", "new": "accepted"}
    rig.advance(25.0)
    assert rig.states(dc, "old", "new") == {"old": "expired", "new": "expired"}


def test_a_pause_that_a_wrong_clock_wrote_is_no_longer_than_any(machine: Machine) -> None:
    machine.set_by_ms = 50 * YEAR_MS
    rig = machine.node()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 30 * 86_400_000})
    (delivery,) = rig.pushed(agni)
    rig.nack(agni, delivery["token"])
    rig.stop()
    machine.start_again()
    machine.set_by_ms = 0
    rig = machine.node()
    agni = rig.join("agni")
    rig.attach(agni)
    rig.advance(301.0)
    assert rig.ids(agni) == ["m1"]


def test_what_comes_while_the_clock_is_set_has_its_time_too(machine: Machine, step_ms: int) -> None:
    rig = machine.node()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "before", "to": "agni", "ttl_ms": 300_000})
    machine.set_by_ms = step_ms
    rig.advance(BELIEVED_AFTER_S - 2)
    machine.store.holding = True
    early = rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "early", "to": "agni", "ttl_ms": 300_000}])
    rig.advance(3.0)
    assert "follow_clock" in machine.store.waiting
    late = rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "late", "to": "agni", "ttl_ms": 300_000}])
    fetched = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 5})
    rig.advance(1.0)
    machine.store.let_all()
    machine.store.holding = False
    rig.settle()
    machine.store.let_all()
    assert [one["status"] for answer in (early, late) for one in result_of(answer)] == ["accepted", "accepted"]
    for message in result_of(rig.store.with_ids(["before", "early", "late"])):
        assert 235_000 < message.expires_at - rig.node.now() <= 300_000
    rig.settle()
    deliveries = [*result_of(fetched)["deliveries"], *rig.fetch(agni)["deliveries"]]
    assert [one["message"]["id"] for one in deliveries] == ["before", "early", "late"]


def test_a_store_that_fails_has_the_clock_set_later(machine: Machine, logged_errors: LoggedErrors) -> None:
    rig = machine.node()
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 300_000})
    machine.store.fail_next("follow_clock", StorageFailed("the disk is away"))
    believe(machine, rig, HOUR_MS)
    assert gap_ms(machine, rig) > HOUR_MS - 1000
    rig.advance(15.0)
    assert abs(gap_ms(machine, rig)) <= 1
    assert rig.states(dc, "m1") == {"m1": "accepted"}
    agni = rig.join("agni")
    rig.attach(agni)
    assert rig.ids(agni) == ["m1"]


@pytest.mark.parametrize("note", [None, "", "{", '{"boot": 1}', "null"])
def test_a_note_that_says_nothing_begins_a_time_line(machine: Machine, note: Any) -> None:
    timeline = Timeline.go_on(
        note, boot="b", arrival=7, wall_ms=machine.wall_ms, steady_ms=lambda: 0.0, stepped=lambda gap: None
    )
    assert (timeline.since, timeline.clock()) == (7, START_MS)


@pytest.mark.parametrize("step_ms", [60 * 24 * HOUR_MS, -60 * 24 * HOUR_MS], ids=["forward", "back"])
def test_what_is_kept_for_a_span_is_kept_for_as_long(machine: Machine, step_ms: int) -> None:
    # By two months, for over a minute: dead letters are kept for one, and so are ids.
    rig = machine.node()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "dead", "to": "agni"}, {"id": "done", "to": "agni"})
    dead, done = rig.pushed(agni)
    rig.nack(agni, dead["token"], requeue=False)
    rig.ack(agni, done["token"])
    believe(machine, rig, step_ms)
    assert abs(gap_ms(machine, rig)) <= 1
    rig.advance(20.0)
    boss = rig.join("dc", operator=True)
    letters = rig.call(boss, uris.ADMIN_DEAD_LIST, {})["letters"]
    assert [letter["id"] for letter in letters] == ["dead"]
    assert rig.call(boss, uris.ADMIN_DEAD_SHOW, letters[0]["seq"])["message"] is not None
    assert rig.send(dc, {"id": "done", "to": "agni"})[0]["status"] == "duplicate"
    # The node's next run knows of it as well.
    rig.stop()
    rig = machine.node()
    rig.advance(20.0)
    boss = rig.join("dc", operator=True)
    assert [one["id"] for one in rig.call(boss, uris.ADMIN_DEAD_LIST, {})["letters"]] == ["dead"]


def test_an_instant_of_the_past_is_told_as_the_clock_told_it(machine: Machine) -> None:
    timeline = Timeline(SteadyClock(machine.wall_ms, lambda: machine.clock.seconds() * 1000, lambda gap_ms: None))
    first = timeline.clock()
    timeline.jump(1000)
    machine.clock.advance(10.0)
    timeline.jump(500)
    second = timeline.clock()
    assert [timeline.earlier(at) for at in (second, second - 1, first + 999)] == [second, second - 501, first - 501]
    timeline.jump_back(500)
    assert timeline.earlier(first + 1000) == first + 1000
    # Set back, the clock tells instants twice: the later one of them is what makes things last longer.
    timeline.jump(-5000)
    assert timeline.earlier(first + 5000) == first + 5000
