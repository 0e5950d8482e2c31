"""The traffic out of the journals' records: pairs and their rates, latencies, and what happens when it is too much."""

from __future__ import annotations

from typing import Any

from trishula.watching.flow import WINDOW_MS, Flow, Pair
from trishula.watching.journals import MOST_RECORDS, Journals
from trishula.watching.quantiles import quantile

NOW = 1_800_000_000_000


def accepted(seq: int, at: int, sender: str = "dc", to: str = "agni", **more: Any) -> dict[str, Any]:
    return {"seq": seq, "at": at, "kind": "accepted", "from": sender, "to": to, **more}


def done(seq: int, at: int, *positions: int) -> dict[str, Any]:
    return {"seq": seq, "at": at, "kind": "done", "messages": list(positions)}


def test_nothing_is_known_of_nothing() -> None:
    flow = Flow()
    assert flow.pairs(NOW) == []
    assert (flow.latency(NOW).messages, flow.latency(NOW).p50_ms, flow.latency(NOW).p99_ms) == (0, None, None)
    flow.add([], NOW)
    assert flow.pairs(NOW) == [] and flow.passed_over == 0


def test_pairs_are_agents_and_the_busiest_just_now_is_first() -> None:
    flow = Flow()
    old = [accepted(seq, NOW - 30_000, "dc/7f3a", "agni") for seq in range(1, 101)]
    new = [accepted(seq, NOW - 5000, "agni", "capability:fly") for seq in range(101, 111)]
    flow.add([*old, *new], NOW, is_whole=True)
    busiest, other = flow.pairs(NOW)
    assert (busiest.sender, busiest.recipient, busiest.lately_per_s) == ("agni", "capability:fly", 1.0)
    assert other == Pair("dc", "agni", 0.0, 100 / 60)
    assert flow.pairs(NOW + WINDOW_MS) == []


def test_latency_is_from_accepted_to_done_of_own_messages_that_were_done_lately() -> None:
    flow = Flow()
    flow.add([accepted(seq, NOW - 1000) for seq in range(1, 101)], NOW)
    # Several in one record; and what was accepted before anybody read is not measured.
    flow.add([done(201, NOW - 990, *range(1, 99), 999), done(202, NOW, 99, 100)], NOW, passed_over=0)
    latency = flow.latency(NOW)
    assert (latency.messages, latency.p50_ms, latency.p99_ms) == (100, 10, 1000)
    flow.add([accepted(1, NOW)], NOW, node="rushabdev")
    flow.add([done(2, NOW, 1)], NOW, node="rushabdev", passed_over=0)
    assert flow.latency(NOW).messages == 100
    assert flow.latency(NOW + WINDOW_MS + 1).messages == 0


def test_a_message_is_done_once_and_not_before_it_was_accepted() -> None:
    flow = Flow()
    flow.add([accepted(1, NOW), done(2, NOW - 5, 1), done(3, NOW, 1)], NOW)
    assert (flow.latency(NOW).messages, flow.latency(NOW).p50_ms) == (1, 0)


def test_rates_stay_right_where_records_were_passed_over() -> None:
    flow = Flow()
    # 1000 messages a second, of which each second the last 200 ms were read.
    for second in range(10):
        end = NOW + second * 1000
        records = [accepted(seq, end - 200 + seq) for seq in range(200)]
        flow.add(records, end, passed_over=None if second == 0 else 800)
    assert flow.passed_over == 9 * 800
    (pair,) = flow.pairs(NOW + 9000)
    assert 950 <= pair.lately_per_s <= 1050
    assert 950 <= pair.per_s <= 1050


def test_a_first_look_counts_from_its_first_record_on() -> None:
    flow = Flow()
    flow.add([accepted(seq, NOW - 2000 + seq * 10) for seq in range(200)], NOW)
    (pair,) = flow.pairs(NOW)
    assert 95 <= pair.lately_per_s <= 105


