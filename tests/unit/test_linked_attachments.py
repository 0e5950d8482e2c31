"""Attachments of linked nodes without routers: brought where they are asked for, resumed, and on two nodes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.contract.attached import AttachmentInfo
from trishula.errors import AttachmentAway, AttachmentDamaged, AttachmentsFull, AttachmentUnknown, CopiesUnavailable
from trishula.session.carrying import Road
from trishula_router.attachments.fetching import SILENT_S
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.ledger import Attachment
from trishula_router.attachments.turns import UNDER_WAY, Turns
from trishula_router.attachments.window import LEAST_BYTES, Window
from trishula_router.attachments.words import PIECE_BYTES, WANT_BYTES, Held, Offer, Piece, Want
from trishula_router.peers.journal_exchange import ATTACHMENT
from trishula_router.store.memory import MemoryStore

MIB = 1024 * 1024
DATA = b"".join(hashlib.sha256(index.to_bytes(4, "big")).digest() for index in range(3 * MIB // 32))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Pair(Nodes):
    """Two nodes with disks: dc sends at agni, and agni (the agent) listens at rushabdev."""

    def __init__(self, directory: Path) -> None:
        self.disks = directory
        super().__init__(directory, {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")})
        #: What was said of attachments: (speaker, word's tag).
        self.said: list[tuple[str, str]] = []
        self.lets_through = self._note
        for name in self.rigs:
            self.equip(name)
        self.advance(1.0)
        self.dc = self.rigs["agni"].join("dc")
        self.agni = self.rigs["rushabdev"].join("agni")

    def equip(self, name: str) -> None:
        keeping = self.rigs[name].node.attachments
        keeping.disk.files = AttachmentFiles(self.disks / name / "attachments")
        result_of(Deferred.fromCoroutine(keeping.begin()))

    def _note(self, sender: str, to: str, kind: str) -> bool:
        if kind == ATTACHMENT:
            self.said.append((sender, to))
        return True

    def upload(self, data: bytes = DATA, at: str = "agni", session: int | None = None) -> None:
        rig, session = self.rigs[at], self.dc if session is None else session
        told = self.call(rig, session, uris.ATTACHMENT_BEGIN, digest_of(data), len(data))
        while not told["complete"]:
            offset = told["have_bytes"]
            piece = data[offset : offset + PIECE_BYTES]
            told = self.call(rig, session, uris.ATTACHMENT_PUT, digest_of(data), offset, piece)

    def call(self, rig: Rig, session: int, uri: str, *args: Any) -> Any:
        return self.ended(rig.begin(session, uri, *args))

    def ended(self, answer: Deferred[Any], within_s: float = 30.0) -> Any:
        for _ in range(round(within_s / 0.25)):
            self.settle()
            if answer.called:
                break
            self.advance(0.25)
        return result_of(answer)

    def send(self, message_id: str, data: bytes = DATA, **options: Any) -> dict[str, Any]:
        payload = {"attachment": {"digest": digest_of(data), "size_bytes": len(data)}}
        message = {"type": "STATUS", "id": message_id, "to": "agni", "payload": payload}
        (receipt,) = self.call(self.rigs["agni"], self.dc, uris.MAILBOX_SEND, [message], options or None)
        told: dict[str, Any] = receipt
        return told

    def get(self, message_id: str, offset: int = 0, at: str = "rushabdev", session: int | None = None) -> Any:
        session = self.agni if session is None else session
        return self.call(self.rigs[at], session, uris.ATTACHMENT_GET, message_id, {"from": "dc", "offset": offset})

    def save(self, message_id: str, size_bytes: int = len(DATA)) -> bytes:
        data = b""
        while len(data) < size_bytes:
            try:
                data += self.get(message_id, len(data))["data"]
            except AttachmentAway as error:
                assert error.retry_after_s
                self.advance(error.retry_after_s)
        return data

    def held(self, name: str, data: bytes = DATA) -> Attachment | None:
        return self.rigs[name].node.attachments.ledger.get(("dc", digest_of(data)))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_the_receivers_node_brings_it_and_then_has_it(pair: Pair) -> None:
    pair.upload()
    assert pair.send("1")["copies"] == 2
    assert pair.held("rushabdev") is None, "nobody asked for it"
    told = pair.call(pair.rigs["rushabdev"], pair.agni, uris.ATTACHMENT_OF, "1", {"from": "dc"})
    assert (told["digest"], told["size_bytes"], told["from"]) == (digest_of(DATA), len(DATA), "dc")
    assert pair.save("1") == DATA
    held = pair.held("rushabdev")
    assert held is not None and held.is_complete
    pair.said.clear()
    assert pair.save("1") == DATA
    assert pair.said == [], "it is fetched once"
    told = pair.rigs["rushabdev"].node.attachments.told()
    assert (told["links"], told["complete"], told["fetching"]) == (1, 1, 0)


def test_nobody_has_it_brought_but_who_has_part_in_the_message(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    other = pair.rigs["rushabdev"].join("rushabdev")
    with pytest.raises(AttachmentUnknown, match="rushabdev has sent and got no message 1 of dc"):
        pair.get("1", session=other)
    assert pair.said == []
    office = pair.rigs["rushabdev"].join("office", operator=True)
    assert pair.get("1", session=office)["data"] == DATA[:PIECE_BYTES]


def test_an_empty_one_needs_no_bytes(pair: Pair) -> None:
    pair.upload(b"")
    pair.send("1", b"")
    assert pair.get("1") == {"data": b"", "offset": 0, "size_bytes": 0}


def test_a_peer_that_is_away_is_named_and_it_is_gone_on_with_when_it_is_back(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    through = [40]

    def some(sender: str, to: str, kind: str) -> bool:
        if kind == ATTACHMENT and sender == "agni":
            through[0] -= 1
            return through[0] >= 0
        return True

    pair.lets_through = some
    asking = pair.rigs["rushabdev"].begin(
        pair.agni, uris.ATTACHMENT_GET, "1", {"from": "dc", "offset": 2 * MIB + MIB // 2}
    )
    pair.settle()
    pair.cut()
    for rig, other in (("agni", "rushabdev"), ("rushabdev", "agni")):
        pair.rigs[rig].node.link_lost(other)
    with pytest.raises(
        AttachmentAway, match=r"agni can't be reached\. It is fetched when agni is there again; if agni is"
    ):
        pair.ended(asking)
    held = pair.held("rushabdev")
    assert held is not None
    before = held.have_bytes
    assert 0 < before < len(DATA)
    # What is here is handed out all the same.
    assert pair.get("1")["data"] == DATA[:PIECE_BYTES]
    with pytest.raises(AttachmentAway, match="agni can't be reached"):
        pair.get("1", before)
    wanted: list[int] = []
    pair.heal()
    pair.advance(1.0)
    pair.lets_through = pair._note
    hear = pair.rigs["agni"].node.listener.attachments.receive

    def noted(peer: str, text: bytes) -> None:
        word = msgspec.msgpack.decode(text)
        if word["type"] == "want":
            wanted.append(word["offset"])
        hear(peer, text)

    pair.rigs["agni"].node.listener.attachments.receive = noted  # type: ignore[method-assign]
    assert pair.save("1") == DATA
    assert wanted[0] == before and sorted(wanted) == wanted, "nothing of what was here was asked for again"


def test_the_receivers_node_goes_on_after_its_own_end(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    # The beginning alone is asked for, and the node ends in the midst of it.
    through = [30]

    def some(sender: str, to: str, kind: str) -> bool:
        if kind == ATTACHMENT:
            through[0] -= 1
        return kind != ATTACHMENT or through[0] > 0

    pair.lets_through = some
    assert pair.get("1")["data"] == DATA[:PIECE_BYTES]
    held = pair.held("rushabdev")
    assert held is not None and 0 < held.have_bytes < len(DATA)
    before = held.have_bytes
    pair.down("rushabdev")
    pair.boot("rushabdev")
    pair.equip("rushabdev")
    pair.heal()
    pair.advance(3.0)
    pair.agni = pair.rigs["rushabdev"].join("agni")
    held = pair.held("rushabdev")
    assert held is not None and held.have_bytes == before
    assert pair.save("1") == DATA


def test_a_lost_word_is_made_up_for(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    count = [0]

    def every_fifth(sender: str, to: str, kind: str) -> bool:
        if kind != ATTACHMENT:
            return True
        count[0] += 1
        return bool(count[0] % 5)

    pair.lets_through = every_fifth
    assert pair.save("1") == DATA


def test_a_node_that_never_answers_is_told_as_such(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    pair.lets_through = lambda sender, to, kind: kind != ATTACHMENT
    said = []
    for _ in range(20):
        with pytest.raises(AttachmentAway) as caught:
            pair.get("1")
        said.append(caught.value.sentence)
        pair.advance(SILENT_S / 4)
    assert "0 of 3145728 bytes" in said[0]
    assert any("from agni, which doesn't answer (it may be of an earlier release); ask" in one for one in said)


def test_what_its_node_has_no_more_is_to_be_sent_again_and_may_be_to_this_node(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    at_agni = pair.rigs["agni"].node.attachments
    assert at_agni.disk.files is not None
    at_agni.disk.files.delete(("dc", digest_of(DATA)), len(DATA))
    at_agni.ledger.forget(("dc", digest_of(DATA)))
    with pytest.raises(AttachmentUnknown, match=r"agni it has no such file of dc, or has let it go\. Have dc send"):
        pair.get("1")
    pair.upload(at="rushabdev", session=pair.rigs["rushabdev"].join("dc"))
    assert pair.save("1") == DATA


def test_a_copy_that_the_disk_damaged_is_fetched_anew(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    assert pair.save("1") == DATA
    path = pair.disks / "rushabdev" / "attachments" / "dc" / digest_of(DATA).removeprefix("sha256:")
    path.write_bytes(DATA[:-1])
    pair.rigs["rushabdev"].node.attachments.disk.look_again(("dc", digest_of(DATA)))
    with pytest.raises(AttachmentAway, match="first it is fetched again"):
        pair.get("1")
    assert pair.save("1") == DATA
    # Of what its own node has damaged there is no other.
    (pair.disks / "agni" / "attachments" / "dc" / digest_of(DATA).removeprefix("sha256:")).write_bytes(b"")
    pair.rigs["agni"].node.attachments.disk.look_again(("dc", digest_of(DATA)))
    with pytest.raises(AttachmentDamaged):
        pair.get("1", at="agni", session=pair.dc)


def test_what_is_beyond_the_quotas_here_is_not_brought(pair: Pair, tmp_path: Path) -> None:
    pair.upload()
    pair.send("1")
    ledger = pair.rigs["rushabdev"].node.attachments.ledger
    ledger.put(("dc", digest_of(b"other")), Attachment(2**31, 2**31, True, 0))
    with pytest.raises(AttachmentsFull, match=r"the attachments of dc take 2 GiB at this node"):
        pair.get("1")


def test_a_redacted_messages_copy_goes_at_once(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    assert pair.save("1") == DATA
    there = pair.rigs["rushabdev"]
    there.attach(pair.agni)
    (delivery,) = there.pushed(pair.agni)
    there.ack(pair.agni, delivery["token"])
    pair.settle()
    office = pair.rigs["agni"].join("office", operator=True)
    assert pair.call(pair.rigs["agni"], office, uris.AUDIT_REDACT, "1", {"reason": "a card's number"})["redacted"]
    pair.advance(1.0)
    for name in pair.rigs:
        assert (pair.held(name), pair.rigs[name].node.attachments.told()["links"]) == (None, 0)
        assert not list((pair.disks / name / "attachments").rglob("*"))


# -- two copies --------------------------------------------------------------------------------------------------------


def test_who_insists_on_two_copies_of_the_message_has_two_of_the_file(pair: Pair) -> None:
    pair.upload()
    receipt = pair.send("1", copies=2)
    assert (receipt["status"], receipt["error"]) == ("refused", CopiesUnavailable.uri)
    assert "3 MiB" in receipt["detail"] and "it is being copied to rushabdev" in receipt["detail"]
    assert receipt["retry_after_s"]
    for _ in range(20):
        pair.advance(1.0)
        receipt = pair.send("1", copies=2)
        if receipt["status"] == "accepted":
            break
    held = pair.held("rushabdev")
    assert held is not None and held.is_complete
    assert (receipt["status"], receipt["copies"]) == ("accepted", 2)
    # The node that took it may be gone for good.
    pair.cut()
    assert pair.save("1") == DATA
    assert pair.send("1", copies=1)["status"] == "duplicate"


def test_a_peer_that_takes_no_copy_says_why(pair: Pair) -> None:
    pair.upload()
    ledger = pair.rigs["rushabdev"].node.attachments.ledger
    ledger.put(("dc", digest_of(b"other")), Attachment(2**31, 2**31, True, 0))
    pair.send("1", copies=2)
    pair.advance(1.0)
    receipt = pair.send("1", copies=2)
    assert "rushabdev doesn't take it: the attachments of dc take 2 GiB" in receipt["detail"]


def test_an_offered_file_whose_message_never_comes_is_let_go(pair: Pair) -> None:
    pair.upload()
    pair.send("1", copies=2)
    pair.advance(3.0)
    there = pair.rigs["rushabdev"]
    held = pair.held("rushabdev")
    assert held is not None and held.is_complete
    for _ in range(2):
        there.ahead_ms += 3_600_000
        result_of(Deferred.fromCoroutine(there.node.attachments.sweep.step()))
    assert pair.held("rushabdev") is None


# -- what a peer says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"type": "want", "agent": "dc", "digest": "sha256:1"}),
        msgspec.msgpack.encode({"type": "nothing"}),
        msgspec.msgpack.encode(Want("../dc", digest_of(b""), 1, 0, 1)),
        msgspec.msgpack.encode(Want("dc", digest_of(b""), 1, -1, 1)),
        msgspec.msgpack.encode(Want("dc", digest_of(b""), 1, 0, WANT_BYTES + 1)),
        msgspec.msgpack.encode(Piece("dc", digest_of(b""), 0, bytes(PIECE_BYTES + 1))),
        msgspec.msgpack.encode(Piece("dc", digest_of(b""), 0, bytes(10 * MIB))),
        msgspec.msgpack.encode(Offer("nobody", digest_of(b""), "1", AttachmentInfo(digest_of(b""), 0))),
        msgspec.msgpack.encode(Offer("dc", digest_of(b"a"), "1", AttachmentInfo(digest_of(b""), 0))),
        msgspec.msgpack.encode(Offer("dc", digest_of(b""), "../1", AttachmentInfo(digest_of(b""), 0))),
    ],
)
def test_what_cant_be_true_is_noted_and_changes_nothing(pair: Pair, word: bytes) -> None:
    there = pair.rigs["rushabdev"].node
    before = there.attachments.told()
    refusals: list[Any] = []
    there.listener._refused = lambda *facts: refusals.append(facts)
    there.listener.hear(ATTACHMENT, word, "agni")
    pair.settle()
    assert len(refusals) == 1 and refusals[0][0] == "agni"
    assert there.attachments.told() == before


def test_pieces_that_nobody_asked_for_are_dropped(pair: Pair) -> None:
    there = pair.rigs["rushabdev"].node
    for word in (Piece("dc", digest_of(DATA), 0, DATA[:100]), Held("dc", digest_of(DATA))):
        there.listener.hear(ATTACHMENT, msgspec.msgpack.encode(word), "agni")
    pair.settle()
    assert pair.held("rushabdev") is None


def test_a_file_waits_for_the_journal_on_the_link_though_not_for_ever(pair: Pair) -> None:
    pair.upload()
    pair.send("1")
    full = [Road(10 * MIB, True, 0.0)]
    pair.rigs["agni"].node.peering.road_to = lambda peer: full[0]
    asking = pair.rigs["rushabdev"].begin(pair.agni, uris.ATTACHMENT_GET, "1", {"from": "dc"})
    pair.settle()
    assert not any(sender == "agni" for sender, _ in pair.said)
    pair.advance(2.5)
    assert 1 <= sum(sender == "agni" for sender, _ in pair.said) <= 3
    # What is sent lately is not known to have arrived, and is not on its way any more.
    full[0] = Road(10 * MIB, False, 0.0)
    assert pair.ended(asking)["data"] == DATA[:PIECE_BYTES]


# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_window_follows_the_link() -> None:
    window = Window()
    for _ in range(20):
        window.measured(0.01)
    assert window.size_bytes == WANT_BYTES
    for _ in range(20):
        window.measured(2.0)
    assert window.size_bytes == LEAST_BYTES
    window.measured(0.2)
    assert window.size_bytes == LEAST_BYTES
    for _ in range(20):
        window.measured(0.01)
    window.missed()
    assert window.size_bytes == LEAST_BYTES


def test_each_agent_has_its_turn_however_many_wait_before_it() -> None:
    turns, ends, began = Turns(), list[Deferred[None]](), list[str]()

    async def fetch(agent: str, name: str) -> None:
        async with turns.turn("agni", agent):
            began.append(name)
            end: Deferred[None] = Deferred()
            ends.append(end)
            await end

    all_of_them = [Deferred.fromCoroutine(fetch("dc", f"dc {index}")) for index in range(10)]
    all_of_them.append(Deferred.fromCoroutine(fetch("agni", "agni")))
    assert began == ["dc 0", "dc 1"]
    while ends:
        ends.pop(0).callback(None)
        assert len(ends) <= UNDER_WAY
    assert began.index("agni") == 3 and began[4:] == [f"dc {index}" for index in range(3, 10)]
    assert all(one.called for one in all_of_them)
    # Whoever fails lets the next one go on.
    first = Deferred.fromCoroutine(fetch("dc", "again"))
    ends.pop().errback(ValueError())
    with pytest.raises(ValueError):
        result_of(first)
    Deferred.fromCoroutine(fetch("dc", "after"))
    assert began[-1] == "after"
