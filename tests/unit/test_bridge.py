"""A bridge at a real folder, with a bus that the test plays: hostile files, refusals, a folder that can't be used."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.task import Clock

from trishula.contract.message import Message
from trishula.contract.receipts import Receipt
from trishula.errors import MailboxFull, RecipientUnknown, TrishulaError
from trishula.files.bridge import Bridge
from trishula.files.bridging import PATIENCE_S
from trishula.files.folder import Folder
from trishula.files.v1 import Names
from trishula.runtime.pending import Pending, start

T = TypeVar("T")
#: 2026-02-10, 00:02:00 UTC.
AT_MS = 1_770_681_720_000


def file_of(message_id: str = "20260210T000200Z_mac_agni_x", **changed: Any) -> bytes:
    """A file as an agent of v1 writes it."""
    fields = {
        "id": message_id, "from": "agni", "to": "mac", "type": "status", "priority": "normal", "subject": "s",
        "body": "hello", "timestamp": "2026-02-10T00:02:00Z", "reply_to": None, **changed,
    }  # fmt: skip
    return json.dumps(fields).encode()


def at_once(work: Callable[[], T]) -> Pending[T]:
    outcome: Pending[T] = Pending()
    try:
        outcome.resolve(work())
    except Exception as error:
        outcome.reject(error)
    return outcome


class NoWatch:
    """A file system that tells of no change: the scan alone must do."""

    def renew(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""


class Rig:
    """A bridge that runs; its node takes everything unless :attr:`refusal` says otherwise."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.clock = clock
        self.root = root
        self.sent: list[dict[str, Any]] = []
        self.waiting: list[tuple[dict[str, Any], Pending[Receipt]]] = []
        self.refusal: TrishulaError | None = None
        self.answers = True
        self.tell: Callable[[], object] = lambda: None
        self.begin()

    def begin(self) -> None:
        """A process of the bridge begins."""
        self.folder = Folder(self.root, stable_s=0.5, seconds=self.clock.seconds)
        self.folder.prepare()
        self.bridge = Bridge(
            "agni",
            self.folder,
            Names(),
            post=self.post,
            clock=self.clock,
            now_ms=lambda: AT_MS + int(self.clock.seconds() * 1000),
            in_thread=at_once,
            wake_in_reactor=lambda wake: wake(),
            watch=self.watched,
        )
        self.running = start(self.bridge.run())

    def watched(self, directory: Path, changed: Callable[[], object]) -> NoWatch:
        self.tell = changed
        return NoWatch()

    def end(self) -> None:
        stopped = start(self.bridge.stop())
        self.pass_s(1.0)
        assert stopped.done
        assert self.running.error is None

    def post(self, wire: Mapping[str, Any], held: Callable[[TrishulaError], object]) -> Pending[Receipt]:
        self.sent.append(dict(wire))
        outcome: Pending[Receipt] = Pending()
        if self.refusal is not None and self.refusal.temporary:
            held(self.refusal)
            self.waiting.append((dict(wire), outcome))
        elif self.refusal is not None:
            outcome.reject(self.refusal)
        elif self.answers:
            outcome.resolve(Receipt(wire["id"], "accepted"))
        else:
            self.waiting.append((dict(wire), outcome))
        return outcome

    def pass_s(self, seconds: float) -> None:
        step_s = 0.05 if seconds < 10 else 0.25
        self.clock.pump([step_s] * round(seconds / step_s))

    def put(self, name: str, data: bytes) -> None:
        (self.root / "outbox" / name).write_bytes(data)

    def files(self, part: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / part).rglob("*") if path.is_file()}

    def why(self, name: str) -> str:
        return (self.root / "rejected" / f"{name}.why.txt").read_text()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "agni", Clock())
    yield made
    made.end()


