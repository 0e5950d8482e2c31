"""The checker finds each way of breaking a promise, and nothing in a history that keeps them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from trishula_drill.checker import Final, Stored, Verdict, check
from trishula_drill.cluster_faults import BUSIEST, CLUSTER_DRILLS, LINK, NODES, cluster_schedule
from trishula_drill.fallback_faults import fallback_schedule
from trishula_drill.faults import Cast, Kind
from trishula_drill.figures import delays_ms, gaps_ms, longest_pause_ms
from trishula_drill.history import (
    Delivered,
    Ended,
    Event,
    FetchedEmpty,
    Handled,
    History,
    NodeKilled,
    Receipted,
    Refused,
    Sent,
    digest_of,
    read,
    read_all,
)

MS = 1_000_000


def sent(number: int, at_ms: int, *, to: tuple[str, ...] = ("agni",), run: str = "s1", priority: int = 3) -> Sent:
    return Sent(at_ms * MS, "dc", run, f"m{number}", to, number, priority, f"digest {number}")


def receipt(number: int, at_ms: int) -> Receipted:
    return Receipted(at_ms * MS, "dc", f"m{number}")


def handled(
    number: int, at_ms: int, *, who: str = "agni", run: str = "r1", digest: str | None = None, attempt: int = 1
) -> Handled:
    return Handled(at_ms * MS, who, run, "dc", f"m{number}", digest or f"digest {number}", attempt)


def killed(run: str, at_ms: int, *on_record: int) -> Ended:
    """An agent was killed, and its file had these messages as handled."""
    return Ended(at_ms * MS, run, True, frozenset(("dc", f"m{number}") for number in on_record))


def empty(began_ms: int, at_ms: int, high_water: int = 0) -> FetchedEmpty:
    return FetchedEmpty(began_ms * MS, at_ms * MS, "agni", "r1", "e", high_water)


def stored(number: int, *, recipient: str = "agni", settled: int | None = None) -> Stored:
    end = 100 + number if settled is None else settled
    return Stored("dc", f"m{number}", recipient, number, "done", f"digest {number}", ((end, "done"),))


def life(number: int, at_ms: int) -> list[Event]:
    """A message that keeps all promises: sent, receipted and handled within 3 ms."""
    return [sent(number, at_ms), receipt(number, at_ms + 1), handled(number, at_ms + 2)]


GOOD: list[Event] = [*life(1, 10), *life(2, 20), empty(30, 31, high_water=150), *life(3, 40)]
GOOD_END = [stored(1), stored(2), replace(stored(3), position=160, ends=((163, "done"),))]


def judge(events: Sequence[Event], messages: Sequence[Stored], damages: Sequence[str] = ()) -> Verdict:
    return check(events, Final(messages, damages, "e"))


def kinds(verdict: Verdict) -> list[str]:
    return [violation.kind for violation in verdict.violations]


def test_a_good_history_passes() -> None:
    verdict = judge(GOOD, GOOD_END)
    assert verdict.violations == ()
    assert (verdict.sent, verdict.receipts, verdict.effects, verdict.empties) == (3, 3, 3, 1)
    assert (verdict.lost, verdict.twice, verdict.excused, verdict.unpromised) == (0, 0, 0, 0)
    assert verdict.ends == {"done": 3}


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        (GOOD_END[:2], "is not in the store"),
        ([*GOOD_END[:2], replace(GOOD_END[2], digest=None)], "can't be read in the store"),
        ([*GOOD_END[:2], replace(GOOD_END[2], digest="other")], "is another one in the store"),
        ([*GOOD_END[:2], replace(GOOD_END[2], state="delivered", ends=())], "did not end: it is delivered"),
    ],
)
def test_a_lost_message_is_found(ends: list[Stored], sentence: str) -> None:
    verdict = judge(GOOD, ends)
    assert kinds(verdict) == ["lost"]
    assert verdict.violations[0].sentence == f"m3 from dc for agni has a receipt and {sentence}"
    assert (verdict.lost, verdict.twice) == (1, 0)


def test_done_without_an_effect_is_lost() -> None:
    verdict = judge([*life(1, 10), sent(2, 20), receipt(2, 21)], [stored(1), stored(2)])
    assert kinds(verdict) == ["lost"]
    assert "is done, and nobody handled it" in verdict.violations[0].sentence


def test_each_recipient_counts() -> None:
    events: list[Event] = [sent(1, 10, to=("agni", "rushabdev")), receipt(1, 11), handled(1, 12)]
    verdict = judge(events, [stored(1), stored(1, recipient="rushabdev")])
    assert kinds(verdict) == ["lost"]
    assert "m1 from dc for rushabdev" in verdict.violations[0].sentence


def test_without_a_receipt_nothing_was_promised() -> None:
    verdict = judge([sent(1, 10), sent(2, 20), Refused(21 * MS, "dc", "m2", "MailboxFull: it is")], [])
    assert verdict.violations == ()
    assert (verdict.unpromised, verdict.refused) == (1, {"MailboxFull": 1})


def test_dead_letters_are_no_loss_but_nothing_should_die() -> None:
    dead = replace(stored(1), state="dead", ends=((105, "dead"),))
    verdict = judge([sent(1, 10), receipt(1, 11)], [dead])
    assert kinds(verdict) == ["dead"]
    assert verdict.violations[0].sentence == "m1 from dc for agni was given up"
    assert verdict.lost == 0
    assert verdict.ends == {"dead": 1}


def test_a_changed_payload_is_found() -> None:
    verdict = judge([sent(1, 10), receipt(1, 11), handled(1, 12, digest="other")], [stored(1)])
    assert kinds(verdict) == ["changed"]
    assert verdict.lost == 1


@pytest.mark.parametrize(
    "event",
    [handled(1, 13, who="rushabdev", run="r2"), Delivered(13 * MS, "rushabdev", "r2", "dc", "m1", 1)],
)
def test_a_stranger_is_found(event: Event) -> None:
    verdict = judge([*life(1, 10), event], [stored(1)])
    assert kinds(verdict) == ["stranger"]
    assert verdict.violations[0].sentence == "rushabdev (run r2) got m1 from dc, which is for agni"


def test_what_nobody_sent_is_found() -> None:
    verdict = judge([handled(9, 10)], [])
    assert kinds(verdict) == ["stranger"]
    assert "which nobody sent" in verdict.violations[0].sentence


def test_a_second_effect_is_found() -> None:
    verdict = judge([*life(1, 10), handled(1, 15)], [stored(1)])
    assert kinds(verdict) == ["twice"]
    assert (verdict.lost, verdict.twice) == (0, 1)


@pytest.mark.parametrize("killed_ms", [13, 60_000], ids=["at once", "after a turn that took long"])
def test_a_second_effect_is_excused_if_the_first_was_not_on_record_at_a_kill(killed_ms: int) -> None:
    events: list[Event] = [*life(1, 10), *life(2, 10), killed("r1", killed_ms, 2)]
    verdict = judge([*events, handled(1, killed_ms + 500, run="r2", attempt=2)], [stored(1), stored(2)])
    assert verdict.violations == ()
    assert verdict.excused == 1


@pytest.mark.parametrize(
    "ended",
    [Ended(13 * MS, "r1", False), killed("r1", 13, 1), Ended(13 * MS, "r1", True), killed("r0", 13)],
    ids=["it ended in order", "the first run was on record", "it keeps no file", "another process"],
)
def test_other_ends_excuse_nothing(ended: Ended) -> None:
    verdict = judge([*life(1, 10), ended, handled(1, 14, run="r2", attempt=2)], [stored(1)])
    assert kinds(verdict) == ["twice"]
    assert verdict.excused == 0


def test_the_same_run_has_no_excuse() -> None:
    verdict = judge([*life(1, 10), handled(1, 13, attempt=2), killed("r1", 14)], [stored(1)])
    assert kinds(verdict) == ["twice"]


def test_each_repeat_needs_its_own_excuse() -> None:
    events: list[Event] = [*life(1, 10), killed("r1", 13), handled(1, 20, run="r2", attempt=2), killed("r2", 30, 1)]
    verdict = judge([*events, handled(1, 40, run="r3", attempt=3)], [stored(1)])
    assert kinds(verdict) == ["twice"]
    assert verdict.excused == 1
    assert verdict.violations[0].sentence.endswith("runs r2 and r3, 0.020 s apart, the first one on record")


@pytest.mark.parametrize(("killed_ms", "found"), [(9, ["unseen"]), (11, []), (21, ["unseen"])])
def test_a_handler_that_is_not_told_of_the_first_run_is_found(killed_ms: int, found: list[str]) -> None:
    node = NodeKilled(killed_ms * MS, "")
    verdict = judge([*life(1, 10), killed("r1", 13), node, handled(1, 20, run="r2", attempt=1)], [stored(1)])
    assert kinds(verdict) == found
    assert (verdict.twice, verdict.excused) == (0, 1)


def test_a_broken_order_is_found() -> None:
    events: list[Event] = [sent(1, 10), sent(2, 11), receipt(1, 12), receipt(2, 12), handled(2, 13), handled(1, 14)]
    verdict = judge(events, [stored(1), stored(2)])
    assert kinds(verdict) == ["order"]
    assert "m1 from dc (number 1 of its run) after number 2" in verdict.violations[0].sentence


@pytest.mark.parametrize(
    "first", [sent(1, 10, priority=5), sent(1, 10, run="s0")], ids=["another urgency", "another run"]
)
def test_no_order_is_promised_between(first: Sent) -> None:
    events: list[Event] = [first, sent(2, 11), receipt(1, 12), receipt(2, 12), handled(2, 13), handled(1, 14)]
    assert judge(events, [stored(1), stored(2)]).violations == ()


@pytest.mark.parametrize(("attempt", "found"), [(1, ["order"]), (2, [])])
def test_what_a_lost_fetch_held_may_come_late(attempt: int, found: list[str]) -> None:
    delivered = [Delivered(13 * MS, "agni", "r1", "dc", "m2", 1), Delivered(14 * MS, "agni", "r1", "dc", "m1", attempt)]
    events: list[Event] = [sent(1, 10), sent(2, 11), receipt(1, 12), receipt(2, 12), *delivered]
    events += [handled(2, 13), handled(1, 14)]
    assert kinds(judge(events, [stored(1), stored(2)])) == found


def test_an_empty_inbox_that_was_not_is_found() -> None:
    events: list[Event] = [*life(1, 10), sent(2, 20), receipt(2, 21), empty(22, 23), handled(2, 30)]
    verdict = judge(events, [stored(1), stored(2)])
    assert kinds(verdict) == ["false empty"]
    assert "while m2 from dc was there" in verdict.violations[0].sentence


@pytest.mark.parametrize(("began_ms", "at_ms"), [(20, 30), (22, 31)], ids=["before the receipt", "after the effect"])
def test_an_empty_inbox_that_may_have_been_is_none(began_ms: int, at_ms: int) -> None:
    events: list[Event] = [sent(2, 20), receipt(2, 21), handled(2, 30), empty(began_ms, at_ms)]
    assert judge(events, [stored(2)]).violations == ()


@pytest.mark.parametrize(
    ("high_water", "found"), [(1, []), (2, ["false empty"]), (101, ["false empty"]), (102, []), (200, [])]
)
def test_an_empty_inbox_holds_up_to_its_high_water(high_water: int, found: list[str]) -> None:
    # Accepted at 2, settled at 102; the fetch itself began before the receipt.
    events: list[Event] = [sent(2, 20), empty(20, 21, high_water), receipt(2, 22), handled(2, 30)]
    assert kinds(judge(events, [stored(2)])) == found


def test_positions_of_another_epoch_mean_nothing() -> None:
    events: list[Event] = [sent(2, 20), empty(20, 21, 50), receipt(2, 22), handled(2, 30)]
    assert check(events, Final([stored(2)], epoch="other")).violations == ()


@pytest.mark.parametrize(
    ("state", "ends", "sentence"),
    [
        ("cancelled", ((101, "done"), (102, "cancelled")), "several final states on record: done, cancelled"),
        ("dead", ((101, "expired"), (102, "dead")), "several final states on record: expired, dead"),
        ("dead", ((101, "expired"),), "is dead, and the journal says expired"),
        ("done", (), "is done, and the journal has no record of that"),
    ],
)
def test_two_ends_are_found(state: str, ends: tuple[tuple[int, str], ...], sentence: str) -> None:
    verdict = judge(life(1, 10), [replace(stored(1), state=state, ends=ends)])
    assert kinds(verdict) == ["two ends", "dead"][: 2 if state == "dead" else 1]
    assert sentence in verdict.violations[0].sentence


def test_done_may_follow_another_end() -> None:
    ends = ((101, "dead"), (102, "done"), (103, "done"))
    assert judge(life(1, 10), [replace(stored(1), ends=ends)]).violations == ()


@pytest.mark.parametrize(("ttl_ms", "found"), [(5_000, []), (11_000, ["early"])], ids=["in time", "early"])
def test_an_early_expiry_is_found(ttl_ms: int, found: list[str]) -> None:
    message = msgspec.structs.replace(sent(1, 10), ttl_ms=ttl_ms)
    expired = replace(stored(1), state="expired", ends=((105, "expired"),))
    verdict = judge([message, receipt(1, 11), Ended(10_010 * MS, "s1", False)], [expired])
    assert kinds(verdict) == found


def test_a_broken_journal_is_found() -> None:
    verdict = judge(GOOD, GOOD_END, ["record 7 (done) doesn't match its digest"])
    assert kinds(verdict) == ["journal"]


# -- the files of a history --------------------------------------------------------------------------------------------


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    first, second = History(tmp_path / "first"), History(tmp_path / "second")
    first.tell(GOOD[0], GOOD[3])
    second.commit(GOOD[1])
    first.close()
    second.close()
    assert read_all([tmp_path / "first", tmp_path / "second"]) == [GOOD[0], GOOD[1], GOOD[3]]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history"
    history = History(file)
    history.tell(*GOOD)
    history.close()
    file.write_bytes(file.read_bytes()[:-5])
    assert list(read(file)) == GOOD[:-1]


def test_another_torn_line_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "history"
    file.write_bytes(b'{"type": "sent"\n{}\n')
    with pytest.raises(ValueError, match="line 1 is no event"):
        list(read(file))


def test_the_digest_knows_payloads_apart() -> None:
    assert digest_of({"a": 1, "b": [None]}) == digest_of({"b": [None], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


# -- linked nodes ------------------------------------------------------------------------------------------------------

ELSEWHERE = 1 << 48


def judge_two(events: Sequence[Event], first: Sequence[Stored], second: Sequence[Stored]) -> Verdict:
    return check(events, Final(first, (), "e", "primary"), Final(second, (), "f", "failover"))


def at_other(one: Stored) -> Stored:
    """The same message in the store of the other node, which copied it."""
    ends = tuple((position + ELSEWHERE, word) for position, word in one.ends)
    return replace(one, position=one.position + ELSEWHERE, ends=ends)


def receipt_of(number: int, at_ms: int, node: str, copies: int) -> Receipted:
    return Receipted(at_ms * MS, "dc", f"m{number}", node, copies)


def test_two_nodes_that_hold_the_same_pass() -> None:
    verdict = judge_two(GOOD, GOOD_END, [at_other(one) for one in GOOD_END])
    assert verdict.violations == ()
    assert verdict.ends == {"done": 3}


def test_each_node_must_hold_what_has_a_receipt() -> None:
    verdict = judge_two(GOOD, GOOD_END, [at_other(one) for one in GOOD_END[:2]])
    assert kinds(verdict) == ["lost", "apart"]
    assert verdict.violations[0].sentence == "m3 from dc for agni has a receipt and is not in the store at failover"
    assert verdict.violations[1].sentence == "m3 from dc for agni is done at primary and not there at failover"
    assert verdict.lost == 1


def test_nodes_must_agree_on_the_end() -> None:
    other = replace(at_other(GOOD_END[2]), state="expired", ends=((7, "expired"),))
    verdict = judge_two(GOOD, GOOD_END, [*(at_other(one) for one in GOOD_END[:2]), other])
    assert kinds(verdict) == ["early", "apart"]


def test_of_the_ends_that_nodes_wrote_done_counts() -> None:
    ends = ((103, "done"), (ELSEWHERE + 9, "expired"))
    both = replace(stored(1), ends=ends)
    assert judge_two(life(1, 10), [both], [both]).violations == ()
    wrong = replace(both, state="expired")
    # A second is nothing of its time to live.
    assert set(kinds(judge_two(life(1, 10), [wrong], [wrong]))) == {"two ends", "early"}


def test_order_is_not_promised_of_what_one_node_had_alone_when_its_sender_moved() -> None:
    events: list[Event] = [sent(1, 10), sent(2, 11), receipt_of(1, 12, "primary", 1), receipt_of(2, 13, "failover", 2)]
    late: list[Event] = [handled(2, 20), handled(1, 30)]
    ends = [stored(1), stored(2)]
    assert judge_two([*events, *late], ends, ends).violations == ()
    held: list[Event] = [*events[:2], receipt_of(1, 12, "primary", 2), events[3]]
    assert kinds(judge_two([*held, *late], ends, ends)) == ["order"]
    stayed: list[Event] = [*events[:2], receipt_of(1, 12, "primary", 1), receipt_of(2, 13, "primary", 1)]
    assert kinds(judge_two([*stayed, *late], ends, ends)) == ["order"]


@pytest.mark.parametrize(
    ("node", "copies", "found"),
    [("failover", 1, []), ("primary", 1, ["false empty"]), ("failover", 2, ["false empty"])],
)
def test_a_node_speaks_of_the_messages_that_it_has(node: str, copies: int, found: list[str]) -> None:
    events: list[Event] = [sent(1, 10), receipt_of(1, 11, node, copies), empty(20, 21), handled(1, 30)]
    ends = [replace(stored(1), position=500, ends=((501, "done"),))]
    assert kinds(judge_two(events, ends, [at_other(ends[0])])) == found


def test_gaps_are_from_a_kill_to_the_first_receipt_of_another_node() -> None:
    events: list[Event] = [
        receipt_of(1, 10, "primary", 2),
        NodeKilled(20 * MS, "primary"),
        receipt_of(2, 21, "primary", 2),
        receipt_of(3, 170, "failover", 1),
        receipt_of(4, 180, "failover", 1),
        NodeKilled(200 * MS, "primary"),
        receipt_of(5, 210, "failover", 1),
    ]
    assert gaps_ms(events) == [150.0]


def test_delays_are_the_longest_of_all_messages() -> None:
    events: list[Event] = [sent(1, 10), receipt(1, 15), handled(1, 18), sent(2, 20), receipt(2, 60), handled(2, 50)]
    assert delays_ms(events) == (40.0, 30.0)


def test_a_pause_counts_from_the_last_receipt_before_it() -> None:
    events = [receipt(number, at_ms) for number, at_ms in enumerate((10, 20, 130, 140, 900))]
    assert longest_pause_ms(events, "dc", 25 * MS, 135 * MS) == 110.0
    assert longest_pause_ms(events, "dc", 800 * MS, 850 * MS) == 760.0
    assert longest_pause_ms(events, "dc", 950 * MS, 960 * MS) == math.inf


@pytest.mark.parametrize("drill", CLUSTER_DRILLS)
def test_a_seed_strikes_linked_nodes_in_the_same_way_again(drill: str) -> None:
    rounds = [cluster_schedule(drill, number, 7) for number in range(50)]
    assert rounds == [cluster_schedule(drill, number, 7) for number in range(50)]
    assert rounds != [cluster_schedule(drill, number, 8) for number in range(50)]
    for faults in rounds:
        assert faults
        assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
        assert {fault.target for fault in faults} <= {*NODES, LINK, BUSIEST}
        assert all(fault.for_s >= 0 for fault in faults)


TEAM = Cast(("one", "two"), ("three",))


def test_a_seed_strikes_agents_with_folders_in_the_same_way_again() -> None:
    rounds = [fallback_schedule(number, 7, TEAM) for number in range(50)]
    assert rounds == [fallback_schedule(number, 7, TEAM) for number in range(50)]
    assert rounds != [fallback_schedule(number, 8, TEAM) for number in range(50)]
    struck = {fault.kind for faults in rounds for fault in faults}
    assert struck == {Kind.KILL_NODE, Kind.FREEZE_NODE, Kind.KILL_CLIENT}
    for faults in rounds:
        assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
        # What strikes a client strikes it while the node is away, or alone.
        assert len(faults) == 1 or faults[1].at_s <= faults[0].at_s + faults[0].for_s


def test_after_a_cold_start_both_nodes_were_down() -> None:
    for number in range(50):
        one, other = cluster_schedule("cold-start", number, 3)
        assert {one.target, other.target} == set(NODES)
        assert max(one.at_s, other.at_s) < min(one.at_s + one.for_s, other.at_s + other.for_s)


def test_a_rolling_restart_takes_one_node_after_the_other() -> None:
    targets = [cluster_schedule("rolling-restart", number, 3)[0].target for number in range(4)]
    assert targets == [*NODES, *NODES]
