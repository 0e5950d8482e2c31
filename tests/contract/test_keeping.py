"""Who hands out a message to a capability: every promise of ``hand_over``, and what copies make of it, on each store.

``here`` is the store under test; the others play the peers' stores. That all agree on the keeper, whatever came in
which order, is in ``test_convergence.py``.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.support.stores import ReactorQueue, open_sqlite
from tests.support.subjects import (
    FAR,
    InSqlite,
    Peer,
    Subject,
    append,
    copy,
    draft,
    head,
    is_sound,
    kinds,
    one,
    run,
    told,
)
from trishula_router.store.messages import MailboxSize, OpenSize, State, StoredMessage
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.files import back_up, restore, verify_file

DEPLOY = "capability:deploy"


def hand(subject: Subject, keeper: str, *positions: int, at: int = 200) -> list[StoredMessage]:
    return subject.do(lambda store: store.hand_over(positions, keeper, at))


def at(subject: Subject, message_id: str = "m1") -> StoredMessage:
    (message,) = subject.do(lambda store: store.with_ids([message_id]))
    return message


def kept(subject: Subject, message_id: str = "m1") -> tuple[str | None, int]:
    message = at(subject, message_id)
    return message.keeper, message.hop


def own_ids(subject: Subject) -> list[str]:
    """What the store's node hands out."""
    return [message.id for message in head(subject, DEPLOY)]


def give(source: Subject, target: Peer, after: int = 0, *, number: int = 0, node: str = "here") -> None:
    """The other way round: a peer copies."""
    target.do(lambda store: store.copy(node, run(source, after, number=number)))


# -- handing over ------------------------------------------------------------------------------------------------------


def test_who_accepted_it_keeps_it(here: Subject, agni: Peer) -> None:
    one(here, "m1", DEPLOY)
    give(here, agni)
    assert (at(here).is_kept_here, own_ids(here)) == (True, ["m1"])
    assert (at(agni).is_kept_here, own_ids(agni)) == (False, [])


def test_what_was_handed_over_is_handed_out_no_more(here: Subject) -> None:
    position = one(here, "m1", DEPLOY)
    append(here, draft("m2", DEPLOY, body=b'{"a":1}'), at=150)
    (answer,) = hand(here, "agni", position)
    assert (answer.keeper, answer.hop, answer.is_kept_here, answer.state) == ("agni", 1, False, State.OPEN)
    assert at(here) == answer
    assert own_ids(here) == ["m2"]
    assert here.do(lambda store: store.oldest([DEPLOY])) == {DEPLOY: 150}
    sizes = here.do(lambda store: store.open_mailboxes())
    assert sizes == {DEPLOY: MailboxSize({"dc": OpenSize(1, 7)}), f"{DEPLOY}@agni": MailboxSize({"dc": OpenSize(1, 2)})}
    assert told(here, "m1") == [(1, "accepted"), (3, "handed")]
    (record,) = here.do(lambda store: store.records(after=0, limit=9, kind="handed"))
    assert msgspec.json.decode(record.facts) == {"messages": [1], "keeper": "agni", "hops": [1]}
    assert is_sound(here)


def test_only_what_is_open_and_kept_here_and_to_a_capability_is_handed_over(here: Subject) -> None:
    done, handed, plain = one(here, "m1", DEPLOY), one(here, "m2", DEPLOY), one(here, "m3")
    here.do(lambda store: store.settle([done], State.DONE, None, 150))
    hand(here, "agni", handed)
    records = kinds(here)
    answer = hand(here, "rush", done, handed, plain, 99)
    assert {message.id: (message.keeper, message.hop) for message in answer} == {
        "m1": (None, 0),
        "m2": ("agni", 1),
        "m3": (None, 0),
    }
    assert kinds(here) == records


