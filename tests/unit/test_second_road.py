"""An agent with a folder: files beside a node, against a connection that the test drives and a folder on the disk."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.faketransport import NOW_MS, FakeConnection, FakeLink, settings, surroundings
from trishula.agent import Agent
from trishula.contract import uris
from trishula.contract.deliveries import current_delivery
from trishula.contract.message import Message
from trishula.errors import BusUnreachable, FallbackOn, OutcomeUnknown
from trishula.files.mail_folder import MailFolder
from trishula.files.signature import FileKey
from trishula.files.v1 import file_name_of
from trishula.runtime.pending import Pending, start

INBOX = "trishula.agent.agni.inbox"


class Setup:
    """The agent *agni* with a folder, and *dc*, which writes files by hand."""

    def __init__(self, clock: Clock, tmp_path: Path) -> None:
        self.clock = clock
        self.directory = tmp_path / "agni"
        self.dc = MailFolder(tmp_path / "dc", "dc", "dc.secret", seconds=clock.seconds)
        self.dc.prepare()
        self.state = tmp_path / "state"
        self.connection = FakeConnection()
        self.modes: list[str] = []
        self.heard: list[str] = []
        self.sent: list[Pending[Any]] = []
        self.numbers = 0
        self.agent = self.make()
        self.directory.mkdir()
        self.know("dc")

    def make(self) -> Agent:
        agent = Agent("agni", window=4)
        agent.on_mode(self.modes.append)

        @agent.on("STATUS")
        def heard(message: Message) -> None:
            self.heard.append(message.id)

        @agent.procedure()
        def double(number: int) -> int:
            return 2 * number

        return agent

    def know(self, agent: str) -> None:
        key = FileKey.from_token(f"{agent}.secret").public
        (self.directory / "keys.json").write_text(json.dumps({agent: [key.hex()]}))

    def start(self) -> Pending[None]:
        chosen = dataclasses.replace(settings("agni"), files=self.directory)
        around = surroundings(self.clock)
        self.started = start(self.agent.start(chosen, around=around, connection=self.connection, state=str(self.state)))
        return self.started

    def send(self, message_id: str, **fields: Any) -> Pending[Any]:
        self.sent.append(self.agent.send("dc", id=message_id, **fields))
        return self.sent[-1]

    def join(self) -> FakeLink:
        self.start()
        link = self.connection.join()
        self.turn()
        return link

    def fall_back(self) -> None:
        self.start()
        self.pass_s(2.1)

    def turn(self) -> None:
        self.clock.pump([0, 0, 0, 0])

    def pass_s(self, span_s: float) -> None:
        for _ in range(round(span_s * 10)):
            self.clock.advance(0.1)
        self.turn()

    def files(self, part: str) -> list[str]:
        return sorted(path.name for path in (self.directory / part).rglob("*") if path.is_file())

    def read(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.directory / "outbox" / name).read_text())
        return read

    def file(self, message_id: str, *, by: str = "dc", **fields: Any) -> str:
        """A file of dc comes into the inbox."""
        self.numbers += 1
        now_ms = NOW_MS + int(self.clock.seconds() * 1000)
        wire = {"type": "STATUS", "id": message_id, "to": "agni", "timestamp": now_ms, **fields}
        folder = (
            self.dc if by == "dc" else MailFolder(self.dc.directory, by, f"{by}.secret", seconds=self.clock.seconds)
        )
        folder.write(msgspec.msgpack.encode(wire), self.numbers, 0)
        name = file_name_of(message_id, by)
        shutil.move(self.dc.directory / "outbox" / name, self.directory / "inbox" / name)
        return name

    def deliver(self, link: FakeLink, message_id: str, **fields: Any) -> None:
        self.numbers += 1
        message = {"type": "STATUS", "id": message_id, "to": "agni", "from": "dc", "payload": None, **fields}
        link.push(INBOX, {"message": message, "attempt": 1, "token": f"{self.numbers}.1"})
        self.turn()


@pytest.fixture
def setup(clock: Clock, tmp_path: Path) -> Iterator[Setup]:
    made = Setup(clock, tmp_path)
    yield made
    for sent in made.sent:
        sent.when_done(lambda pending: pending.error)
    stopped = start(made.agent.stop(grace_s=0.0))
    clock.pump([0, 0.02, 0, 2.0, 0.02, 0])
    assert stopped.done
    made.agent.over.when_done(lambda pending: pending.error)
    made.started.when_done(lambda pending: pending.error)


def acked(link: FakeLink) -> int:
    return sum(len(tokens) for (tokens,) in link.args_of(uris.MAILBOX_ACK))


# -- the mode ----------------------------------------------------------------------------------------------------------


def test_an_agent_that_finds_no_node_starts_in_fallback(setup: Setup) -> None:
    started = setup.start()
    setup.pass_s(1.9)
    assert (started.done, setup.agent.mode) == (False, "degraded")
    setup.pass_s(0.2)
    assert started.done and started.error is None
    assert (setup.agent.mode, setup.modes) == ("fallback", ["fallback"])


def test_start_still_gives_up_where_that_is_sooner(setup: Setup) -> None:
    chosen = dataclasses.replace(settings("agni"), files=setup.directory)
    setup.started = start(
        setup.agent.start(chosen, around=surroundings(setup.clock), connection=setup.connection, timeout=1.0)
    )
    setup.pass_s(1.1)
    assert isinstance(setup.started.error, BusUnreachable)


def test_each_change_of_mode_is_told(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    setup.join()
    setup.connection.lose()
    setup.pass_s(2.1)
    setup.connection.join()
    setup.turn()
    assert setup.modes == ["live", "degraded", "fallback", "live"]
    lines = [record.getMessage() for record in caplog.records]
    assert (
        f"agni is in fallback: no node is there, and each message of its outbox is written to {setup.directory} "
        "as well" in lines
    )
    assert lines.count("agni is live: its messages go to its node") == 2


def test_without_a_folder_an_agent_is_live_or_degraded(setup: Setup) -> None:
    setup.started = start(
        setup.agent.start(settings("agni"), around=surroundings(setup.clock), connection=setup.connection, state=None)
    )
    setup.pass_s(5.0)
    assert (setup.started.done, setup.agent.mode) == (False, "degraded")
    setup.connection.join()
    setup.turn()
    setup.connection.lose()
    setup.pass_s(60.0)
    assert setup.modes == ["live", "degraded"]


def test_the_bus_says_that_it_is_in_fallback_and_live_again(setup: Setup) -> None:
    link = setup.join()
    link.topics[uris.EVENT_FALLBACK]({"mode": "fallback", "sends": True, "reason": "loss", "by": "n", "since": 1})
    setup.send("1.0000000000000000")
    setup.turn()
    assert setup.agent.mode == "fallback"
    # Sends go on, so the node has it, and the file is withdrawn at once.
    assert len(link.sent()) == 1
    link.holding.add(uris.MAILBOX_SEND)
    setup.send("2.0000000000000000")
    setup.turn()
    assert setup.files("outbox") == ["2.0000000000000000.json"]
    link.topics[uris.EVENT_FALLBACK]({"mode": "live", "sends": True, "reason": "", "by": "n", "since": 2})
    setup.send("3.0000000000000000")
    setup.turn()
    assert setup.agent.mode == "live"
    assert setup.files("outbox") == ["2.0000000000000000.json"]


def test_a_refusal_tells_of_the_fallback_too(setup: Setup) -> None:
    link = setup.join()
    link.holding.add(uris.MAILBOX_SEND)
    sent = setup.send("1.0000000000000000")
    setup.turn()
    refusal = {"id": "1.0000000000000000", "status": "refused", "node": "single", "error": FallbackOn.uri}
    link.open_calls(uris.MAILBOX_SEND)[0].answer.resolve([{**refusal, "detail": "closed", "retry_after_s": 5.0}])
    setup.turn()
    assert setup.agent.mode == "fallback"
    assert setup.files("outbox") == ["1.0000000000000000.json"]
    assert not sent.done


def test_the_node_that_an_agent_joins_tells_the_mode_of_the_bus(setup: Setup) -> None:
    setup.start()
    usual = FakeLink.usual

    def prepare(link: FakeLink) -> None:
        def told(asked: Any) -> Any:
            answer = usual(link, asked)
            if asked.uri == uris.MAILBOX_ATTACH:
                answer["fallback"] = {"mode": "fallback", "sends": False, "reason": "r", "by": "dc", "since": 1}
            return answer

        link.usual = told  # type: ignore[method-assign]

    setup.connection.join(prepare=prepare)
    setup.turn()
    assert setup.modes == ["live", "fallback"]


def test_the_agents_own_function_hears_of_the_mode_of_the_bus_as_well(setup: Setup) -> None:
    told: list[Any] = []
    setup.agent.subscribe(uris.EVENT_FALLBACK, told.append)
    link = setup.join()
    link.topics[uris.EVENT_FALLBACK]({"mode": "fallback"})
    assert told == [{"mode": "fallback"}]
    assert setup.agent.mode == "fallback"


# -- out ---------------------------------------------------------------------------------------------------------------


def test_in_fallback_what_waits_and_what_comes_is_filed_once(setup: Setup) -> None:
    setup.start()
    setup.send("1.0000000000000000", payload={"a": 1})
    setup.turn()
    assert not setup.directory.joinpath("outbox", "1.0000000000000000.json").exists()
    setup.pass_s(2.1)
    setup.send("own")
    setup.turn()
    assert setup.files("outbox") == sorted(["1.0000000000000000.json", file_name_of("own", "agni")])
    # A mover takes them: they are not written again.
    for path in (setup.directory / "outbox").iterdir():
        path.unlink()
    setup.pass_s(30.0)
    assert setup.files("outbox") == []


def test_the_node_gets_them_when_it_is_back_and_what_nobody_moved_is_withdrawn(setup: Setup) -> None:
    setup.fall_back()
    sent = [setup.send(f"{number}.0000000000000000") for number in (1, 2)]
    setup.turn()
    assert len(setup.files("outbox")) == 2
    link = setup.connection.join()
    setup.turn()
    assert [message["id"] for message in link.sent()] == ["1.0000000000000000", "2.0000000000000000"]
    assert all(one.done and one.error is None for one in sent)
    assert setup.files("outbox") == []


def test_whoever_gives_up_a_message_in_a_file_is_told_that_somebody_may_have_it(setup: Setup) -> None:
    setup.fall_back()
    sent = setup.agent.send("dc", timeout=3.0)
    setup.pass_s(3.1)
    assert isinstance(sent.error, OutcomeUnknown)


def test_a_folder_that_is_gone_is_told_of_and_used_again_when_it_is_back(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.fall_back()
    aside = setup.directory.with_name("aside")
    setup.directory.rename(aside)
    setup.send("1.0000000000000000")
    setup.pass_s(10.0)
    assert len([one for one in caplog.messages if "can't use its folder" in one]) == 1
    aside.rename(setup.directory)
    setup.pass_s(4.0)
    assert setup.files("outbox") == ["1.0000000000000000.json"]


def test_a_file_carries_the_place_of_its_message_and_who_sent_it(setup: Setup, tmp_path: Path) -> None:
    setup.fall_back()
    for number in range(3):
        setup.send(f"{number}.0000000000000000", payload=number)
    setup.turn()
    other = MailFolder(tmp_path / "other", "dc", "dc.secret", unsigned=["agni"], seconds=setup.clock.seconds)
    other.prepare()
    for path in (setup.directory / "outbox").iterdir():
        shutil.copy(path, tmp_path / "other" / "inbox")
    other.read((), NOW_MS)
    setup.clock.advance(1.0)
    arrived = [one.message for one in other.read((), NOW_MS)]
    assert [(message.sender, message.payload) for message in arrived] == [("agni", 0), ("agni", 1), ("agni", 2)]
    assert [message.seq for message in arrived] == [1, 2, 3]


# -- in ----------------------------------------------------------------------------------------------------------------


def test_a_file_runs_its_handler_in_fallback_and_goes_to_the_archive(setup: Setup) -> None:
    setup.fall_back()
    name = setup.file("m1")
    setup.pass_s(3.0)
    assert setup.heard == ["m1"]
    assert (setup.files("inbox"), setup.files("archive")) == ([], [name])


def test_a_file_is_read_while_there_is_a_node_as_well(setup: Setup) -> None:
    link = setup.join()
    setup.file("m1")
    setup.pass_s(7.0)
    assert setup.heard == ["m1"]
    assert acked(link) == 0
    assert setup.files("inbox") == []


def test_what_comes_by_both_roads_runs_once(setup: Setup) -> None:
    setup.fall_back()
    setup.file("m1")
    setup.pass_s(3.0)
    link = setup.connection.join()
    setup.turn()
    setup.deliver(link, "m1")
    setup.deliver(link, "m2")
    name = setup.file("m2")
    setup.pass_s(7.0)
    assert setup.heard == ["m1", "m2"]
    assert acked(link) == 2
    assert name in setup.files("archive")
    assert setup.files("inbox") == []


def test_files_of_a_sender_run_in_its_order(setup: Setup) -> None:
    setup.fall_back()
    for name in "zyxwvutsrq":
        setup.file(name)
    setup.pass_s(3.0)
    assert setup.heard == list("zyxwvutsrq")


def test_a_file_is_in_hand_until_its_handler_is_through_also_over_the_loss_of_a_session(setup: Setup) -> None:
    through: Deferred[None] = Deferred()
    begun: list[int] = []

    @setup.agent.on("STATUS", subject="slow")
    def slow(message: Message) -> Deferred[None]:
        current = current_delivery()
        begun.append(0 if current is None else current.attempt)
        return through

    setup.join()
    setup.file("m1", subject="slow")
    setup.pass_s(7.0)
    setup.connection.lose()
    setup.pass_s(20.0)
    assert (begun, setup.files("archive")) == ([1], [])
    through.callback(None)
    setup.turn()
    assert len(setup.files("archive")) == 1


def test_a_handler_that_fails_gets_its_file_again_and_then_it_is_rejected(setup: Setup) -> None:
    attempts: list[int] = []

    @setup.agent.on("STATUS", subject="bad")
    def bad(message: Message) -> None:
        current = current_delivery()
        attempts.append(0 if current is None else current.attempt)
        raise ValueError("no")

    setup.fall_back()
    name = setup.file("m1", subject="bad")
    setup.pass_s(60.0)
    assert attempts == [1, 2, 3, 4, 5]
    assert setup.files("rejected") == [name, f"{name}.why.txt"]
    why = (setup.directory / "rejected" / f"{name}.why.txt").read_text()
    assert why == "it failed 5 times, the last time so: bad raised ValueError: no\n"


def test_a_command_in_a_file_is_answered_by_a_file_and_put_away(setup: Setup) -> None:
    setup.fall_back()
    name = setup.file("c1", type="COMMAND", procedure="double", payload={"args": [21], "kwargs": {}})
    setup.pass_s(3.0)
    [reply] = setup.files("outbox")
    assert setup.files("archive") == [name]
    setup.connection.join()
    setup.turn()
    link = setup.connection.links[-1]
    [sent] = link.sent()
    assert (sent["type"], sent["reply_to"], sent["payload"]) == ("RESULT", "c1", 42)
    assert reply == file_name_of(sent["id"], "agni")
    # And the node delivers it as well.
    setup.deliver(link, "c1", type="COMMAND", procedure="double", payload={"args": [21], "kwargs": {}})
    assert acked(link) == 1
    assert len(link.sent()) == 1


def test_an_answer_may_come_by_a_file_and_again_by_the_node(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.fall_back()
    answer = setup.agent.call_with("dc", "p", timeout=60.0, id="c1")
    setup.turn()
    setup.file("r1", type="RESULT", reply_to="c1", payload=7)
    setup.pass_s(3.0)
    assert answer.done and answer.result() == 7
    link = setup.connection.join()
    setup.turn()
    setup.deliver(link, "r1", type="RESULT", reply_to="c1", payload=7)
    assert acked(link) == 1
    assert "has no handler" not in caplog.text


def test_after_a_restart_a_file_that_was_handled_is_only_put_away(setup: Setup) -> None:
    setup.fall_back()
    name = setup.file("m1")
    setup.pass_s(3.0)
    stopped = start(setup.agent.stop(grace_s=0.0))
    setup.pass_s(3.0)
    assert stopped.done
    [archived] = (setup.directory / "archive").rglob("*.json")
    archived.rename(setup.directory / "inbox" / name)
    setup.connection = FakeConnection()
    setup.agent = setup.make()
    setup.fall_back()
    setup.pass_s(3.0)
    assert setup.heard == ["m1"]
    assert setup.files("inbox") == []


def test_after_a_crash_a_handler_sees_that_an_earlier_run_may_have_begun(setup: Setup) -> None:
    attempts: list[int] = []

    def listen() -> None:
        @setup.agent.on("STATUS", subject="seen")
        def seen(message: Message) -> None:
            current = current_delivery()
            attempts.append(0 if current is None else current.attempt)

    listen()
    setup.fall_back()
    name = setup.file("m1", subject="seen")
    setup.pass_s(3.0)
    setup.agent._vanish()
    setup.pass_s(3.0)
    # As if the process had ended before its file knew of it: the handler ran, and nothing says so.
    [archived] = (setup.directory / "archive").rglob("*.json")
    archived.rename(setup.directory / "inbox" / name)
    shutil.rmtree(setup.state)
    setup.started.when_done(lambda pending: pending.error)
    setup.connection = FakeConnection()
    setup.agent = setup.make()
    listen()
    setup.fall_back()
    setup.pass_s(3.0)
    assert attempts == [1, 2]


REFUSED: dict[str, tuple[Callable[[Setup], str], str]] = {
    "of a sender whose key is not known": (
        lambda setup: setup.file("m1", by="stranger"),
        "says that it is from stranger, and has no signature of a known key",
    ),
    "for another agent": (lambda setup: setup.file("m1", to="other"), "is for other, and this is the inbox of agni"),
    "of its own": (lambda setup: setup.file("m1", by="agni"), "is from agni itself"),
    "under the id of a node": (
        lambda setup: setup.file("node:n:e:1:dead", type="ERROR", reply_to="m"),
        "has an id that a node alone may use",
    ),
    "past its deadline": (lambda setup: setup.file("m1", deadline_at=NOW_MS - 1), "is too late"),
    "past its time to live": (
        lambda setup: setup.file("m1", timestamp=NOW_MS - 60_000, ttl_ms=1000),
        "has expired: it was sent at",
    ),
    "older than anybody remembers": (
        lambda setup: setup.file("m1", timestamp=NOW_MS - 8 * 86_400_000, ttl_ms=30 * 86_400_000),
        "has expired",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_is_rejected_with_a_sentence(setup: Setup, case: str) -> None:
    write, words = REFUSED[case]
    setup.fall_back()
    name = write(setup)
    setup.pass_s(3.0)
    assert setup.heard == []
    assert setup.files("rejected") == [name, f"{name}.why.txt"]
    assert words in (setup.directory / "rejected" / f"{name}.why.txt").read_text()


def test_a_file_that_was_changed_is_rejected(setup: Setup) -> None:
    setup.fall_back()
    name = setup.file("m1", payload="pay 10")
    path = setup.directory / "inbox" / name
    path.write_text(path.read_text().replace("pay 10", "pay 99"))
    setup.pass_s(3.0)
    assert setup.heard == []
    assert name in setup.files("rejected")
