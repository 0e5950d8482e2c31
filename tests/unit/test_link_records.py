"""What becomes of links is on record; who is refused again and again doesn't fill the journal."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from trishula_router.peers.link_records import LinkRecords
from trishula_router.store.facts import LinkFacts
from trishula_router.store.journal import Kind


class Desk:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.written: list[dict[str, Any]] = []
        self.records = LinkRecords(self._note, lambda: self.now_s)

    def _note(self, kind: Kind, facts: LinkFacts) -> None:
        assert kind is Kind.LINK
        self.written.append(to_builtins(facts))


def test_each_event_is_one_record() -> None:
    desk = Desk()
    desk.records.proven("agni", "so did this node")
    desk.records.up("agni", "this node made it")
    desk.records.replaced("agni", "it was silent")
    desk.records.refused("agni", "no")
    desk.records.down("agni", "it broke")
    assert [(one["peer"], one["event"], one["detail"]) for one in desk.written] == [
        ("agni", "proven", "so did this node"),
        ("agni", "up", "this node made it"),
        ("agni", "replaced", "it was silent"),
        ("agni", "refused", "no"),
        ("agni", "down", "it broke"),
    ]


def test_refusals_beyond_a_few_are_counted_by_peer_and_the_latest_is_told() -> None:
    desk = Desk()
    for number in range(1000):
        desk.records.refused(None, f"no {number}")
    assert [one["detail"] for one in desk.written] == [f"no {number}" for number in range(10)]
    desk.records.refused("agni", "its own count")
    assert desk.written[-1] == {"peer": "agni", "event": "refused", "detail": "its own count"}
    desk.now_s = 5.0
    desk.records.flush()
    assert len(desk.written) == 11
    desk.now_s = 11.0
    desk.records.flush()
    assert desk.written[-1] == {"peer": "a stranger", "event": "refused", "detail": "no 999", "more": 989}
    desk.records.flush()
    assert len(desk.written) == 12


def test_who_comes_and_goes_fills_no_journal_either() -> None:
    desk = Desk()
    for _ in range(100):
        desk.records.proven("agni", "so did this node")
        desk.records.up("agni", "the peer made it")
        desk.records.down("agni", "it ended")
    assert len(desk.written) == 30
    desk.records.up("laptop", "the peer made it")
    assert len(desk.written) == 31


def test_a_long_reason_is_cut() -> None:
    desk = Desk()
    desk.records.refused("agni", "x" * 10_000)
    assert len(desk.written[0]["detail"]) == 500


def test_the_standing_of_a_link_follows_and_an_attempt_that_failed_is_no_record() -> None:
    desk = Desk()
    desk.records.made_here("agni")
    for _ in range(20):
        desk.records.troubled("agni", "nobody listens")
    told = desk.records.told("agni")
    assert (told["made_by"], told["trouble"], told["troubles"]) == ("this node", "nobody listens", 20)
    assert desk.written == []
    desk.records.up("agni", "this node made it")
    assert desk.records.told("agni")["up"]
    desk.records.down("agni", "it broke")
    assert (desk.records.told("agni")["up"], desk.records.told("agni")["trouble"]) == (False, "it broke")
    for _ in range(20):
        desk.records.refused("agni", "no")
    assert desk.records.told("agni")["troubles"] == 21
