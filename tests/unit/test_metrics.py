"""What a node's metrics say, read from a node without a router; and that the text is Prometheus' own form."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.prometheus import PROMTOOL, needs_promtool
from tests.support.scraped import Scraped
from tests.support.stores import HeldStore, ReactorQueue, open_sqlite, result_of
from trishula.contract import uris
from trishula.errors import StorageFailed, TrishulaError
from trishula_router.histogram import Histogram
from trishula_router.metrics.families import FAMILIES, MOST_AGENTS, OF_CAPABILITIES, OF_OTHERS
from trishula_router.metrics.scrape import Scrape
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore


def scraped(rig: Rig) -> Scraped:
    answer = Scrape(rig.node).text()
    rig.settle()
    return Scraped(result_of(answer))


def rig_of(directory: Path, *agents: str) -> Rig:
    return Rig(directory, MemoryStore("epoch-1"), Clock(), agents=agents or ("agni", "dc", "rushabdev")).start()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return rig_of(tmp_path)


def test_a_value_is_counted_where_it_belongs() -> None:
    histogram = Histogram((1.0, 2.0))
    for value, count in ((0.5, 1), (1.0, 1), (1.5, 3), (9.0, 1)):
        histogram.observe(value, count)
    assert histogram.counts == [2, 3, 1]
    assert histogram.total == pytest.approx(0.5 + 1.0 + 4.5 + 9.0)


# -- messages ----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_message_is_measured(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "m-1", "to": "agni", "payload": 1}, {"id": "m-2", "to": "agni", "payload": 2})
    rig.advance(2.0)
    waiting = scraped(rig)
    assert waiting["trishula_mailbox_waiting_messages", "agni"] == 2
    assert waiting["trishula_mailbox_oldest_age_seconds", "agni"] == 2.0
    assert waiting["trishula_mailbox_bytes", "agni"] > 0
    assert waiting["trishula_mailbox_consumed", "agni"] == 0
    assert waiting["trishula_message_accept_duration_seconds_count"] == 2
    assert waiting["trishula_receipts_total", "1"] == 2
    assert waiting["trishula_deepest_mailbox_messages"] == 2
    assert waiting["trishula_mailboxes"] == 1

    rig.attach(agni)
    tokens = [one["token"] for one in rig.pushed(agni)]
    out = scraped(rig)
    assert out["trishula_mailbox_waiting_messages", "agni"] == 0
    assert out["trishula_mailbox_in_flight_messages", "agni"] == 2
    assert out["trishula_mailbox_consumed", "agni"] == 1
    assert out["trishula_message_delivery_delay_seconds_sum"] == pytest.approx(4.0)
    assert out["trishula_message_delivery_delay_seconds_bucket", "2.5"] == 2
    assert out["trishula_message_delivery_delay_seconds_bucket", "1.0"] == 0

    rig.advance(1.0)
    rig.ack(agni, tokens[0])
    rig.nack(agni, tokens[1], requeue=False)
    done = scraped(rig)
    assert done["trishula_messages_settled_total", "done"] == 1
    assert done["trishula_messages_settled_total", "dead"] == 1
    assert done["trishula_message_done_delay_seconds_count"] == 1
    assert done["trishula_message_done_delay_seconds_sum"] == pytest.approx(3.0)
    assert done["trishula_mailbox_in_flight_messages", "agni"] == 0


def test_what_goes_out_again_is_counted_apart(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m-1", "to": "agni", "payload": 1})
    rig.nack(agni, rig.pushed(agni)[0]["token"])
    rig.advance(5.0)
    assert rig.ids(agni) == ["m-1"]
    found = scraped(rig)
    assert found["trishula_messages_redelivered_total"] == 1
    assert found["trishula_message_delivery_delay_seconds_count"] == 1


def test_a_loop_that_stood_still_is_told_by_the_figures_and_the_check_alike(rig: Rig) -> None:
    # Neither the first beat after the start is late, nor one of a node that has time.
    rig.advance(10.0)
    assert scraped(rig)["trishula_loop_lag_seconds_sum"] == pytest.approx(0.0)
    rig.clock.advance(3.0)
    assert scraped(rig)["trishula_loop_lag_seconds_sum"] == pytest.approx(2.75)
    assert rig.node.measures.loop_lag.worst_s(rig.clock.seconds()) == pytest.approx(2.75)


def test_repeats_and_refusals_are_counted_by_error(rig: Rig) -> None:
    dc = rig.join("dc")
    for _ in range(2):
        rig.send(dc, {"id": "m-1", "to": "agni", "payload": 1})
    rig.send(dc, {"id": "m-2", "to": "nobody", "payload": 1})
    rig.send(dc, {"id": "m-3", "to": "agni", "from": "agni", "payload": 1})
    with pytest.raises(TrishulaError):
        rig.call(dc, uris.MAILBOX_SEND, "no list")
    found = scraped(rig)
    assert found["trishula_messages_duplicate_total"] == 1
    assert found["trishula_messages_refused_total", "recipient_unknown"] == 1
    assert found["trishula_messages_refused_total", "sender_false"] == 1
    assert found["trishula_denials_total", "sender_false"] == 1
    assert found["trishula_calls_refused_total", "argument_invalid"] == 1
    assert found["trishula_call_duration_seconds_count", "mailbox.send"] == 5


def test_refusals_that_are_not_noted_one_by_one_are_counted_all_the_same(rig: Rig) -> None:
    dc = rig.join("dc")
    for number in range(50):
        rig.send(dc, {"id": f"m-{number}", "to": "agni", "from": "agni", "payload": 1})
    rig.advance(3600.0)
    assert scraped(rig)["trishula_denials_total", "sender_false"] == 50


def test_the_age_of_what_was_accepted_follows_a_clock_that_was_set(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "m-1", "to": "agni", "payload": 1})
    rig.node.mailroom.follow_clock(3_600_000, 0, rig.now() + 10_000_000)
    rig.ahead_ms = 3_600_000
    rig.advance(1.0)
    rig.attach(agni)
    rig.pushed(agni)
    assert scraped(rig)["trishula_message_delivery_delay_seconds_sum"] == pytest.approx(1.0)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_series_are_bounded_whoever_registers_and_whatever_is_addressed(tmp_path: Path) -> None:
    agents = [f"a{number:03}" for number in range(MOST_AGENTS + 20)]
    rig = rig_of(tmp_path, *agents)
    sender = rig.join(agents[0])
    rig.send(sender, *[{"id": f"m-{name}", "to": name, "payload": 1} for name in agents])
    rig.send(sender, *[{"id": f"c-{number}", "to": f"capability:c{number}", "payload": 1} for number in range(30)])
    for number in range(7):
        rig.fetch(rig.join(agents[1]), instance=f"i{number}")
    rig.send(sender, *[{"id": f"i-{number}", "to": f"{agents[1]}/i{number}", "payload": 1} for number in range(7)])
    found = scraped(rig)
    of_agents = found.of("trishula_mailbox_waiting_messages")
    assert len(of_agents) == MOST_AGENTS + 2
    assert of_agents[(agents[1],)] == 8
    assert of_agents[(OF_OTHERS,)] == 20
    assert of_agents[(OF_CAPABILITIES,)] == 30
    assert len(found.of("trishula_agent_present")) == MOST_AGENTS
    assert found["trishula_agents_registered"] == len(agents)
    # Each label's values are told in the families, or by the configuration; nothing else makes a series.
    assert len(found.values) < 2000


def test_a_scrape_leaves_no_mailbox_behind(rig: Rig) -> None:
    before = rig.node.mailroom.addresses()
    scraped(rig)
    assert rig.node.mailroom.addresses() == before


def test_within_a_second_all_get_the_same_text(rig: Rig) -> None:
    scrape = Scrape(rig.node)
    first = result_of(scrape.text())
    rig.send(rig.join("dc"), {"id": "m-1", "to": "agni", "payload": 1})
    rig.clock.advance(0.5)
    assert result_of(scrape.text()) is first
    rig.clock.advance(1.0)
    assert Scraped(result_of(scrape.text()))["trishula_mailbox_waiting_messages", "agni"] == 1


def test_who_asks_while_a_scrape_is_under_way_waits_for_it(tmp_path: Path) -> None:
    store = HeldStore(MemoryStore("epoch-1"))
    rig = Rig(tmp_path, store, Clock())
    store.holding = True
    scrape = Scrape(rig.node)
    first, second = scrape.text(), scrape.text()
    assert store.waiting == ["oldest"]
    store.let_all()
    assert result_of(first) is result_of(second)


def test_a_store_that_does_not_answer_holds_no_scrape_up(tmp_path: Path) -> None:
    """That its disk hangs is what whoever monitors the node is to learn, and Prometheus waits for ten seconds."""
    store = HeldStore(MemoryStore("epoch-1"))
    rig = Rig(tmp_path, store, Clock()).start()
    store.holding = True
    scrape = Scrape(rig.node)
    first = scrape.text()
    rig.clock.advance(5.0)
    assert Scraped(result_of(first))["trishula_agents_registered"] == 3
    # What it says in the end is nobody's fault.
    store.let_all()
    assert Scraped(result_of(scrape.text()))["trishula_agents_registered"] == 3
    rig.crash()


# -- agents ------------------------------------------------------------------------------------------------------------


def test_an_agent_is_away_from_its_last_sign_of_life_on(rig: Rig) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    assert scraped(rig)["trishula_agent_present", "agni"] == 1
    rig.leave(agni)
    rig.advance(60.0)
    found = scraped(rig)
    assert found["trishula_agent_present", "agni"] == 0
    assert found["trishula_agent_away_seconds", "agni"] == pytest.approx(60.0, abs=1.0)
    assert found["trishula_agents_present"] == 0
    # It was never there, and nobody can say for how long it has been away.
    assert ("trishula_agent_away_seconds", "dc") not in found


# -- the store, peers --------------------------------------------------------------------------------------------------


def test_commits_of_a_store_on_disk_are_timed_and_what_only_reads_is_none(tmp_path: Path) -> None:
    calls = ReactorQueue()
    store = open_sqlite(tmp_path, calls)
    try:
        rig = Rig(tmp_path, store, Clock())
        before = sum(store.commits.times.counts)
        calls.wait(store.remember({"a": "b"}))
        assert sum(store.commits.times.counts) == before + 1
        calls.wait(store.at_positions([1]))
        assert sum(store.commits.times.counts) == before + 1
        assert store.commits.times.total > 0
        records = store.commits.records.total
        calls.wait(store.note(Kind.NODE_STARTED, {}, rig.now()))
        assert store.commits.records.total == records + 1
    finally:
        calls.wait(store.close())


def test_a_store_that_fails_does_not_end_the_metrics(tmp_path: Path) -> None:
    store = HeldStore(MemoryStore("epoch-1"))
    rig = Rig(tmp_path, store, Clock())
    store.fail_next("oldest", StorageFailed("the disk is gone"))
    assert scraped(rig)["trishula_node_ready"] == 1


def test_a_peer_is_told_of_with_its_lag_and_its_link(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {"one": MemoryStore("e-1", "one"), "two": MemoryStore("e-2", "two")})
    one = nodes.rigs["one"]
    one.node.links.up("two", "the peer made it")
    for _ in range(30):
        one.node.links.refused(None, "who is that")
    nodes.advance(5.0)
    found = scraped(one)
    assert found["trishula_peer_up", "two"] == 1
    assert found["trishula_peer_lag_records", "two"] == 0
    assert found["trishula_peer_replication_ok", "two"] == 1
    assert found["trishula_copies_available"] == 2
    assert abs(found["trishula_peer_clock_ahead_seconds", "two"]) < 0.1
    assert found["trishula_link_events_total", "up", "two"] == 1
    assert found["trishula_link_events_total", "refused", "a stranger"] == 30


def test_a_peer_that_was_never_in_step_lags_since_the_start(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {"one": MemoryStore("e-1", "one"), "two": MemoryStore("e-2", "two")})
    nodes.lose_journals()
    nodes.advance(90.0)
    found = scraped(nodes.rigs["one"])
    assert found["trishula_peer_up", "two"] == 1
    assert found["trishula_peer_lag_records", "two"] > 0
    # What TrishulaReplicationLag looks at.
    assert found["trishula_peer_lag_seconds", "two"] == pytest.approx(90.0, abs=1.0)


# -- the form ----------------------------------------------------------------------------------------------------------


def test_each_family_keeps_the_names_that_prometheus_asks_for() -> None:
    for name, family in FAMILIES.items():
        assert name.startswith("trishula_")
        assert (family.kind == "counter") == name.endswith("_total"), name
        assert family.help.endswith(".")
        assert family.kind in ("gauge", "counter", "histogram")


def test_what_is_scraped_has_the_kind_and_the_help_of_its_family(rig: Rig) -> None:
    found = {family.name: family for family in text_string_to_metric_families(scraped(rig).text.decode())}
    for name, family in FAMILIES.items():
        told = found.get(name.removesuffix("_total"))
        if told is not None:
            assert (told.type, told.documentation) == (family.kind, family.help)
    # The registry is the node's own: nothing of the interpreter's.
    assert [name for name in found if not name.startswith(("trishula_", "process_"))] == []


@needs_promtool
def test_promtool_finds_nothing_to_say(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m-1", "to": "agni", "payload": 1}, {"id": "m-2", "to": "nobody", "payload": 1})
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=scraped(rig).text, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
