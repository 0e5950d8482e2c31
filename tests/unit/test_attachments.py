"""What is taken of attachments and what goes: the policy, without a disk; and the names that become paths."""

from __future__ import annotations

import pytest

from trishula.contract.attached import ATTACHMENT, AttachmentInfo, attachment_of, file_name_for
from trishula.errors import (
    ArgumentInvalid,
    AttachmentsFull,
    AttachmentTooLarge,
    AttachmentUnknown,
    IdReused,
    MessageInvalid,
)
from trishula_router.attachments.ledger import LEAST_BYTES, LINKS_PER_AGENT, Attachment, Ledger, Link
from trishula_router.settings.attachments import AttachmentOptions

MIB = 1024 * 1024
NOW = 1_700_000_000_000
ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


def options(**given: int) -> AttachmentOptions:
    return AttachmentOptions(**{"size_bytes": 4 * MIB, "agent_bytes": 8 * MIB, "total_bytes": 10 * MIB, **given})  # type: ignore[arg-type]


def whole(size_bytes: int = MIB, at: int = NOW) -> Attachment:
    return Attachment(size_bytes, size_bytes, True, at)


def link(agent: str = "dc", message_id: str = "1", digest: str = ONE, at: int = NOW) -> Link:
    return Link(agent, message_id, AttachmentInfo(digest, MIB), at)


# -- what is taken -----------------------------------------------------------------------------------------------------


def test_what_is_larger_than_the_largest_is_refused() -> None:
    with pytest.raises(AttachmentTooLarge, match=r"has 5 MiB, and this node takes at most 4 MiB \(attachments.size\)"):
        Ledger(options()).admit(("dc", ONE), 5 * MIB, None)


def test_each_agent_has_its_share_and_all_have_theirs() -> None:
    ledger = Ledger(options())
    ledger.put(("dc", ONE), whole(4 * MIB))
    assert ledger.admit(("dc", TWO), 4 * MIB, None) is None
    ledger.put(("dc", TWO), whole(4 * MIB))
    with pytest.raises(AttachmentsFull, match="attachments of dc take 8 MiB"):
        ledger.admit(("dc", ONE.replace("1", "3")), 1, None)
    with pytest.raises(AttachmentsFull, match="attachments at this node take 8 MiB"):
        ledger.admit(("agni", ONE), 3 * MIB, None)
    assert ledger.admit(("agni", ONE), 2 * MIB, None) is None
    # What is here already counts once, and may be begun again.
    assert ledger.admit(("dc", ONE), 4 * MIB, None) is ledger.get(("dc", ONE))
    ledger.forget(("dc", TWO))
    assert ledger.admit(("dc", TWO), 4 * MIB, None) is None
    assert ledger.told() == {"files": 1, "complete": 1, "bytes": 4 * MIB, "limit_bytes": 10 * MIB, "links": 0}


def test_a_small_file_counts_for_a_block() -> None:
    ledger = Ledger(options(agent_bytes=2 * LEAST_BYTES))
    ledger.put(("dc", ONE), whole(1))
    ledger.put(("dc", TWO), whole(0))
    with pytest.raises(AttachmentsFull):
        ledger.admit(("dc", ONE.replace("1", "3")), 1, None)


def test_room_for_messages_stays_on_the_disk() -> None:
    ledger = Ledger(options(free_bytes=100 * MIB))
    assert ledger.admit(("dc", ONE), MIB, 101 * MIB) is None
    with pytest.raises(AttachmentsFull, match=r"has 101 MiB left.*less than 100 MiB would stay free"):
        ledger.admit(("dc", ONE), MIB + 1, 101 * MIB)


def test_one_digest_has_one_size() -> None:
    ledger = Ledger(options())
    ledger.put(("dc", ONE), whole())
    with pytest.raises(ArgumentInvalid, match="was begun with 1048576"):
        ledger.admit(("dc", ONE), MIB + 1, None)


# -- what messages may name --------------------------------------------------------------------------------------------


def test_a_message_names_what_its_sender_has_sent_and_is_complete() -> None:
    ledger = Ledger(options())
    ledger.put(("dc", ONE), Attachment(MIB, MIB - 1, False, NOW))
    with pytest.raises(AttachmentUnknown, match="has 1048575 of 1048576 bytes of that from dc; send the file first"):
        ledger.check_named("dc", "1", link().info, "messages[0].payload.attachment")
    ledger.put(("dc", ONE), whole())
    ledger.check_named("dc", "1", link().info, "path")
    with pytest.raises(AttachmentUnknown, match="has nothing of that from agni"):
        ledger.check_named("agni", "1", link().info, "path")
    with pytest.raises(AttachmentUnknown):
        ledger.check_named("dc", "1", AttachmentInfo(ONE, MIB + 1), "path")


def test_one_id_names_one_attachment() -> None:
    ledger = Ledger(options())
    ledger.put(("dc", ONE), whole())
    ledger.put(("dc", TWO), whole())
    ledger.name(link())
    ledger.check_named("dc", "1", link().info, "path")
    with pytest.raises(IdReused):
        ledger.check_named("dc", "1", link(digest=TWO).info, "path")


def test_links_are_bounded() -> None:
    ledger = Ledger(options())
    ledger.put(("dc", ONE), whole())
    for number in range(LINKS_PER_AGENT):
        ledger.name(link(message_id=str(number)))
    with pytest.raises(AttachmentsFull, match="10000 messages of dc name attachments"):
        ledger.check_named("dc", "another", link().info, "path")
    # A repeat is no further one.
    ledger.check_named("dc", "0", link().info, "path")