def test_the_other_node_begins_when_it_has_copied_that(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1", DEPLOY), draft("m2", DEPLOY))
    copy(here, agni)
    assert own_ids(here) == []
    hand(agni, "here", 1)
    copied = copy(here, agni)
    assert [(message.id, former) for message, former in copied.moved] == [("m1", None)]
    assert (copied.arrived, copied.settled, copied.reopened) == ([], [], [])
    assert kept(here) == ("", 1)
    assert own_ids(here) == ["m1"]
    assert here.do(lambda store: store.open_mailboxes()) == {
        DEPLOY: MailboxSize({"dc": OpenSize(1, 2)}),
        f"{DEPLOY}@1": MailboxSize({"dc": OpenSize(1, 2)}),
    }
    assert is_sound(here)


def test_it_can_be_handed_back_and_on(here: Subject, agni: Peer, rush: Peer) -> None:
    position = one(here, "m1", DEPLOY)
    hand(here, "agni", position)
    give(here, agni)
    hand(agni, "here", FAR | 1)
    copied = copy(here, agni)
    assert [(message.keeper, former) for message, former in copied.moved] == [("", "agni")]
    hand(here, "rush", position)
    assert kept(here) == ("rush", 3)
    give(here, rush)
    assert (kept(rush), own_ids(rush)) == (("", 3), ["m1"])
    give(here, agni, 2)
    assert kept(agni) == ("rush", 3)
    assert [kind for _, kind in told(here, "m1")] == ["accepted", "handed", "handed", "handed"]
    assert is_sound(here) and is_sound(agni) and is_sound(rush)


def test_the_last_hand_over_counts_whichever_comes_first(here: Subject, agni: Peer, rush: Peer) -> None:
    one(agni, "m1", DEPLOY)
    hand(agni, "rush", 1)
    give(agni, rush, node="agni")
    hand(rush, "here", FAR | 1)
    # What rush wrote comes before the message, and before what agni wrote.
    copy(here, rush)
    copied = copy(here, agni)
    assert [message.id for message in copied.arrived] == ["m1"]
    assert (kept(here), own_ids(here)) == (("", 2), ["m1"])
    assert is_sound(here)


def test_what_was_handed_over_is_told_with_its_message(here: Subject, agni: Peer, rush: Peer) -> None:
    """A store that is being filled takes nothing for its own that it learns only later to be another's."""
    one(agni, "m1", DEPLOY)
    hand(agni, "rush", 1)
    copied = copy(here, agni, run(agni, limit=1))
    assert [message.keeper for message in copied.arrived] == ["rush"]
    assert is_sound(here)
    assert copy(here, agni).moved == []
    assert kept(here) == ("rush", 1)
    # And on, by the name that it has everywhere.
    give(here, rush, number=1, node="agni")
    assert (kept(rush), own_ids(rush)) == (("", 1), ["m1"])


def test_a_keeper_that_never_heard_of_the_message_gets_it_from_the_one_that_handed_it_over(
    here: Subject, agni: Peer, rush: Peer
) -> None:
    one(agni, "m1", DEPLOY)
    give(agni, rush, node="agni")
    hand(agni, "rush", 1)
    give(agni, rush, 1, node="agni")
    hand(rush, "here", FAR | 1)
    copied = copy(here, rush)
    assert (copied.arrived, own_ids(here)) == ([], [])
    here.do(lambda store: store.copy("agni", run(rush, number=1)))
    assert own_ids(here) == ["m1"]


def test_of_several_that_accepted_it_the_one_with_the_higher_name_keeps_it(here: Subject, agni: Peer) -> None:
    append(here, draft("m1", DEPLOY), draft("m2", DEPLOY))
    append(agni, draft("m1", DEPLOY))
    (moved,) = give_and_tell(here, agni)
    assert (moved[0].id, moved[0].keeper, moved[1]) == ("m1", "here", None)
    assert copy(here, agni).moved == []
    assert (own_ids(here), own_ids(agni)) == (["m1", "m2"], [])
    assert is_sound(here) and is_sound(agni)


def give_and_tell(source: Subject, target: Peer) -> list[tuple[StoredMessage, str | None]]:
    return target.do(lambda store: store.copy("here", run(source))).moved


def test_a_hand_over_beats_what_another_node_accepted(here: Subject, agni: Peer, rush: Peer) -> None:
    append(here, draft("m1", DEPLOY))
    hand(here, "agni", 1)
    append(rush, draft("m1", DEPLOY))
    copy(here, rush)
    assert kept(here) == ("agni", 1)
    give(here, agni)
    give(rush, agni, node="rush")
    give(here, rush)
    assert (own_ids(agni), own_ids(rush), own_ids(here)) == (["m1"], [], [])


# -- with its end ------------------------------------------------------------------------------------------------------


def test_what_is_settled_in_the_same_run_is_told_as_both(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1", DEPLOY))
    copy(here, agni)
    hand(agni, "rush", 1)
    agni.do(lambda store: store.settle([1], State.CANCELLED, "why", 300))
    copied = copy(here, agni)
    assert [(message.keeper, former) for message, former in copied.moved] == [("rush", None)]
    assert [(message.keeper, message.state) for message, _ in copied.settled] == [("rush", State.CANCELLED)]
    # There and back in one run is no move.
    append(agni, draft("m2", DEPLOY))
    copy(here, agni)
    rush = Peer("rush")
    hand(agni, "rush", 4)
    give(agni, rush, node="agni")
    hand(rush, "agni", FAR | 4)
    agni.do(lambda store: store.copy("rush", run(rush)))
    copy(here, rush)
    assert kept(here, "m2") == ("agni", 2)
    assert copy(here, agni).moved == []


def test_a_dead_letter_that_is_replayed_is_kept_by_its_keeper(here: Subject, agni: Peer) -> None:
    position = one(here, "m1", DEPLOY)
    hand(here, "agni", position)
    give(here, agni)
    agni.do(lambda store: store.settle([FAR | 1], State.DEAD, "why", 300))
    copy(here, agni)
    # Wherever it is replayed.
    (message,) = here.do(lambda store: store.replay({position: 20_000}, 400))
    assert (message.keeper, own_ids(here)) == ("agni", [])
    (message,) = agni.do(lambda store: store.copy("here", run(here, 2))).reopened
    assert (message.keeper, own_ids(agni)) == ("", ["m1"])
    hand(agni, "here", FAR | 1)
    copy(here, agni)
    assert own_ids(here) == ["m1"]
    assert is_sound(here)


# -- stores that are lost, restored, damaged ---------------------------------------------------------------------------


def test_a_store_made_anew_keeps_what_its_node_kept(tmp_path: Path, agni: Peer) -> None:
    append(agni, draft("a1", DEPLOY))
    lost = Peer("here")
    append(lost, draft("m1", DEPLOY), draft("m2", DEPLOY))
    hand(lost, "agni", 2)
    give(lost, agni)
    hand(agni, "here", 1)
    calls = ReactorQueue()
    fresh = open_sqlite(tmp_path, calls, epoch="epoch-2", node="here")
    for origin in agni.store.origins():
        calls.wait(fresh.copy(origin.node or "agni", run(agni, number=origin.number)))
    assert [message.id for message in calls.wait(fresh.head(DEPLOY, (0, 0), 10))] == ["a1", "m1"]
    assert not calls.wait(fresh.verify()).damages
    calls.wait(fresh.close())


def test_a_restored_store_learns_what_it_has_handed_over_since(tmp_path: Path, agni: Peer) -> None:
    here = InSqlite(tmp_path, node="here")
    append(here, draft("m1", DEPLOY), draft("m2", DEPLOY), draft("m3", DEPLOY))
    hand(here, "agni", 3)
    give(here, agni)
    copy(here, agni)
    back_up(tmp_path / FILE_NAME, tmp_path / "backup")
    hand(here, "agni", 2)
    give(here, agni, 4)
    here.close()
    restore(tmp_path / "backup", tmp_path, new_epoch=lambda: "epoch-2", at=300, kept_as="old")
    again = InSqlite(tmp_path, node="here")
    assert is_sound(again)
    assert own_ids(again) == ["m1", "m2"]
    former = next((one.sequence for one in again.store.origins() if one.epoch == "epoch-1"), 0)
    ((message, _),) = again.do(lambda store: store.copy("here", run(agni, former, number=1))).moved
    assert (message.id, message.keeper) == ("m2", "agni")
    assert own_ids(again) == ["m1"]
    # Of the new journal the peer learns nothing that it didn't know.
    assert agni.do(lambda store: store.copy("here", run(again))).moved == []
    assert own_ids(agni) == ["m2", "m3"]
    assert is_sound(again) and is_sound(agni)
    again.close()


@pytest.mark.parametrize("change", ["keeper = 'rush'", "keeper = NULL", "hop = 0, keeper = NULL", "hop = 2"])
def test_a_changed_keeper_is_found(tmp_path: Path, change: str) -> None:
    here = InSqlite(tmp_path, node="here")
    hand(here, "agni", one(here, "m1", DEPLOY))
    here.close()
    assert not verify_file(tmp_path / FILE_NAME).damages
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute(f"UPDATE message SET {change}")
    (damage,) = verify_file(tmp_path / FILE_NAME).damages
    assert (damage.position, damage.id, damage.sender) == (1, "m1", "dc")
    assert damage.what == "message m1 from dc (record 1) is not kept by whom its row says"
