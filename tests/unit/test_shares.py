"""How a mailbox and the store are shared: what floods leave for others, whatever they send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.support.nodes import LIMITS, Rig
from tests.support.stores import HeldStore
from trishula.errors import MailboxFull, StorageFull
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.room import Room
from trishula_router.mail.shares import Part
from trishula_router.settings.limits import Limits
from trishula_router.store.memory import MemoryStore

AGENTS = ("agni", "dc", "mallory")
MIB = 2**20


def limits(**changed: Any) -> Limits:
    return Limits(**{**{name: getattr(LIMITS, name) for name in Limits.__slots__}, "mailbox_messages": 1000, **changed})


def fill(room: Room, sender: str, to: str = "agni", *, size_bytes: int = 100, priority: int = 3) -> int:
    """Send until it is refused; how many got in."""
    count = 0
    while count < 100_000:
        try:
            room.take(sender, (to,), size_bytes, priority)
        except (MailboxFull, StorageFull):
            return count
        count += 1
    raise AssertionError("nothing was refused")


@pytest.fixture
def room() -> Room:
    return Room(Mailroom(), limits())


def test_one_agent_fills_half_of_what_is_not_kept(room: Room) -> None:
    assert fill(room, "mallory") == 450
    # Under whatever name of its instances.
    assert fill(room, "mallory/a") == fill(room, "mallory/b") == 0
    assert fill(room, "dc") == 225


def test_it_takes_many_agents_together_to_fill_a_mailbox() -> None:
    room = Room(Mailroom(), limits(mailbox_messages=100_000))
    for number in range(13):
        assert fill(room, f"m{number}") >= 4
    room.take("dc", ("agni",), 100, 3)


def test_what_is_kept_for_urgent_mail_is_taken_by_nothing_else_and_by_nobody_alone(room: Room) -> None:
    for number in range(500):
        fill(room, f"m{number}")
    with pytest.raises(MailboxFull, match=r"and the rest of it for priority 1 \(limits\.urgent_room\)"):
        room.take("dc", ("agni",), 100, 2)
    assert fill(room, "mallory", priority=1) == 50
    assert fill(room, "mallory", priority=3) == 0
    assert fill(room, "moriarty", priority=1) == 25
    assert fill(room, "dc", priority=1) == 12


def test_a_flood_of_urgent_mail_alone_leaves_room_for_all_kinds(room: Room) -> None:
    taken = fill(room, "mallory", priority=1)
    taken += fill(room, "mallory", priority=3)
    assert taken <= 600
    assert fill(room, "dc", priority=3) > 100
    assert fill(room, "rushabdev", priority=1) > 100


def test_bytes_are_shared_like_messages() -> None:
    room = Room(Mailroom(), limits(mailbox_messages=100_000, mailbox_bytes=100 * MIB))
    assert fill(room, "mallory", size_bytes=MIB) == 45
    room.take("dc", ("agni",), MIB, 3)
    room.take("dc", ("agni",), MIB, 1)


def test_the_smallest_mailbox_is_of_use_and_takes_the_largest_message() -> None:
    room = Room(Mailroom(), limits(mailbox_messages=2, mailbox_bytes=MIB, payload_bytes=MIB - 1000))
    room.take("dc", ("agni",), MIB - 500, 3)
    other = Room(Mailroom(), limits(mailbox_messages=2))
    assert fill(other, "dc") == 2


def test_one_agent_takes_its_share_of_the_store_over_all_mailboxes() -> None:
    mailroom = Mailroom()
    room = Room(mailroom, limits(store_bytes=100 * MIB, mailbox_messages=1_000_000, payload_bytes=MIB))
    taken = sum(fill(room, "mallory", f"capability:c{number}", size_bytes=MIB // 2) for number in range(128))
    assert 40 <= taken <= 46
    with pytest.raises(StorageFull, match=r"its share of the 100 MiB of the store \(limits\.store_share\)") as caught:
        room.take("mallory", ("agni",), MIB // 2, 3)
    assert caught.value.retry_after_s == 5.0
    assert fill(room, "dc", size_bytes=MIB // 2) > 20
    # What is kept, is for urgent mail, and only a quarter of it for one.
    assert fill(room, "mallory", size_bytes=MIB // 2, priority=1) <= 5
    assert room.told()["store_share"] >= 2


def test_one_agent_has_so_many_messages_open() -> None:
    room = Room(Mailroom(), limits(open_messages=300))
    assert fill(room, "mallory") == 300
    with pytest.raises(StorageFull, match="mallory has 300 messages at this node that are not settled") as caught:
        room.take("mallory", ("dc",), 10, 3)
    assert caught.value.retry_after_s == 5.0
    # What is pressing gets out of it.
    room.take("mallory", ("dc",), 10, 1)
    assert fill(room, "dc", "rushabdev") == 300


def test_mail_to_capabilities_that_nobody_has_is_bounded_by_their_number_too() -> None:
    mailroom = Mailroom()
    room = Room(mailroom, limits(open_capabilities=10))
    for number in range(10):
        room.take("mallory", (f"capability:c{number}",), 10, 3)
    with pytest.raises(MailboxFull, match=r"open to 10 capabilities already \(limits\.open_capabilities\)"):
        room.take("mallory", ("capability:one_more",), 10, 1)
    assert not mailroom.has("capability:one_more")
    room.take("mallory", ("capability:c3",), 10, 3)
    room.take("dc", ("capability:one_more",), 10, 3)
    assert room.told()["open_capabilities"] == 1


@given(
    st.lists(st.tuples(st.sampled_from((1, 1, 2, 3)), st.integers(1, 100)), min_size=1, max_size=30),
    st.sampled_from((0.1, 0.25, 0.5)),
    st.sampled_from((0.0, 0.1, 0.3)),
)
def test_nobody_is_ever_kept_out_by_another(sends: list[tuple[int, int]], share: float, urgent_room: float) -> None:
    """Whatever one agent sends, others get their mail in, of either kind."""
    room = Room(Mailroom(), limits(mailbox_messages=200, mailbox_share=share, urgent_room=urgent_room))
    for priority, count in sends:
        for _ in range(count):
            try:
                room.take("mallory", ("agni",), 10, priority)
            except MailboxFull:
                break
    room.take("dc", ("agni",), 10, 3)
    room.take("rushabdev", ("agni",), 10, 1)


def test_a_part_that_is_not_shared_is_there_for_one() -> None:
    part = Part(100, 0, 1.0)
    assert part.is_fair(99, 0, 99, 1, False)
    assert not part.is_open(100, 1, False)
    assert part.ample == 100


def test_news_of_what_expired_counts_for_whom_it_tells(tmp_path: Path) -> None:
    """The recipient, in whose name the node says it, has no part in it; and who floods with COMMANDs is stopped."""
    rig = Rig(tmp_path, HeldStore(MemoryStore("epoch-1")), Clock(), agents=AGENTS, limits=limits(open_messages=30))
    mallory = rig.start().join("mallory")
    for round_ in range(3):
        commands = ({"id": f"c{round_}.{n}", "to": "agni", "type": "COMMAND", "procedure": "p"} for n in range(10))
        rig.send(mallory, *({**command, "ttl_ms": 1000} for command in commands))
        rig.advance(12.0)
    assert rig.node.mailroom.shares.of_agent("agni").messages == 0
    assert rig.node.mailroom.shares.of("mallory", "mallory").messages == 30
    (receipt,) = rig.send(mallory, {"id": "one_more", "to": "agni"})
    assert (receipt["status"], receipt["error"]) == ("refused", StorageFull.uri)


def test_shares_outlive_the_node(tmp_path: Path) -> None:
    """What was open when the node ended is still its sender's."""
    store, clock = HeldStore(MemoryStore("epoch-1")), Clock()
    small = limits(mailbox_messages=20)
    rig = Rig(tmp_path, store, clock, agents=AGENTS, limits=small).start()
    mallory = rig.join("mallory")
    receipts = rig.send(mallory, *({"id": f"m{number}", "to": "agni", "priority": 1} for number in range(20)))
    taken = sum(receipt["status"] == "accepted" for receipt in receipts)
    assert 9 <= taken < 20
    rig.crash()
    again = Rig(tmp_path, store, clock, agents=AGENTS, limits=small).start()
    (refused,) = again.send(again.join("mallory"), {"id": "one_more", "to": "agni"})
    assert (refused["status"], refused["error"]) == ("refused", MailboxFull.uri)
    assert refused["retry_after_s"] == 1.0
    assert f"the mailbox of agni holds {taken} messages of mallory" in refused["detail"]
    dc = again.join("dc")
    receipts = again.send(dc, {"id": "a", "to": "agni"}, {"id": "b", "to": "agni", "priority": 1})
    assert [receipt["status"] for receipt in receipts] == ["accepted", "accepted"]
    # What is settled makes room for its sender.
    agni = again.join("agni")
    again.attach(agni, window=64)
    again.ack(agni, *(delivery["token"] for delivery in again.pushed()))
    (receipt,) = again.send(again.join("mallory"), {"id": "one_more", "to": "agni"})
    assert receipt["status"] == "accepted"
