"""Messages to a capability: who gets them, and where they go if that one is lost. A node on a Clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import HeldStore
from trishula.contract import uris
from trishula.errors import MessageUnknown
from trishula_router.agents.consumers import Consumer
from trishula_router.agents.file import AgentEntry
from trishula_router.mail import mailroom as mailroom_module
from trishula_router.mail.entry import Entry
from trishula_router.mail.sharing import Candidate, share_out
from trishula_router.store.memory import MemoryStore

DEPLOY = "capability:deploy"


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


def able(rig: Rig, agent: str, *capabilities: str, **options: Any) -> int:
    """An agent that announced capabilities (deploy); its session."""
    session = rig.join(agent)
    rig.attach(session, capabilities=list(capabilities or ("deploy",)), **options)
    return session


def send(rig: Rig, session: int, *ids: str, **fields: Any) -> list[dict[str, Any]]:
    return rig.send(session, *({"id": message_id, "to": DEPLOY, **fields} for message_id in ids))


# -- who gets it -------------------------------------------------------------------------------------------------------


def test_it_goes_to_one_who_can(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni"), able(rig, "rushabdev", "host", "deploy.prod")
    (receipt,) = send(rig, dc, "m1")
    assert receipt["status"] == "accepted"
    ((address, session, (delivery,)),) = rig.outlet.pushed
    assert (address, session) == ("agni", agni)
    assert (delivery["message"]["to"], delivery["message"]["from"]) == (DEPLOY, "dc")
    assert rig.pushed(rushabdev) == []
    assert rig.ack(agni, delivery["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}


def test_it_waits_until_somebody_can(rig: Rig, dc: int) -> None:
    send(rig, dc, "m1", "m2")
    rig.advance(60)
    assert rig.pushed() == []
    agni = able(rig, "agni")
    assert rig.ids(agni) == ["m1", "m2"]


def test_an_agents_own_sessions_count_and_not_its_instances(rig: Rig, dc: int) -> None:
    script = rig.join("agni")
    rig.attach(script, instance="x", capabilities=["deploy"])
    send(rig, dc, "m1")
    rig.advance(1)
    assert rig.pushed() == []


def test_it_goes_to_the_least_loaded(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni"), able(rig, "rushabdev")
    rig.send(dc, *({"id": f"own{index}", "to": "agni"} for index in range(3)))
    rig.pushed()
    send(rig, dc, "m1", "m2", "m3", "m4", "m5")
    # agni has 3 of its own, so the first three go to rushabdev.
    assert rig.ids(rushabdev) == ["m1", "m2", "m3", "m5"]
    assert rig.ids(agni) == ["m4"]


def test_what_waits_for_an_agent_is_load_too(rig: Rig, dc: int) -> None:
    able(rig, "agni", window=2)
    rushabdev = able(rig, "rushabdev")
    rig.send(dc, *({"id": f"own{index}", "to": "agni"} for index in range(2)))
    rig.send(dc, *({"id": f"more{index}", "to": "rushabdev"} for index in range(1)))
    rig.pushed()
    send(rig, dc, "m1")
    assert rig.ids(rushabdev) == ["m1"]


def test_the_load_of_the_beats_decides_between_equals(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni"), able(rig, "rushabdev")
    rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.now(), "load": 0.9})
    rig.call(rushabdev, uris.DIRECTORY_BEAT, {"sent_at": rig.now(), "load": 0.1})
    send(rig, dc, "m1")
    assert rig.ids(rushabdev) == ["m1"]


def test_who_is_stale_gets_nothing(rig: Rig, dc: int) -> None:
    able(rig, "agni")
    rig.advance(40)
    rushabdev = able(rig, "rushabdev")
    send(rig, dc, "m1", "m2")
    assert rig.ids(rushabdev) == ["m1", "m2"]


def test_windows_hold_and_the_rest_waits(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni", window=1), able(rig, "rushabdev", window=2)
    send(rig, dc, *(f"m{index}" for index in range(5)))
    first, second = rig.pushed(agni), rig.pushed(rushabdev)
    assert (len(first), len(second)) == (1, 2)
    rig.ack(agni, first[0]["token"])
    assert rig.ids(agni) == ["m3"]
    assert rig.node.mailroom.counts(DEPLOY) == (1, 3)


def test_its_own_mail_comes_first(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni", window=1)
    rig.send(dc, {"id": "own1", "to": "agni"})
    (own,) = rig.pushed()
    send(rig, dc, "m1")
    rig.send(dc, {"id": "own2", "to": "agni"})
    rig.ack(agni, own["token"])
    (second,) = rig.pushed()
    assert second["message"]["id"] == "own2"
    rig.ack(agni, second["token"])
    assert rig.ids() == ["m1"]


def test_urgency_overtakes(rig: Rig, dc: int) -> None:
    send(rig, dc, "m3")
    send(rig, dc, "m1", priority=1)
    assert rig.ids(able(rig, "agni", window=1)) == ["m1"]


def test_bodies_that_memory_has_no_room_for_come_from_the_store(
    rig: Rig, store: HeldStore, dc: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailroom_module, "BODY_CACHE_BYTES", 0)
    store.holding = False
    agni = able(rig, "agni", window=2)
    store.holding = True
    rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": f"m{index}", "to": DEPLOY} for index in range(3)])
    rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "own", "to": "agni"}])
    store.let_all()
    rig.settle()
    store.let_all()
    assert len(rig.pushed(agni)) == 2
    store.holding = False


# -- moving on ---------------------------------------------------------------------------------------------------------


def test_it_moves_on_when_its_holder_leaves(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni"), able(rig, "rushabdev")
    send(rig, dc, "m1")
    (first,) = rig.pushed(agni)
    rig.leave(agni)
    (second,) = rig.pushed(rushabdev)
    assert (second["message"]["id"], second["attempt"]) == ("m1", 2)
    # Whoever held it before holds it no more.
    agni = rig.join("agni")
    assert rig.ack(agni, first["token"]) == [False]
    assert not rig.nack(agni, first["token"])
    with pytest.raises(MessageUnknown):
        rig.call(agni, uris.MAILBOX_WORKING, first["token"], 60)
    assert rig.ack(rushabdev, second["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}


def test_it_moves_on_when_its_holder_is_taken_over(rig: Rig, dc: int) -> None:
    able(rig, "agni")
    send(rig, dc, "m1")
    assert rig.ids() == ["m1"]
    newer = rig.join("agni")
    rig.attach(newer)
    rushabdev = able(rig, "rushabdev")
    assert rig.ids(rushabdev) == ["m1"]


def test_it_moves_on_when_the_lease_runs_out(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1")
    assert rig.ids(agni) == ["m1"]
    rushabdev = able(rig, "rushabdev")
    for _ in range(7):
        rig.advance(10)
        rig.call(rushabdev, uris.DIRECTORY_BEAT, {"sent_at": rig.now()})
    # agni gave no sign of life meanwhile.
    assert rig.ids(rushabdev) == ["m1"]


def test_it_moves_on_when_its_holder_fails(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni"), able(rig, "rushabdev")
    rig.send(dc, *({"id": f"own{index}", "to": "rushabdev"} for index in range(3)))
    rig.pushed()
    send(rig, dc, "m1")
    (first,) = rig.pushed(agni)
    # agni has less to do, and is not asked again.
    rig.nack(agni, first["token"])
    rig.advance(1.5)
    (second,) = rig.pushed()
    assert (second["message"]["id"], second["attempt"]) == ("m1", 2)
    assert rig.ack(rushabdev, second["token"]) == [True]


def test_it_comes_back_to_who_failed_if_nobody_else_has_room(rig: Rig, dc: int) -> None:
    agni, rushabdev = able(rig, "agni"), able(rig, "rushabdev", window=1)
    rig.send(dc, {"id": "own", "to": "rushabdev"})
    assert rig.ids(rushabdev) == ["own"]
    send(rig, dc, "m1")
    (first,) = rig.pushed(agni)
    rig.nack(agni, first["token"])
    rig.advance(1.5)
    (second,) = rig.pushed(agni)
    assert (second["message"]["id"], second["attempt"]) == ("m1", 2)


def test_who_failed_is_known_over_a_restart(rig: Rig, store: HeldStore, dc: int, tmp_path: Path) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1")
    (first,) = rig.pushed(agni)
    rig.nack(agni, first["token"])
    rig.crash()
    rig = Rig(tmp_path, store, rig.clock).start()
    able(rig, "agni")
    rushabdev = able(rig, "rushabdev")
    rig.advance(1.5)
    assert rig.ids(rushabdev) == ["m1"]


def test_a_late_ack_of_the_last_holder_counts(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1")
    (first,) = rig.pushed(agni)
    rig.leave(agni)
    agni = rig.join("agni")
    assert rig.ack(agni, first["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    able(rig, "rushabdev")
    assert rig.pushed() == []


def test_a_restart_forgets_no_message_and_no_holder(rig: Rig, store: HeldStore, dc: int, tmp_path: Path) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1", "m2")
    first, _ = rig.pushed(agni)
    rig.crash()
    rig = Rig(tmp_path, store, rig.clock).start()
    assert rig.ack(rig.join("rushabdev"), first["token"]) == [False]
    assert rig.ack(rig.join("agni"), first["token"]) == [True]
    rushabdev = able(rig, "rushabdev")
    assert rig.ids(rushabdev) == ["m2"]


def test_a_stranger_can_not_ack_it(rig: Rig, dc: int) -> None:
    able(rig, "agni")
    rushabdev = able(rig, "rushabdev")
    send(rig, dc, "m1")
    (delivery,) = rig.pushed()
    assert rig.ack(rushabdev, delivery["token"]) == [False]
    assert rig.ack(dc, delivery["token"]) == [False]
    assert rig.states(dc, "m1") == {"m1": "delivered"}


# -- around it ---------------------------------------------------------------------------------------------------------


def test_the_assignment_is_in_the_journal_and_in_its_life(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1")
    rig.pushed()
    (life,) = rig.call(agni, uris.AUDIT_WHY, "m1")["messages"]
    (event,) = [event for event in life["events"] if event["kind"] == "delivered"]
    assert (event["to"], event["session"]) == ("agni", agni)
    assert rig.states(agni, "m1") == {"m1": "delivered"}
    assert rig.states(rig.join("rushabdev"), "m1") == {}


def test_its_holder_may_answer_without_a_grant(tmp_path: Path, store: HeldStore) -> None:
    agents = {"agni": AgentEntry(send=()), "dc": AgentEntry(), "rushabdev": AgentEntry(send=())}
    rig = Rig(tmp_path, store, Clock(), agents=agents).start()
    dc, agni = rig.join("dc"), able(rig, "agni")
    send(rig, dc, "c1", type="COMMAND")
    answer = {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"}
    assert rig.send(agni, answer)[0]["status"] == "accepted"
    assert rig.send(rig.join("rushabdev"), answer)[0]["status"] == "refused"


def test_an_ack_message_of_its_holder_settles_it(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1")
    rig.pushed()
    (receipt,) = rig.send(agni, {"id": "a1", "type": "ACK", "to": "dc", "reply_to": "m1"})
    assert receipt["status"] == "accepted"
    assert rig.states(dc, "m1") == {"m1": "done"}


@pytest.mark.parametrize(
    ("send_grants", "passes"), [(("*",), True), ((DEPLOY,), True), (("agni",), False), (("capability:other",), False)]
)
def test_grants(tmp_path: Path, store: HeldStore, send_grants: tuple[str, ...], passes: bool) -> None:
    agents = {"agni": AgentEntry(), "dc": AgentEntry(send=send_grants)}
    rig = Rig(tmp_path, store, Clock(), agents=agents).start()
    (receipt,) = send(rig, rig.join("dc"), "m1")
    if passes:
        assert receipt["status"] == "accepted"
    else:
        assert receipt["detail"] == (
            'messages[0].to is "capability:deploy", and the grants of dc don\'t cover it; an operator can add '
            '"capability:deploy" to its "send" list in the agents file'
        )


def test_the_death_is_told_by_the_capability(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni")
    send(rig, dc, "m1", type="COMMAND")
    (delivery,) = rig.pushed(agni)
    rig.nack(agni, delivery["token"], requeue=False)
    (told,) = rig.fetch(dc)["deliveries"]
    assert (told["message"]["from"], told["message"]["reply_to"]) == (DEPLOY, "m1")


def test_cancel_while_it_waits_and_while_it_is_out(rig: Rig, dc: int) -> None:
    send(rig, dc, "m1", "m2")
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["m1"]) == [True]
    agni = able(rig, "agni", window=1)
    assert rig.ids(agni) == ["m2"]
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["m2"]) == [True]
    send(rig, dc, "m3")
    assert rig.ids(agni) == ["m3"]


def test_mailboxes_of_made_up_capabilities_do_not_pile_up(rig: Rig, dc: int) -> None:
    for index in range(50):
        rig.send(dc, {"id": f"m{index}", "to": f"capability:made_up{index}", "ttl_ms": 1000})
    rig.advance(11)
    assert not [address for address in rig.node.mailroom._mailboxes if address.startswith("capability:")]


@pytest.mark.parametrize("name", ["", "Deploy", "a b", "../x", "9a"])
def test_no_name_of_a_capability(rig: Rig, dc: int, name: str) -> None:
    (receipt,) = rig.send(dc, {"id": "m1", "to": f"capability:{name}"})
    assert receipt["detail"] == (
        f'messages[0].to is "capability:{name}"; a capability\'s name is a lower-case letter, then up to 62 of a-z, '
        "0-9, '_', '.' and '-'"
    )


# -- the policy alone --------------------------------------------------------------------------------------------------


def entry(position: int) -> Entry:
    return Entry(position, "dc", f"m{position}", DEPLOY, "STATUS", 3, 10**15, 1)


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8), st.integers(0, 9), st.floats(0, 1)), max_size=6),
    st.integers(0, 40),
)
def test_shares_are_fair_and_windows_hold(those: list[tuple[int, int, int, float]], count: int) -> None:
    candidates = [
        Candidate(Consumer(f"a{index}", index, window, 1 << 20, in_flight=min(held, window)), pending, load, [])
        for index, (window, held, pending, load) in enumerate(those)
    ]
    entries = [entry(position) for position in range(1, count + 1)]
    left = share_out(entries, candidates)
    given_out = sorted(one.position for candidate in candidates for one in candidate.share)
    assert sorted([*given_out, *(one.position for one in left)]) == [one.position for one in entries]
    assert all(candidate.room >= 0 for candidate in candidates)
    assert not left or all(candidate.room == 0 for candidate in candidates)
    # Nobody got one while somebody with room had clearly less to do.
    for one in candidates:
        for other in candidates:
            if one.share and other.room > 0:
                assert one.burden[0] - 1 <= other.burden[0]


def test_who_failed_at_it_is_the_last_choice() -> None:
    idle, busy = (
        Candidate(Consumer(name, 1, 2, 1 << 20, in_flight=held), 0, 0.0, []) for name, held in (("agni", 0), ("dc", 1))
    )
    entries = [entry(position) for position in (1, 2, 3, 4)]
    for one in entries:
        one.holder = "agni"
    assert share_out(entries, [idle, busy]) == [entries[3]]
    assert (busy.share, idle.share) == ([entries[0]], entries[1:3])


def test_large_ones_are_shared_out_by_their_size() -> None:
    one, other = (Candidate(Consumer(name, 1, 64, 100), 0, 0.0, []) for name in ("agni", "dc"))
    one.consumer.in_flight_bytes = 100
    entries = [entry(position) for position in (1, 2, 3)]
    for large in entries:
        large.size_bytes = 60
    assert share_out(entries, [one, other]) == [entries[2]]
    assert (one.share, other.share) == ([], entries[:2])
