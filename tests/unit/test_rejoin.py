"""The policy of rejoining: order of the nodes, pauses, and when it is over."""

from __future__ import annotations

from trishula.errors import BusUnreachable, NodeBusy, TokenInvalid, TrishulaError
from trishula.session.reconnect_policy import HEAD_START_S, Rejoin

UNREACHABLE = BusUnreachable("refused")
WRONG = TokenInvalid("wrong")


def policy(*urls: str) -> Rejoin:
    return Rejoin(urls, random=lambda: 0.5)


def begin(rejoin: Rejoin) -> tuple[str, float]:
    """The next attempt begins."""
    step = rejoin.attempt()
    assert step is not None
    rejoin.begun(step[0])
    return step[0], round(step[1], 6)


def fail(rejoin: Rejoin, error: TrishulaError = UNREACHABLE) -> tuple[str, float]:
    """The next attempt begins, and fails at once."""
    url, pause_s = begin(rejoin)
    assert rejoin.failed(url, error) is None
    return url, pause_s


def join(rejoin: Rejoin, url: str, now_s: float) -> None:
    while begin(rejoin)[0] != url:
        pass
    rejoin.joined(url, now_s)


def test_each_round_tries_every_node_without_a_pause_between_those_that_fail() -> None:
    rejoin = policy("a", "b", "c")
    tried = [fail(rejoin) for _ in range(6)]
    assert tried == [("a", 0), ("b", 0), ("c", 0), ("a", 0.09), ("b", 0), ("c", 0)]


def test_a_node_that_does_not_answer_has_a_head_start_and_no_more() -> None:
    rejoin = policy("a", "b", "c")
    assert [begin(rejoin) for _ in range(3)] == [("a", 0), ("b", HEAD_START_S), ("c", HEAD_START_S)]
    assert rejoin.attempt() is None


def test_a_failure_lets_the_next_one_begin_at_once() -> None:
    rejoin = policy("a", "b", "c")
    begin(rejoin)
    begin(rejoin)
    rejoin.failed("a", UNREACHABLE)
    assert rejoin.attempt() == ("c", 0.0)


def test_a_node_whose_attempt_is_open_sits_the_next_rounds_out() -> None:
    rejoin = policy("silent", "b")
    begin(rejoin)
    assert [fail(rejoin) for _ in range(3)] == [("b", HEAD_START_S), ("b", 0.09), ("b", 0.18)]
    # Its own failure doesn't change when the next attempt is due.
    rejoin.failed("silent", UNREACHABLE)
    assert [fail(rejoin), begin(rejoin), begin(rejoin)] == [("b", 0.36), ("silent", 0.72), ("b", HEAD_START_S)]