def test_a_file_of_the_outbox_is_sent_and_archived_with_its_receipt(rig: Rig) -> None:
    rig.answers = False
    rig.put("x.json", file_of())
    rig.pass_s(6)
    (message,) = rig.sent
    assert (message["id"], message["to"], message["payload"]) == ("20260210T000200Z_mac_agni_x", "dc", "hello")
    assert message["timestamp"] == AT_MS
    assert "from" not in message
    assert rig.files("outbox").keys() == {"x.json"}
    assert rig.files("archive") == {}
    rig.waiting[0][1].resolve(Receipt(message["id"], "accepted"))
    rig.pass_s(1)
    assert rig.files("outbox") == {}
    assert (rig.root / "archive" / "2026-02-10" / "x.json").read_bytes() == file_of()
    assert len(rig.sent) == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.json", b""),
        ("partial.json", file_of()[:-20]),
        ("no_json.json", b"hello"),
        ("a_list.json", b"[1, 2]"),
        ("latin1.json", file_of(body="x").replace(b'"x"', b'"\xe9"')),
        ("utf16.json", file_of().decode().encode("utf-16")),
        ("zeros.json", bytes(4096)),
        ("deep.json", b'{"body":' + b"[" * 100_000),
        ("no_id.json", b'{"from": "agni", "to": "mac", "type": "status", "body": 1}'),
        ("up.json", file_of("../../../etc/passwd")),
        ("dots.json", file_of("..")),
        ("nul.json", file_of("a\0b")),
        ("no_type.json", file_of(type="")),
        ("wrong_to.json", file_of(to="../x")),
    ],
)
def test_what_is_no_message_is_rejected_with_a_sentence_and_does_not_loop(rig: Rig, name: str, data: bytes) -> None:
    rig.put(name, data)
    rig.put("good.json", file_of("good"))
    rig.pass_s(6)
    assert [message["id"] for message in rig.sent] == ["good"]
    rig.pass_s(PATIENCE_S + 6)
    assert rig.files("outbox") == {}
    assert rig.files("rejected")[name] == data
    sentence = rig.why(name)
    assert sentence.endswith("\n")
    assert sentence.count("\n") == 1
    assert len(sentence) > 20
    rig.pass_s(30)
    assert rig.files("rejected").keys() == {name, f"{name}.why.txt"}
    assert len(rig.sent) == 1


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbf" + file_of(), file_of().replace(b", ", b",\r\n"), b"\r\n " + file_of() + b"\r\n"]
)
def test_a_byte_order_mark_and_other_ends_of_lines_don_t_matter(rig: Rig, data: bytes) -> None:
    rig.put("x.json", data)
    rig.pass_s(6)
    assert [message["payload"] for message in rig.sent] == ["hello"]
    assert rig.files("outbox") == {}


def test_a_file_that_is_written_slowly_is_sent_when_it_is_whole(rig: Rig) -> None:
    data = file_of()
    for end in range(20, len(data), 20):
        rig.put("x.json", data[:end])
        rig.pass_s(3)
    assert rig.sent == []
    rig.put("x.json", data)
    rig.pass_s(6)
    assert len(rig.sent) == 1
    assert rig.files("rejected") == {}


def test_a_huge_file_is_rejected_without_being_read_whole(rig: Rig) -> None:
    with (rig.root / "outbox" / "x.json").open("wb") as file:
        file.truncate(50_000_000_000)
    rig.pass_s(6)
    assert rig.sent == []
    assert "larger than" in rig.why("x.json")


def test_names_that_differ_in_case_only_and_reserved_ones_are_messages_like_others(rig: Rig) -> None:
    for name in ("A.json", "a.json", "aux.json", "CON.json"):
        rig.put(name, file_of(name.partition(".")[0]))
    rig.pass_s(6)
    assert sorted(message["id"] for message in rig.sent) == ["A", "CON", "a", "aux"]
    assert rig.files("archive").keys() == {"A.json", "a.json", "aux.json", "CON.json"}


def test_messages_of_others_are_not_sent(rig: Rig) -> None:
    rig.put("x.json", file_of(**{"from": "mac"}))
    rig.pass_s(6)
    assert rig.sent == []
    assert "'from' says \"dc\", and this outbox is agni's" in rig.why("x.json")


def test_what_the_node_refuses_for_good_lies_in_rejected_with_its_sentence(rig: Rig) -> None:
    rig.refusal = RecipientUnknown('messages[0].to is "nobody"; no agent of that name is registered')
    rig.put("x.json", file_of(to="nobody"))
    rig.pass_s(6)
    assert rig.why("x.json") == 'messages[0].to is "nobody"; no agent of that name is registered\n'
    assert rig.files("rejected")["x.json"] == file_of(to="nobody")
    assert rig.files("outbox") == {}


