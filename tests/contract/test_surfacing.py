"""That messages were put into a model's context: every promise of ``surface``, on each store, own and linked.

Nodes of earlier releases pass over its records; what they copied is told once they are of this release.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.test_store import raw
from tests.support.subjects import FAR, InSqlite, Peer, Subject, append, copy, draft, is_sound, one, told
from trishula_router.store import standing
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State
from trishula_router.store.sqlite.connection import FILE_NAME


def surface(subject: Subject, *positions: int, at: int, attempt: int = 1) -> list[int]:
    pairs = [(position, attempt) for position in positions]
    return subject.do(lambda store: store.surface(pairs, "agni", 7, at))


def surfaced_at(subject: Subject, position: int) -> int | None:
    return subject.do(lambda store: store.at_positions([position]))[position].surfaced_at


def test_a_message_surfaces(subject: Subject) -> None:
    position = one(subject)
    assert surfaced_at(subject, position) is None
    subject.do(lambda store: store.deliver([(position, 1)], "agni", 7, 110))
    assert surface(subject, position, at=120) == [position]
    assert surfaced_at(subject, position) == 120
    assert [kind for _, kind in told(subject, "m1")] == ["accepted", "delivered", "surfaced"]
    (record,) = subject.do(lambda store: store.records(after=0, limit=9, kind="surfaced"))
    assert record.facts == b'{"messages":[[1,1]],"to":"agni","session":7}'
    assert is_sound(subject)


def test_the_first_surfacing_counts_and_there_is_no_record_of_another(subject: Subject) -> None:
    first, second = one(subject, "m1"), one(subject, "m2")
    surface(subject, second, at=120)
    assert surface(subject, second, first, second, 99, at=130) == [first]
    assert surface(subject, first, second, at=140) == []
    assert (surfaced_at(subject, first), surfaced_at(subject, second)) == (130, 120)
    found = subject.do(lambda store: store.records(after=0, limit=9, kind="surfaced"))
    assert [record.facts[:20] for record in found] == [b'{"messages":[[2,1]],', b'{"messages":[[1,1]],']


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED])
def test_it_is_told_of_what_came_to_its_end_and_ends_nothing(subject: Subject, state: State) -> None:
    position = one(subject)
    subject.do(lambda store: store.settle([position], state, None, 110))
    assert surface(subject, position, at=120) == [position]
    it = subject.do(lambda store: store.at_positions([position]))[position]
    assert (it.state, it.settled_at, it.surfaced_at) == (state, 110, 120)


def test_what_surfaced_is_delivered_again_and_both_are_told(subject: Subject) -> None:
    position = one(subject)
    subject.do(lambda store: store.deliver([(position, 1)], "agni", 7, 110))
    surface(subject, position, at=120)
    subject.do(lambda store: store.deliver([(position, 2)], "agni", 8, 200))
    subject.do(lambda store: store.settle([position], State.DONE, None, 210))
    assert [kind for _, kind in told(subject, "m1")] == ["accepted", "delivered", "surfaced", "delivered", "done"]
    assert surfaced_at(subject, position) == 120


def test_a_replayed_message_has_surfaced_all_the_same(subject: Subject) -> None:
    position = one(subject)
    surface(subject, position, at=120)
    subject.do(lambda store: store.settle([position], State.DEAD, "why", 130))
    subject.do(lambda store: store.replay({position: 9000}, 140))
    assert surfaced_at(subject, position) == 120


# -- linked stores -----------------------------------------------------------------------------------------------------


def test_what_surfaced_at_another_node_is_known_here(subject: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    copy(subject, agni)
    surface(agni, 1, at=120)
    (it,) = copy(subject, agni).surfaced
    assert (it.id, it.position, it.surfaced_at) == ("m1", FAR | 1, 120)
    assert surfaced_at(subject, FAR | 1) == 120
    assert [kind for _, kind in told(subject, "m1")] == ["accepted", "surfaced"]
    assert is_sound(subject)


def test_a_message_that_comes_with_its_surfacing_is_no_news(subject: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    surface(agni, 1, at=120)
    copied = copy(subject, agni)
    assert ([it.surfaced_at for it in copied.arrived], copied.surfaced) == ([120], [])


@pytest.mark.parametrize("mine", [115, 120, 125])
def test_of_two_nodes_surfacings_the_earlier_counts(subject: Subject, agni: Peer, mine: int) -> None:
    append(agni, draft("m1"))
    copy(subject, agni)
    surface(subject, FAR | 1, at=mine)
    surface(agni, 1, at=120)
    assert copy(subject, agni).surfaced == []
    assert surfaced_at(subject, FAR | 1) == min(mine, 120)
    assert [kind for _, kind in told(subject, "m1")] == ["accepted", "surfaced", "surfaced"]


def test_a_surfacing_that_comes_before_its_message(subject: Subject, agni: Peer, rush: Peer) -> None:
    append(agni, draft("m1"))
    copy(rush, agni)
    surface(rush, FAR | 1, at=120)
    copy(subject, rush)
    copy(subject, agni)
    (it,) = subject.do(lambda store: store.with_ids(["m1"]))
    assert it.surfaced_at == 120


def test_a_release_that_does_not_know_it_passes_over_it(
    subject: Subject, agni: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(agni, draft("m1"))
    surface(agni, 1, at=120)
    agni.do(lambda store: store.settle([1], State.DONE, None, 130))
    monkeypatch.delitem(standing._READERS, str(Kind.SURFACED))
    copy(subject, agni)
    assert surfaced_at(subject, FAR | 1) is None
    assert [kind for _, kind in told(subject, "m1")] == ["accepted", "done"]
    assert is_sound(subject)


def test_what_an_earlier_release_copied_and_passed_over_is_told_after_its_upgrade(
    tmp_path: Path, agni: Peer, rush: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(agni, draft("own"), draft("m1"))
    copy(rush, agni)
    append(rush, draft("m2"))
    # Each node tells of the other's message as well.
    surface(rush, FAR | 2, 1, at=120)
    surface(agni, 2, at=125)
    here = InSqlite(tmp_path, node="here")
    with monkeypatch.context() as earlier:
        earlier.delitem(standing._READERS, str(Kind.SURFACED))
        for peer in (agni, rush):
            copy(here, peer)
    here.close()
    _as_before(tmp_path)
    upgraded = InSqlite(tmp_path, node="here")
    found = {it.id: it.surfaced_at for it in upgraded.do(lambda store: store.with_ids(["own", "m1", "m2"]))}
    assert found == {"own": None, "m1": 120, "m2": 120}
    assert [kind for _, kind in told(upgraded, "m1")] == ["accepted", "surfaced", "surfaced"]
    assert is_sound(upgraded)
    upgraded.close()


def _as_before(directory: Path) -> None:
    """Make the file what it was before the schema knew of surfacing."""
    connection = raw(directory / FILE_NAME)
    connection.executescript(
        "DROP TABLE base; DROP TABLE held; ALTER TABLE message DROP COLUMN surfaced_at; DROP INDEX alias_message;"
    )
    connection.execute("PRAGMA user_version = 6")
    connection.close()


def test_an_old_store_is_upgraded(tmp_path: Path) -> None:
    here = InSqlite(tmp_path)
    position = one(here)
    here.close()
    _as_before(tmp_path)
    here = InSqlite(tmp_path)
    assert surfaced_at(here, position) is None
    assert surface(here, position, at=120) == [position]
    assert is_sound(here)
    here.close()