# -- what goes ---------------------------------------------------------------------------------------------------------


def test_what_no_message_names_goes_after_a_while_and_what_one_names_stays() -> None:
    held = options()
    ledger = Ledger(held)
    ledger.put(("dc", ONE), whole())
    ledger.put(("dc", TWO), Attachment(MIB, 5, False, NOW))
    assert ledger.over(NOW + held.unnamed_ms - 1, 9) == []
    assert ledger.over(NOW + held.unnamed_ms, 9) == [("dc", ONE)]
    assert ledger.over(NOW + held.unfinished_ms, 9) == [("dc", ONE), ("dc", TWO)]
    assert ledger.over(NOW + held.unfinished_ms, 1) == [("dc", ONE)]
    one = link(at=NOW + 1)
    ledger.name(one)
    assert ledger.over(NOW + 10 * held.unfinished_ms, 9) == [("dc", TWO)]
    later = NOW + 20 * held.unfinished_ms
    ledger.unname(one, later)
    assert ledger.over(later + held.unnamed_ms - 1, 9) == [("dc", TWO)]
    assert ledger.over(later + held.unnamed_ms, 9) == [("dc", ONE), ("dc", TWO)]


def test_a_clock_that_was_ahead_keeps_nothing_for_ever() -> None:
    held = options()
    ledger = Ledger(held)
    ledger.put(("dc", ONE), whole(at=NOW + 10**12))
    assert not ledger.is_over(("dc", ONE), NOW)
    assert ledger.is_over(("dc", ONE), NOW + held.unnamed_ms)


def test_links_are_looked_at_in_turn_and_young_ones_later() -> None:
    ledger = Ledger(options())
    for number in range(5):
        ledger.name(link(message_id=str(number), at=NOW + (0 if number != 1 else 600_000)))
    old = NOW + 600_000
    assert [one.message_id for one in ledger.to_look_at(old, 2)] == ["0", "2"]
    assert [one.message_id for one in ledger.to_look_at(old, 3)] == ["3", "4", "0"]
    assert ledger.to_look_at(NOW + 1, 9) == [link(message_id="1", at=old)][:0]


def test_a_link_of_before_finds_its_file_when_that_is_sent_again() -> None:
    ledger = Ledger(options())
    ledger.name(link())
    assert ledger.get(("dc", ONE)) is None
    ledger.put(("dc", ONE), whole())
    assert not ledger.is_over(("dc", ONE), NOW + 10**12)


# -- the contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "text",
        {"a": 1},
        {ATTACHMENT: "report.pdf"},
        {ATTACHMENT: {"digest": 5}},
        {ATTACHMENT: {"digest": "md5:1"}},
    ],
)
def test_what_senders_wrote_there_before_is_theirs(payload: object) -> None:
    assert attachment_of(payload) is None


def test_an_attachment_is_read_also_with_a_float_as_other_languages_send_it() -> None:
    raw = {"digest": ONE, "size_bytes": 5.0, "name": "a.txt"}
    assert attachment_of({ATTACHMENT: raw}) == AttachmentInfo(ONE, 5, "a.txt")


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": ONE},
        {"digest": ONE[:-1], "size_bytes": 1},
        {"digest": ONE.upper().replace("SHA", "sha"), "size_bytes": -1},
        {"digest": ONE, "size_bytes": 2**40},
        {"digest": ONE, "size_bytes": 1, "name": "two\nlines"},
        {"digest": ONE, "size_bytes": 1, "name": ""},
        {"digest": ONE, "size_bytes": 1, "path": "/etc"},
    ],
)
def test_what_names_one_and_breaks_the_rule_is_refused(wrong: object) -> None:
    with pytest.raises(MessageInvalid, match=r"^messages\[2\].payload.attachment is .*it must be a map of digest"):
        attachment_of({ATTACHMENT: wrong}, "messages[2].payload")


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("..", "attachment-1111111111111111"),
        (".bashrc", "bashrc"),
        ("a\u202efdp.exe", "afdp.exe"),
        ("nul.txt", "_nul.txt"),
        ('what?*"<>|:.txt', "what_______.txt"),
        ("trailing. ", "trailing"),
        ("\u0950" * 200 + ".tar", "\u0950" * 58 + ".tar"),
        (None, "attachment-1111111111111111"),
    ],
)
def test_a_senders_name_becomes_one_safe_part_of_a_path(name: str | None, becomes: str) -> None:
    assert file_name_for(AttachmentInfo(ONE, 1, name)) == becomes


def test_what_names_a_file_is_known_by_the_file_whatever_the_order() -> None:
    ledger = Ledger(options())
    first, second = link(), link(message_id="2", digest=TWO)
    for one in (first, second, first):
        ledger.name(one)
    assert ledger.is_named(("dc", ONE)) and ledger.is_named(("dc", TWO))
    # A message whose record was lost may come again with another file.
    ledger.name(link(message_id="2"))
    assert not ledger.is_named(("dc", TWO))
    for one in (first, link(message_id="2")):
        assert ledger.is_named(("dc", ONE))
        ledger.unname(one, NOW)
        ledger.unname(one, NOW)
    assert not ledger.is_named(("dc", ONE))
    assert ledger.told()["links"] == 0
