"""Attachments of a node without a router: pieces, who may fetch, what a sweep lets go, what a restart finds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import (
    ArgumentInvalid,
    AttachmentDamaged,
    AttachmentsOff,
    AttachmentUnknown,
    RateLimited,
)
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.keeping import CHUNK_BYTES
from trishula_router.attachments.pace import UNDER_WAY
from trishula_router.store.memory import MemoryStore

HOUR_MS = 3_600_000


def rig_in(tmp_path: Path, store: MemoryStore | None = None, clock: Clock | None = None, ahead_ms: int = 0) -> Rig:
    rig = Rig(tmp_path, store or MemoryStore("epoch-1"), clock or Clock(), ahead_ms=ahead_ms)
    rig.node.attachments.disk.files = AttachmentFiles(tmp_path / "attachments")
    return rig.start()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(rig: Rig, session: int, data: bytes) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.ATTACHMENT_BEGIN, digest_of(data), len(data))
    while not told["complete"]:
        at = told["have_bytes"]
        told = rig.call(session, uris.ATTACHMENT_PUT, digest_of(data), at, data[at : at + CHUNK_BYTES])
    return told


def naming(data: bytes, **more: Any) -> dict[str, Any]:
    return {"payload": {"attachment": {"digest": digest_of(data), "size_bytes": len(data)}}, **more}


def sweep(rig: Rig) -> None:
    result_of(Deferred.fromCoroutine(rig.node.attachments.sweep.step()))


def kept(rig: Rig) -> set[str]:
    files = rig.node.attachments.disk.files
    assert files is not None
    return {key[1] for key in (found.key for found in files.scan())}


DATA = bytes(range(256)) * 1000


def test_pieces_that_do_not_join_on_change_nothing(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc = rig.join("dc")
    assert rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(DATA), len(DATA))["have_bytes"] == 0
    put = (uris.ATTACHMENT_PUT, digest_of(DATA))
    assert rig.call(dc, *put, 0, DATA[:100])["have_bytes"] == 100
    for offset in (0, 50, 101):
        assert rig.call(dc, *put, offset, b"wrong")["have_bytes"] == 100
    assert rig.call(dc, *put, 100.0, DATA[100:200])["have_bytes"] == 200
    assert upload(rig, dc, DATA) == {
        "size_bytes": len(DATA),
        "have_bytes": len(DATA),
        "complete": True,
        "chunk_bytes": CHUNK_BYTES,
    }


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("sha256:12", 5), "digest is"),
        ((digest_of(b""), -1), "size_bytes is -1"),
        ((digest_of(b""), True), "size_bytes is true"),
        ((digest_of(b""), 2**31), "size_bytes is 2147483648"),
    ],
)
def test_what_breaks_a_rule_is_refused(tmp_path: Path, args: tuple[Any, ...], sentence: str) -> None:
    rig = rig_in(tmp_path)
    with pytest.raises(ArgumentInvalid, match=sentence):
        rig.call(rig.join("dc"), uris.ATTACHMENT_BEGIN, *args)


def test_a_piece_is_bytes_and_small_and_within_the_whole(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc = rig.join("dc")
    rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(DATA), len(DATA))
    for data, sentence in (("text", "must be bytes"), (b"", "from 1 to"), (bytes(CHUNK_BYTES + 1), "from 1 to")):
        with pytest.raises(ArgumentInvalid, match=sentence):
            rig.call(dc, uris.ATTACHMENT_PUT, digest_of(DATA), 0, data)
    rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(b"abc"), 3)
    with pytest.raises(ArgumentInvalid, match="begun with 3"):
        rig.call(dc, uris.ATTACHMENT_PUT, digest_of(b"abc"), 0, b"abcd")
    with pytest.raises(AttachmentUnknown, match="begin it first"):
        rig.call(dc, uris.ATTACHMENT_PUT, digest_of(b"other"), 0, b"o")


def test_what_is_not_what_its_digest_says_is_thrown_away(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc = rig.join("dc")
    rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(b"right"), 5)
    with pytest.raises(AttachmentDamaged, match="thrown away"):
        rig.call(dc, uris.ATTACHMENT_PUT, digest_of(b"right"), 0, b"wrong")
    assert kept(rig) == set()
    assert upload(rig, dc, b"right")["complete"]


def test_an_empty_file_is_complete_at_once(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc = rig.join("dc")
    assert rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(b""), 0)["complete"]
    rig.send(dc, naming(b"", id="1", to="agni"))
    piece = rig.call(rig.join("agni"), uris.ATTACHMENT_GET, "1", {"from": "dc"})
    assert piece == {"data": b"", "offset": 0, "size_bytes": 0}


def test_who_has_part_in_the_message_may_fetch_and_nobody_else(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc, agni, rushabdev = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    upload(rig, dc, DATA)
    assert rig.send(dc, naming(DATA, id="1", to="agni", type="STATUS"))[0]["status"] == "accepted"
    told = rig.call(agni, uris.ATTACHMENT_OF, "1", {"from": "dc"})
    assert told == {"digest": digest_of(DATA), "size_bytes": len(DATA), "from": "dc", "chunk_bytes": CHUNK_BYTES}
    for session, options in (
        (agni, {"from": "dc/x"}),
        (dc, {}),
        (rig.join("rushabdev", operator=True), {"from": "dc"}),
    ):
        piece = rig.call(session, uris.ATTACHMENT_GET, "1", {**options, "offset": 7, "max_bytes": 5})
        assert piece["data"] == DATA[7:12]
    for question in ((uris.ATTACHMENT_OF, "1", {"from": "dc"}), (uris.ATTACHMENT_GET, "1", {"from": "dc"})):
        with pytest.raises(AttachmentUnknown, match="rushabdev has sent and got no message 1 of dc"):
            rig.call(rushabdev, *question)
    with pytest.raises(AttachmentUnknown):
        rig.call(agni, uris.ATTACHMENT_GET, "2", {"from": "dc"})


def test_a_capabilitys_holder_may_fetch(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.node.principals.may_serve = lambda name, capability: True  # type: ignore[method-assign]
    upload(rig, dc, DATA)
    rig.send(dc, naming(DATA, id="1", to="capability:deploy"))
    with pytest.raises(AttachmentUnknown):
        rig.call(agni, uris.ATTACHMENT_OF, "1", {"from": "dc"})
    rig.attach(agni, capabilities=["deploy"])
    assert rig.ids(agni) == ["1"]
    assert rig.call(agni, uris.ATTACHMENT_OF, "1", {"from": "dc"})["digest"] == digest_of(DATA)


def test_a_message_that_names_what_is_not_there_is_refused_alone(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc = rig.join("dc")
    refused, accepted = rig.send(dc, naming(DATA, id="1", to="agni"), {"id": "2", "to": "agni"})
    assert (refused["status"], refused["error"]) == ("refused", AttachmentUnknown.uri)
    assert accepted["status"] == "accepted"
    upload(rig, dc, DATA)
    assert rig.send(dc, naming(DATA, id="1", to="agni"))[0]["status"] == "accepted"
    assert rig.send(dc, naming(DATA, id="1", to="agni"))[0]["status"] == "duplicate"


def settled(rig: Rig, dc: int, agni: int, message_id: str) -> None:
    rig.send(dc, naming(DATA, id=message_id, to="agni"))
    (delivery,) = rig.pushed(agni)
    assert rig.ack(agni, delivery["token"]) == [True]


def test_it_stays_as_long_as_a_message_that_names_it_is_kept_and_goes_then(tmp_path: Path) -> None:
    store = MemoryStore("epoch-1")
    rig = rig_in(tmp_path, store)
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    upload(rig, dc, DATA)
    rig.send(dc, naming(DATA, id="open", to="agni"))
    (delivery,) = rig.pushed(agni)
    rig.ahead_ms += 30 * HOUR_MS
    sweep(rig)
    assert kept(rig) == {digest_of(DATA)}
    rig.ack(agni, delivery["token"])
    sweep(rig)
    assert rig.node.attachments.told()["links"] == 1
    result_of(store.forget(0, 100, before=rig.now() + 1, dead_before=0, at=rig.now()))
    sweep(rig)
    assert rig.node.attachments.told()["links"] == 0
    assert kept(rig) == set()
    assert rig.node.attachments.told()["bytes"] == 0
    assert result_of(store.remembered("attachment:")) == {}
    # A repeat of the message is still one, though what it names is gone.
    assert rig.send(dc, naming(DATA, id="open", to="agni"))[0]["status"] == "duplicate"


def test_a_file_whose_message_never_came_waits_for_it(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc = rig.join("dc")
    upload(rig, dc, DATA)
    keeping = rig.node.attachments
    write_link = keeping.name("dc", "lost", naming(DATA)["payload"], "messages[0]", None)
    assert write_link is not None
    # As when the store fails behind it.
    write_link()
    rig.ahead_ms += HOUR_MS
    sweep(rig)
    assert (keeping.told()["links"], kept(rig)) == (0, {digest_of(DATA)})
    rig.ahead_ms += HOUR_MS
    sweep(rig)
    assert kept(rig) == set()


def test_a_redacted_messages_file_goes_at_once_unless_another_names_it(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc, agni, office = rig.join("dc"), rig.join("agni"), rig.join("office", operator=True)
    rig.attach(agni)
    upload(rig, dc, DATA)
    for message_id in ("1", "2"):
        settled(rig, dc, agni, message_id)
    redact = (uris.AUDIT_REDACT, "1", {"reason": "a card's number"})
    assert rig.call(office, *redact)["redacted"]
    assert (rig.node.attachments.told()["links"], kept(rig)) == (1, {digest_of(DATA)})
    with pytest.raises(AttachmentUnknown):
        rig.call(agni, uris.ATTACHMENT_GET, "1", {"from": "dc"})
    assert rig.call(agni, uris.ATTACHMENT_GET, "2", {"from": "dc"})["data"]
    assert rig.call(office, uris.AUDIT_REDACT, "2", {"reason": "a card's number"})["redacted"]
    assert (rig.node.attachments.told()["links"], kept(rig)) == (0, set())
    assert rig.node.attachments.told()["bytes"] == 0


def test_a_restart_finds_parts_files_and_links(tmp_path: Path) -> None:
    store, clock = MemoryStore("epoch-1"), Clock()
    rig = rig_in(tmp_path, store, clock)
    dc = rig.join("dc")
    upload(rig, dc, DATA)
    rig.send(dc, naming(DATA, id="a:b", to="agni"))
    other = DATA[::-1]
    rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(other), len(other))
    rig.call(dc, uris.ATTACHMENT_PUT, digest_of(other), 0, other[:1000])
    rig.crash()
    rig = rig_in(tmp_path, store, clock)
    dc, agni = rig.join("dc"), rig.join("agni")
    assert rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(other), len(other))["have_bytes"] == 1000
    assert rig.call(agni, uris.ATTACHMENT_GET, "a:b", {"from": "dc", "max_bytes": 9})["data"] == DATA[:9]
    # The files' own times are of the machine's clock, which is ahead of this one.
    sweep(rig)
    rig.ahead_ms += 24 * HOUR_MS
    sweep(rig)
    assert kept(rig) == {digest_of(DATA)}


def test_a_damaged_file_is_told_counted_and_mended(tmp_path: Path) -> None:
    store, clock = MemoryStore("epoch-1"), Clock()
    rig = rig_in(tmp_path, store, clock)
    dc = rig.join("dc")
    upload(rig, dc, DATA)
    rig.send(dc, naming(DATA, id="1", to="agni"))
    path = tmp_path / "attachments" / "dc" / digest_of(DATA).removeprefix("sha256:")
    path.write_bytes(b"x" + DATA[1:])
    rig.crash()
    rig = rig_in(tmp_path, store, clock)
    dc, agni = rig.join("dc"), rig.join("agni")
    with pytest.raises(AttachmentDamaged, match="is not what its digest says, on the node's disk; have dc send"):
        rig.call(agni, uris.ATTACHMENT_GET, "1", {"from": "dc"})
    assert rig.node.attachments.told()["damaged"] == 1
    upload(rig, dc, DATA)
    assert rig.call(agni, uris.ATTACHMENT_GET, "1", {"from": "dc"})["data"] == DATA[:CHUNK_BYTES]
    path.unlink()
    with pytest.raises(AttachmentDamaged, match="can't be read"):
        rig.call(agni, uris.ATTACHMENT_GET, "1", {"from": "dc"})


def test_a_node_in_memory_takes_none_and_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()
    dc = rig.join("dc")
    assert "attachment_bytes" not in rig.attach(dc)["limits"]
    with pytest.raises(AttachmentsOff, match=r"attachments\.on"):
        rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(DATA), len(DATA))
    assert rig.send(dc, naming(DATA, id="1", to="agni"))[0]["error"] == AttachmentsOff.uri
    assert rig.send(dc, {"id": "2", "to": "agni", "payload": {"attachment": "a.txt"}})[0]["status"] == "accepted"


def test_pieces_are_paced_and_few_of_them_are_under_way(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    dc, agni = rig.join("dc"), rig.join("agni")
    size_bytes = 8 * 1024 * 1024
    data = bytes(size_bytes)
    rig.call(dc, uris.ATTACHMENT_BEGIN, digest_of(data), size_bytes)
    under_way = []
    for at in range(0, size_bytes, CHUNK_BYTES):
        answer = rig.begin(dc, uris.ATTACHMENT_PUT, digest_of(data), at, data[at : at + CHUNK_BYTES])
        if not answer.called:
            under_way.append(answer)
        if len(under_way) == UNDER_WAY:
            break
    # An eighth of a second's bytes at once, and then as they are due.
    assert at == 4 * 1024 * 1024 - CHUNK_BYTES + (UNDER_WAY - 1) * CHUNK_BYTES
    with pytest.raises(RateLimited, match="dc has 8 pieces of attachments under way"):
        rig.call(dc, uris.ATTACHMENT_PUT, digest_of(data), at, b"x")
    # Others have a budget of their own, and messages pass.
    assert upload(rig, agni, DATA)["complete"]
    assert rig.send(dc, {"id": "1", "to": "agni"})[0]["status"] == "accepted"
    rig.clock.advance(UNDER_WAY * CHUNK_BYTES / (32 * 1024 * 1024))
    assert all(answer.called for answer in under_way)
