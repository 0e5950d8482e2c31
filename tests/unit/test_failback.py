"""The policy of going back to a better node: what is watched, for how long, and that it never flaps."""

from __future__ import annotations

from trishula.session.failback_policy import LONGEST_WAIT_S, STEADY_AFTER_S, Failback


def policy(after_s: float | None = 30.0) -> Failback:
    return Failback(("a", "b", "c"), after_s=after_s, random=lambda: 0.0)


def test_the_first_node_has_no_better_one() -> None:
    failback = policy()
    assert failback.attempt() is None
    failback.joined("a", 0.0)
    assert failback.attempt() is None


def test_the_better_ones_are_tried_in_their_order_and_then_again_after_growing_pauses() -> None:
    failback = policy()
    failback.joined("c", 0.0)
    tried = []
    for _ in range(10):
        tried.append(failback.attempt())
        failback.watch_failed()
    assert [url for url, _ in tried if url] == ["a", "b"] * 5  # type: ignore[misc]
    assert [pause for _, pause in tried[::2]] == [0.0, 1.0, 2.0, 4.0, 8.0]  # type: ignore[misc]
    for _ in range(20):
        failback.watch_failed()
    assert failback.attempt() == ("a", 15.0)


def test_an_operator_can_turn_it_off() -> None:
    failback = policy(None)
    failback.joined("c", 0.0)
    assert failback.attempt() is None


def test_after_a_move_only_what_is_better_still_is_watched() -> None:
    failback = policy()
    failback.joined("c", 0.0)
    failback.moved("b", 50.0)
    assert failback.attempt() == ("a", 0.0)
    failback.moved("a", 100.0)
    assert failback.attempt() is None


def test_each_move_that_was_for_nothing_doubles_the_wait() -> None:
    failback = policy()
    waits = []
    for _ in range(7):
        failback.joined("b", 0.0)
        waits.append(failback.watch_opened())
        failback.moved("a", 40.0)
        failback.lost(40.0 + STEADY_AFTER_S - 1)
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, LONGEST_WAIT_S, LONGEST_WAIT_S]
    failback.joined("b", 400.0)
    failback.moved("a", 1000.0)
    failback.lost(1000.0 + STEADY_AFTER_S)
    failback.joined("b", 2000.0)
    assert failback.watch_opened() == 30.0


def test_a_loss_of_the_worse_node_says_nothing_about_the_better_one() -> None:
    failback = policy()
    failback.joined("b", 0.0)
    failback.moved("a", 40.0)
    failback.lost(50.0)
    failback.joined("b", 60.0)
    failback.lost(2000.0)
    failback.joined("b", 2001.0)
    assert failback.watch_opened() == 60.0


def test_a_move_that_fails_doubles_the_wait_too() -> None:
    failback = policy()
    failback.joined("b", 0.0)
    failback.move_failed()
    assert failback.attempt() == ("a", 1.0)
    assert failback.watch_opened() == 60.0


def test_the_clients_of_one_node_don_t_go_back_in_one_instant() -> None:
    failback = Failback(("a", "b"), after_s=30.0, random=lambda: 0.5)
    failback.joined("b", 0.0)
    assert failback.watch_opened() == 33.0


def test_a_wait_longer_than_the_longest_is_what_the_operator_says() -> None:
    failback = policy(3600.0)
    failback.joined("b", 0.0)
    failback.move_failed()
    assert failback.watch_opened() == 3600.0