def test_instants_of_another_node_are_by_the_clock_of_the_one_that_is_asked() -> None:
    flow = Flow()
    ahead = [accepted(seq, NOW + 3_600_000, clock_ahead_ms=3_600_000) for seq in range(10)]
    flow.add(ahead, NOW, node="rushabdev", is_whole=True)
    assert flow.pairs(NOW)[0].lately_per_s == 1.0


def test_quantiles() -> None:
    assert quantile([], 0.5) is None
    assert quantile([7], 0.99) == 7
    assert quantile(list(range(100)), 0.99) == 98


# -- reading on --------------------------------------------------------------------------------------------------------


class Node:
    """Answers as a node does, and counts how often it is asked."""

    def __init__(self) -> None:
        self.journals: dict[str | None, list[dict[str, Any]]] = {None: []}
        self.epoch = "e1"
        self.asked = 0

    def write(self, count: int, at: int, node: str | None = None) -> None:
        journal = self.journals.setdefault(node, [])
        journal += [accepted(len(journal) + number, at) for number in range(1, count + 1)]

    @property
    def status(self) -> dict[str, Any]:
        peers = [{"node": node, "copied": len(told)} for node, told in self.journals.items() if node is not None]
        return {"node": "agni", "epoch": self.epoch, "high_water": len(self.journals[None]), "peers": peers}

    def ask(self, options: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        journal, after = self.journals[options.get("node")], options["after"]
        records = journal[after : after + options["limit"]]
        end = after + len(records)
        return {"records": records, "more": end < len(journal), "after": end}


def test_a_look_reads_what_is_new_and_says_what_it_passed_over() -> None:
    node, journals = Node(), Journals()
    node.write(10_000, NOW)
    node.write(50, NOW, "rushabdev")
    journals.read_on(node.ask, node.status, lambda: 100.0)
    assert (node.asked, journals.flow.passed_over) == (MOST_RECORDS // 1000 + 1, 0)
    assert journals.now(101.0) == NOW + 1000
    node.asked = 0
    journals.read_on(node.ask, node.status, lambda: 101.0)
    # A question to each, whose answer is empty.
    assert (node.asked, journals.flow.passed_over) == (2, 0)
    node.write(MOST_RECORDS + 7, NOW + 1000)
    journals.read_on(node.ask, node.status, lambda: 101.0)
    assert journals.flow.passed_over == 7


def test_a_look_ends_though_the_node_writes_faster_than_it_reads() -> None:
    node, journals = Node(), Journals()
    node.write(5000, NOW)

    def ask(options: dict[str, Any]) -> dict[str, Any]:
        node.write(2000, NOW)
        return node.ask(options)

    journals.read_on(ask, node.status, lambda: 0.0)
    assert node.asked == MOST_RECORDS // 1000


def test_another_node_or_another_store_begins_anew() -> None:
    node, journals = Node(), Journals()
    node.write(10, NOW)
    journals.read_on(node.ask, node.status, lambda: 0.0)
    assert len(journals.flow.pairs(NOW)) == 1
    node.journals, node.epoch = {None: []}, "e2"
    journals.read_on(node.ask, node.status, lambda: 0.0)
    assert (journals.flow.pairs(NOW), journals.now(5.0)) == ([], 0)


def test_the_nodes_clock_is_followed_when_it_is_set_back() -> None:
    node, journals = Node(), Journals()
    node.write(1, NOW)
    journals.read_on(node.ask, node.status, lambda: 0.0)
    node.write(1, NOW - 500)
    journals.read_on(node.ask, node.status, lambda: 0.0)
    # An older record says nothing of the time.
    assert journals.now(0.0) == NOW
    node.journals[None].append({"seq": 3, "at": NOW - 60_000, "kind": "clock_set", "by_ms": -60_000})
    journals.read_on(node.ask, node.status, lambda: 0.0)
    assert journals.now(0.0) == NOW - 60_000
