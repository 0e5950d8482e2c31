"""The policy of rejoining: order of the nodes, pauses, and when it is over."""

from __future__ import annotations

from trishula.errors import BusUnreachable, TokenInvalid
from trishula.rejoin import Rejoin

UNREACHABLE = BusUnreachable("refused")
WRONG = TokenInvalid("wrong")


def policy(*urls: str) -> Rejoin:
    return Rejoin(urls, random=lambda: 0.5)


def test_each_round_tries_every_node_without_a_pause_between_them() -> None:
    rejoin = policy("a", "b", "c")
    tried = []
    for _ in range(6):
        tried.append(rejoin.attempt())
        assert rejoin.failed(UNREACHABLE) is None
    assert [url for url, _ in tried] == ["a", "b", "c", "a", "b", "c"]
    assert [round(pause, 6) for _, pause in tried] == [0, 0, 0, 0.09, 0, 0]


def test_pauses_grow_from_a_tenth_of_a_second_to_five() -> None:
    rejoin = policy("a")
    pauses = []
    for _ in range(9):
        rejoin.failed(UNREACHABLE)
        pauses.append(rejoin.attempt()[1] / 0.9)
    assert [round(pause, 6) for pause in pauses] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_after_a_loss_the_others_are_tried_first() -> None:
    rejoin = policy("a", "b", "c")
    rejoin.failed(UNREACHABLE)
    assert rejoin.attempt()[0] == "b"
    rejoin.joined(100.0)
    rejoin.lost(200.0)
    tried = []
    for _ in range(4):
        tried.append(rejoin.attempt()[0])
        rejoin.failed(UNREACHABLE)
    assert tried == ["a", "c", "b", "a"]


def test_a_healthy_session_resets_the_pauses() -> None:
    rejoin = policy("a")
    for _ in range(6):
        rejoin.failed(UNREACHABLE)
    rejoin.joined(0.0)
    rejoin.lost(10.0)
    assert rejoin.attempt()[1] == 0.025
    rejoin.failed(UNREACHABLE)
    assert round(rejoin.attempt()[1], 6) == 0.09


def test_a_node_that_drops_us_at_once_is_not_tried_in_a_hot_loop() -> None:
    rejoin = policy("a")
    pauses = []
    for _ in range(8):
        rejoin.joined(0.0)
        rejoin.lost(9.9)
        pauses.append(rejoin.attempt()[1])
    assert pauses == sorted(pauses)
    assert pauses[0] > 0.05
    assert pauses[-1] == 4.5


def test_a_wrong_token_is_final() -> None:
    assert policy("a").failed(WRONG) is WRONG


def test_a_wrong_token_is_final_only_when_no_node_of_the_round_accepts_it() -> None:
    rejoin = policy("a", "b")
    assert rejoin.failed(WRONG) is None
    assert rejoin.failed(UNREACHABLE) is WRONG


def test_a_token_that_another_node_accepts_is_not_wrong() -> None:
    rejoin = policy("a", "b")
    assert rejoin.failed(WRONG) is None
    rejoin.joined(0.0)
    rejoin.lost(20.0)
    # b was lost, so a is first again.
    assert rejoin.failed(UNREACHABLE) is None
    assert rejoin.failed(UNREACHABLE) is None