def test_pauses_grow_from_a_tenth_of_a_second_to_five() -> None:
    rejoin = policy("a")
    fail(rejoin)
    pauses = [round(fail(rejoin)[1] / 0.9, 6) for _ in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_after_a_loss_the_others_are_tried_first() -> None:
    rejoin = policy("a", "b", "c")
    join(rejoin, "b", 100.0)
    rejoin.lost(200.0)
    assert [fail(rejoin)[0] for _ in range(4)] == ["a", "c", "b", "a"]


def test_a_healthy_session_resets_the_pauses() -> None:
    rejoin = policy("a")
    for _ in range(6):
        fail(rejoin)
    join(rejoin, "a", 0.0)
    rejoin.lost(10.0)
    assert fail(rejoin) == ("a", 0.025)
    assert fail(rejoin) == ("a", 0.09)


def test_a_node_that_drops_us_at_once_is_not_tried_in_a_hot_loop() -> None:
    rejoin = policy("a")
    pauses = []
    for _ in range(8):
        join(rejoin, "a", 0.0)
        rejoin.lost(9.9)
        pauses.append(rejoin.pause_s)
    assert pauses == sorted(pauses)
    assert pauses[0] > 0.05
    assert pauses[-1] == 4.5


def test_a_wrong_token_is_final() -> None:
    rejoin = policy("a")
    begin(rejoin)
    assert rejoin.failed("a", WRONG) is WRONG


def test_a_wrong_token_is_final_only_when_no_node_of_the_round_accepts_it() -> None:
    rejoin = policy("a", "b")
    fail(rejoin, WRONG)
    begin(rejoin)
    assert rejoin.failed("b", UNREACHABLE) is WRONG


def test_a_node_that_refused_the_token_is_not_asked_again_while_another_is_open() -> None:
    rejoin = policy("silent", "b")
    begin(rejoin)
    fail(rejoin, WRONG)
    assert rejoin.attempt() is None
    assert rejoin.failed("silent", UNREACHABLE) is WRONG


def test_a_token_that_some_node_has_accepted_is_wrong_only_if_all_refuse_it() -> None:
    rejoin = policy("a", "b")
    join(rejoin, "a", 0.0)
    rejoin.lost(20.0)
    # The list of b is behind, and a is away.
    assert [fail(rejoin, WRONG)[0], fail(rejoin)[0]] == ["b", "a"]
    assert [fail(rejoin, WRONG)[0], fail(rejoin)[0]] == ["a", "b"]
    assert fail(rejoin, WRONG)[0] == "a"
    begin(rejoin)
    assert rejoin.failed("b", WRONG) is WRONG


def test_a_token_that_another_node_accepts_is_not_wrong() -> None:
    rejoin = policy("a", "b")
    fail(rejoin, WRONG)
    join(rejoin, "b", 0.0)
    rejoin.lost(20.0)
    # b was lost, so a is first again.
    assert [fail(rejoin)[0], fail(rejoin)[0]] == ["a", "b"]


def test_a_takeover_is_doubted_once_and_soon_after_a_move_to_another_node() -> None:
    rejoin = policy("a", "b")
    join(rejoin, "a", 0.0)
    assert not rejoin.doubts_takeover(1.0)
    rejoin.lost(100.0)
    join(rejoin, "b", 100.0)
    assert rejoin.doubts_takeover(101.0)
    rejoin.lost(101.0)
    join(rejoin, "b", 101.0)
    assert not rejoin.doubts_takeover(102.0)
    rejoin.lost(200.0)
    join(rejoin, "a", 200.0)
    assert not rejoin.doubts_takeover(231.0)


def test_what_has_begun_out_of_turn_is_not_begun_again() -> None:
    rejoin = policy("a", "b", "c")
    join(rejoin, "c", 0.0)
    rejoin.lost(20.0)
    rejoin.begun("b")
    assert [begin(rejoin)[0], begin(rejoin)[0], rejoin.attempt()] == ["a", "c", None]


# -- busy nodes --------------------------------------------------------------------------------------------------------


def busy(retry_after_s: float | None) -> NodeBusy:
    return NodeBusy("many join", retry_after_s=retry_after_s)


def test_a_busy_node_is_tried_again_when_it_says_and_a_little_later() -> None:
    rejoin = policy("a")
    assert [fail(rejoin, busy(2.0)) for _ in range(3)] == [("a", 0), ("a", 2.25), ("a", 2.25)]


def test_that_a_node_was_busy_is_no_failure() -> None:
    rejoin = policy("a")
    fail(rejoin)
    assert fail(rejoin, busy(2.0)) == ("a", 0.09)
    assert fail(rejoin) == ("a", 2.25)
    assert begin(rejoin) == ("a", 0.18)


def test_while_one_node_is_busy_the_others_are_tried_at_once() -> None:
    rejoin = policy("a", "b")
    assert [fail(rejoin, busy(3.0)), fail(rejoin, busy(2.0))] == [("a", 0), ("b", 0)]
    assert begin(rejoin) == ("a", 2.25)


def test_no_node_keeps_us_waiting_without_end() -> None:
    rejoin = policy("a")
    fail(rejoin, busy(86_400.0))
    assert begin(rejoin) == ("a", 67.5)


def test_a_busy_node_that_does_not_say_when_is_tried_as_any() -> None:
    rejoin = policy("a")
    fail(rejoin, busy(None))
    assert begin(rejoin) == ("a", 0.09)
