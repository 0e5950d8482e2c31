"""What linked nodes share, as a decision: that alone may be dropped which all told of and this node caught up with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula_router.archiving.dropping import Sharing
from trishula_router.peers.belief import Belief, Hello
from trishula_router.peers.journal_exchange import HELLO
from trishula_router.peers.journal_policy import Replication
from trishula_router.store.bases import Shared
from trishula_router.store.first_use import MOST_FIRST_USE
from trishula_router.store.memory import MemoryStore
from trishula_router.store.runs import Origin


def replication(**peers: dict[str, int]) -> Replication:
    """What peers told that hold so much of each journal, are up, and know of uses."""
    made = Replication("here", peers)
    for name, held in peers.items():
        hear(made, name, held)
    return made


def hear(known: Replication, name: str, held: dict[str, int], epoch: str | None = None) -> None:
    known.heard(name, epoch or name, held, 0, 0.0)
    known.peers[name].first_use = 0


def origins(own: int, **others: int) -> list[Origin]:
    return [Origin(0, "", "here", own, own)] + [
        Origin(number, name, name, sequence, sequence) for number, (name, sequence) in enumerate(others.items(), 1)
    ]


def test_of_each_journal_that_counts_which_all_peers_hold() -> None:
    known = replication(a={"here": 7, "a": 9, "b": 4}, b={"here": 8, "a": 5, "b": 6})
    known.peers["a"].bare = {"here": 3, "b": 4}
    known.peers["b"].bare = {"here": 9, "a": 9, "b": 4}
    assert Sharing().look(known.peers, origins(8, a=9, b=6)) == Shared({0: 7, 1: 5, 2: 4}, {0: 3, 1: 0, 2: 4})


def test_nothing_counts_before_this_node_has_caught_up() -> None:
    """What the peer wrote before it knew of a message may be the same message: it would come back as a new one."""
    sharing = Sharing()
    known = replication(a={"here": 7, "a": 9})
    assert sharing.look(known.peers, origins(8, a=8)) is None
    # What is told meanwhile is to be caught up with later; traffic that never ends doesn't put it off.
    hear(known, "a", {"here": 8, "a": 12})
    assert sharing.look(known.peers, origins(8, a=8)) is None
    assert sharing.look(known.peers, origins(8, a=9)) == Shared({0: 7, 1: 9}, {0: 0, 1: 0})
    # What was shared is shared for good, while the next instant is waited for.
    assert sharing.look(known.peers, origins(8, a=11)) == Shared({0: 7, 1: 9}, {0: 0, 1: 0})
    assert sharing.look(known.peers, origins(8, a=12)) == Shared({0: 8, 1: 12}, {0: 0, 1: 0})


def test_a_journal_that_a_peer_alone_holds_is_to_be_caught_up_with_too() -> None:
    known = replication(a={"here": 7, "a": 9, "of-a-store-that-is-lost": 3})
    assert Sharing().look(known.peers, origins(8, a=9)) is None
    assert Sharing().look(known.peers, [*origins(8, a=9), Origin(2, "a", "of-a-store-that-is-lost", 3, 3)]) == Shared(
        {0: 7, 1: 9, 2: 3}, {0: 0, 1: 0, 2: 0}
    )


@pytest.mark.parametrize("what", ["away", "of a release that counts from 0", "silent since the start"])
def test_while_a_peer_is_not_there_or_can_not_be_told_nothing_is_dropped(what: str) -> None:
    known = replication(a={"here": 7, "a": 9}, b={"here": 7, "a": 9})
    if what == "away":
        known.lost("b")
    elif what == "silent since the start":
        known = Replication("here", ("a", "b"))
        hear(known, "a", {"here": 7, "a": 9})
    else:
        known.peers["b"].first_use = -1
    sharing = Sharing()
    assert sharing.look(known.peers, origins(8, a=9)) is None
    hear(known, "b", {"here": 6, "a": 9})
    assert sharing.look(known.peers, origins(8, a=9)) == Shared({0: 6, 1: 9}, {0: 0, 1: 0})


def test_a_peer_whose_store_is_another_one_is_asked_anew() -> None:
    sharing = Sharing()
    known = replication(a={"here": 7, "a": 9})
    assert sharing.look(known.peers, origins(8, a=9)) is not None
    hear(known, "a", {"a-new": 2}, "a-new")
    there = [*origins(8, a=9), Origin(2, "a", "a-new", 1, 0)]
    assert sharing.look(known.peers, there) is None
    there[-1] = Origin(2, "a", "a-new", 2, 0)
    assert sharing.look(known.peers, there) == Shared({0: 0, 1: 0, 2: 2}, {0: 0, 1: 0, 2: 0})


def test_with_no_peer_left_what_is_here_is_all_there_is() -> None:
    assert Sharing().look({}, origins(8, a=9)) == Shared({0: 8, 1: 9}, {0: 8, 1: 9})
    # And with one that was never there, nobody was told of anything.
    assert Sharing().look(Replication("here", ("a",)).peers, origins(8)) == Shared({0: 8}, {0: 8})


def test_a_hello_tells_it_and_an_older_one_does_not() -> None:
    store = MemoryStore("here", "here")
    known = Replication("here", ("a",))
    known.bare = {"here": 3}
    belief = Belief("here", store, known)
    result_of(store.raise_first_use(4))
    told = belief.with_store(Hello("here", "here", {"here": 9}))
    assert (told.base, told.first_use, told.bare) == (0, 4, {"here": 3})
    hello = Hello("a", "a", {"a": 9}, base=0, first_use=6, bare={"a": 2})
    assert belief.against_hello("a", hello) is None
    belief.heed("a", hello)
    assert (known.peers["a"].first_use, known.peers["a"].bare, store.first_use) == (6, {"a": 2}, 6)
    older = msgspec.msgpack.decode(msgspec.msgpack.encode({"node": "a", "epoch": "a", "held": {"a": 9}}), type=Hello)
    belief.heed("a", older)
    assert (known.peers["a"].first_use, store.first_use) == (-1, 6)
    for lie in ({"first_use": MOST_FIRST_USE + 1}, {"first_use": -2}, {"bare": {"a": -1}}, {"bare": {"e" * 65: 1}}):
        assert belief.against_hello("a", msgspec.structs.replace(hello, **lie)) is not None, lie


def test_linked_nodes_come_to_count_alike(tmp_path: Path) -> None:
    stores = {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")}
    nodes = Nodes(tmp_path, dict(stores))
    nodes.advance(1.0)
    result_of(stores["agni"].raise_first_use(3))
    nodes.lets_through = lambda sender, to, kind: kind != HELLO
    nodes.advance(1.0)
    assert stores["rushabdev"].first_use == 0
    nodes.lets_through = lambda sender, to, kind: True
    nodes.advance(1.0)
    assert stores["rushabdev"].first_use == 3