def test_what_the_node_refuses_for_now_stays_and_the_outbox_has_it(rig: Rig) -> None:
    rig.refusal = MailboxFull("the mailbox of dc is full")
    rig.put("x.json", file_of())
    rig.pass_s(60)
    assert len(rig.sent) == 1
    assert rig.files("outbox").keys() == {"x.json"}
    rig.refusal = None
    rig.waiting[0][1].resolve(Receipt("x", "accepted"))
    rig.pass_s(1)
    assert rig.files("archive").keys() == {"x.json"}


def test_a_file_that_is_brought_again_is_not_sent_again_also_after_a_restart(rig: Rig) -> None:
    # As rsync without --remove-source-files does it.
    for _ in range(3):
        rig.put("x.json", file_of())
        rig.pass_s(6)
    rig.end()
    rig.begin()
    rig.put("x.json", file_of())
    rig.pass_s(60)
    assert len(rig.sent) == 1
    assert rig.files("outbox") == {}
    assert rig.files("archive").keys() == {"x.json"}


def test_what_was_under_way_at_a_restart_is_offered_again(rig: Rig) -> None:
    rig.answers = False
    rig.put("x.json", file_of())
    rig.pass_s(6)
    rig.end()
    rig.answers = True
    rig.begin()
    rig.pass_s(6)
    # Under its own id: the node knows it.
    assert [message["id"] for message in rig.sent] == ["20260210T000200Z_mac_agni_x"] * 2
    assert rig.files("archive").keys() == {"x.json"}


def test_the_archive_forgets_after_its_days(rig: Rig) -> None:
    rig.put("x.json", file_of())
    rig.pass_s(6)
    assert rig.files("archive").keys() == {"x.json"}
    old = rig.root / "archive" / "2026-01-10"
    (rig.root / "archive" / "2026-02-10").rename(old)
    rig.clock.advance(3600)
    rig.pass_s(1)
    assert not old.exists()


def test_a_message_is_delivered_when_its_file_is_on_the_disk(rig: Rig) -> None:
    message = Message(type="COMMAND", id="c1", to="agni", sender="dc", procedure="report", payload={"args": []})
    delivered = start(rig.bridge.deliver(message))
    assert delivered.result() in {f"inbox/{name}" for name in rig.files("inbox")}
    (data,) = rig.files("inbox").values()
    assert json.loads(data)["id"] == "c1"
    # Delivered again, while the agent has not taken it: it is the same file.
    again = start(rig.bridge.deliver(message))
    assert again.result() == delivered.result()
    assert len(rig.files("inbox")) == 1


def test_a_message_waits_for_a_folder_that_is_full(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trishula")

    def no_room(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        delivered = start(rig.bridge.deliver(Message(type="STATUS", id="m1", to="agni", sender="dc")))
        rig.pass_s(60)
        waits = not delivered.done
        assert rig.files("inbox") == {}
    rig.pass_s(2)
    assert (waits, delivered.done) == (True, True)
    assert len(rig.files("inbox")) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len([one for one in said if "No space left on device" in one]) == 1
    assert len([one for one in said if "the inbox is in use again" in one]) == 1


def test_a_folder_that_vanishes_is_said_once_and_used_again_when_it_is_back(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trishula")
    rig.put("x.json", file_of())
    rig.root.rename(rig.root.with_name("away"))
    rig.pass_s(60)
    assert not rig.root.exists()
    rig.root.with_name("away").rename(rig.root)
    rig.pass_s(6)
    assert len(rig.sent) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len([one for one in said if "is gone; mount its disk" in one]) == 1
    assert len([one for one in said if "the outbox is in use again" in one]) == 1


def test_what_can_t_be_archived_is_not_sent_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put("x.json", file_of())

    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        rig.pass_s(60)
        assert rig.files("outbox").keys() == {"x.json"}
    rig.pass_s(3)
    assert rig.files("archive").keys() == {"x.json"}
    assert len(rig.sent) == 1


def test_word_of_a_change_makes_it_look_at_once(rig: Rig) -> None:
    rig.pass_s(1)
    rig.put("x.json", file_of())
    rig.tell()
    # One look sees it, the next one finds it unchanged.
    rig.pass_s(0.8)
    assert len(rig.sent) == 1
