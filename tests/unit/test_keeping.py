"""Agents with a file: what a next life does with it, when it has to wait for it, and how it does without."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import NOW_MS, FakeConnection, FakeLink, settings, surroundings
from trishula.agent import Agent
from trishula.consumer.agent_state import directory_of
from trishula.contract import uris
from trishula.contract.deliveries import current_delivery
from trishula.contract.message import Message
from trishula.errors import (
    BusUnreachable,
    KeyUnknown,
    MailboxFull,
    OutcomeUnknown,
    RecipientUnknown,
    StateBusy,
    StateUnusable,
    TakenOver,
)
from trishula.messaging.agent_file import AgentFile
from trishula.runtime.pending import Pending, start
from trishula.settings import Settings

INBOX = "trishula.agent.agni.inbox"


class Life:
    """One process of the agent agni; its end is a kill unless it is stopped."""

    def __init__(self, clock: Clock, state: Path | bool | None, **options: Any) -> None:
        self.clock = clock
        self.agent = Agent("agni", state=state, **options)
        self.connection = FakeConnection()
        self.ran: list[tuple[str, int]] = []
        self.started: Pending[None] | None = None
        self.agent.on("STATUS")(self._heard)
        self.agent.procedure(name="double")(self._double)

    def _heard(self, message: Message) -> None:
        self._note()

    def _double(self, number: int) -> int:
        self._note()
        return 2 * number

    def _note(self) -> None:
        delivery = current_delivery()
        assert delivery is not None
        self.ran.append((delivery.message.id, delivery.attempt))

    def start(self, own: Settings | None = None) -> Pending[None]:
        self.started = start(
            self.agent.start(own or settings("agni"), around=surroundings(self.clock), connection=self.connection)
        )
        return self.started

    def join(self, own: Settings | None = None, **options: Any) -> FakeLink:
        self.start(own)
        return self.connection.join(**options)

    def turn(self) -> None:
        self.clock.advance(0)

    def push(self, link: FakeLink, message_id: str, attempt: int = 1, **fields: Any) -> None:
        message = {"type": "STATUS", "id": message_id, "to": "agni", "from": "dc", **fields}
        link.push(INBOX, {"message": message, "attempt": attempt, "token": f"{message_id}.{attempt}"})
        self.turn()

    def command(self, link: FakeLink, message_id: str, number: int, attempt: int = 1) -> None:
        payload = {"args": [number], "kwargs": {}}
        self.push(link, message_id, attempt, type="COMMAND", procedure="double", payload=payload)

    def file(self) -> AgentFile:
        assert self.agent._run is not None
        keeping = self.agent._run._keeping
        assert keeping is not None
        assert keeping._file is not None
        return keeping._file

    def kill(self) -> None:
        """As kill -9: what is not committed is gone, and nobody says goodbye."""
        keeping = None if self.agent._run is None else self.agent._run._keeping
        if keeping is not None and keeping._file is not None:
            file = keeping._file
            for gathered in (file._puts, file._drops, file._remembered, file._forgotten, file._others):
                gathered.clear()
            begun = file.path.parent / "begun"
            as_it_was = begun.read_bytes()
            self.stop()
            begun.write_bytes(as_it_was)
        self.stop()

    def stop(self) -> None:
        if self.connection.links and self.connection.links[-1].is_open:
            self.connection.lose()
        stopped = start(self.agent.stop(grace_s=0.0))
        self.clock.pump([0, 0.02, 0, 2.0, 0.02, 0])
        assert stopped.done
        self.agent.over.when_done(lambda pending: pending.error)
        if self.started is not None:
            self.started.when_done(lambda pending: pending.error)


@pytest.fixture
def live(clock: Clock, tmp_path: Path) -> Iterator[Callable[..., Life]]:
    lives: list[Life] = []

    def one(state: Path | bool | None = tmp_path / "state", **options: Any) -> Life:
        lives.append(Life(clock, state, **options))
        return lives[-1]

    yield one
    for life in lives:
        life.stop()


def acked(link: FakeLink) -> list[str]:
    return [token for (tokens,) in link.args_of(uris.MAILBOX_ACK) for token in tokens]


# -- the next life -----------------------------------------------------------------------------------------------------


def test_what_was_handled_is_not_run_by_the_next_life(live: Callable[..., Life]) -> None:
    first = live()
    link = first.join()
    first.push(link, "a")
    assert acked(link) == ["a.1"]
    first.kill()
    second = live()
    link = second.join()
    second.push(link, "a", attempt=2)
    second.push(link, "b")
    assert second.ran == [("b", 1)]
    assert acked(link) == ["a.2", "b.1"]


def test_it_is_on_record_before_it_is_acknowledged_and_before_the_reply_is_offered(live: Callable[..., Life]) -> None:
    life = live()
    seen: list[Any] = []

    def look(link: FakeLink) -> None:
        call = link.call

        def calling(uri: str, *args: Any, **options: Any) -> Pending[Any]:
            if uri in (uris.MAILBOX_SEND, uris.MAILBOX_ACK):
                saved = life.file().load()
                seen.append(
                    (
                        uri,
                        [one[1] for one in saved.handled],
                        [msgspec.msgpack.decode(one.message)["id"] for one in saved.messages],
                    )
                )
            return call(uri, *args, **options)

        link.call = calling  # type: ignore[method-assign]

    link = life.join(prepare=look)
    life.push(link, "note")
    life.command(link, "c", 4)
    life.turn()
    assert seen == [
        (uris.MAILBOX_ACK, ["note"], []),
        (uris.MAILBOX_SEND, ["c", "note"], ["c.dc.result"]),
        # Here the receipt of the reply comes in the same turn: that it is over is written with the next thing that is.
        (uris.MAILBOX_ACK, ["c", "note"], ["c.dc.result"]),
    ]


def test_a_reply_that_nobody_confirmed_goes_out_in_the_next_life_and_only_then_its_command_is_acknowledged(
    live: Callable[..., Life],
) -> None:
    first = live()
    link = first.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    first.command(link, "c", 4)
    assert acked(link) == []
    first.kill()
    second = live()
    link = second.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    second.turn()
    second.command(link, "c", 4, attempt=2)
    assert (second.ran, acked(link)) == ([], [])
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    assert [(m["id"], m["reply_to"], m["payload"]) for m in asked.args[0]] == [("c.dc.result", "c", 8)]
    asked.answer.resolve([link.receipt(asked.args[0][0])])
    second.turn()
    assert acked(link) == ["c.2"]
    second.kill()
    third = live()
    link = third.join()
    third.turn()
    third.command(link, "c", 4, attempt=3)
    assert (third.ran, acked(link), link.sent()) == ([], ["c.3"], [])


def test_sends_without_a_receipt_are_offered_by_the_next_life_in_their_order(
    live: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    first = live()
    first.start()
    early = first.agent.send("dc", id="1")
    first.turn()
    first.connection.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    first.turn()
    sent = [first.agent.send("dc", id=name, payload=name) for name in ("2", "3")]
    first.turn()
    first.kill()
    for pending in (early, *sent):
        assert isinstance(pending.error, OutcomeUnknown)
        assert "it is on record and goes out when the agent runs again" in str(pending.error)
    second = live()
    link = second.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    new = second.agent.send("dc", id="4")
    second.turn()
    assert [message["id"] for message in link.sent()] == ["1", "2", "3", "4"]
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    refusal = {"id": "2", "status": "refused", "error": RecipientUnknown.uri, "detail": "nobody"}
    answers = [link.receipt(message) for message in asked.args[0]]
    answers[1] = refusal
    with caplog.at_level(logging.ERROR):
        asked.answer.resolve(answers)
    second.turn()
    assert new.result().status == "accepted"
    # Its sender is gone, so the log has to hear it.
    assert "The STATUS 2 to dc, sent before the restart, failed: nobody" in caplog.text
    second.kill()
    third = live()
    link = third.join()
    third.turn()
    assert link.sent() == []


@dataclass
class Point:
    x: int
    y: Any


class Struct(msgspec.Struct):
    at: Point


def test_a_payload_travels_the_same_before_a_restart_and_after_it(live: Callable[..., Life]) -> None:
    payload = {"points": [Point(1, (2, None)), Struct(Point(3, {}))], "n": 0}
    first = live()
    first.start()
    first.agent.send("dc", id="kept", payload=payload)
    payload["n"] = 1
    first.turn()
    first.kill()
    second = live()
    link = second.join()
    second.turn()
    second.agent.send("dc", id="sent", payload=payload)
    second.turn()
    points = [{"x": 1, "y": [2, None]}, {"at": {"x": 3, "y": {}}}]
    assert [(message["id"], message["payload"]) for message in link.sent()] == [
        ("kept", {"points": points, "n": 0}),
        ("sent", {"points": points, "n": 1}),
    ]


def test_a_message_that_was_withdrawn_is_not_sent_later(live: Callable[..., Life]) -> None:
    first = live()
    first.start()
    call = first.agent.call("dc", "deploy", timeout=1.0)
    first.clock.advance(1.0)
    assert type(call.error).__name__ == "BusUnreachable"
    first.turn()
    first.kill()
    second = live()
    link = second.join()
    second.turn()
    assert link.sent() == []


def test_without_a_file_a_next_life_knows_nothing(live: Callable[..., Life], tmp_path: Path) -> None:
    for _ in range(2):
        life = live(False)
        link = life.join()
        life.push(link, "a")
        assert life.ran == [("a", 1)]
        life.kill()
    assert list(tmp_path.iterdir()) == []


def test_a_reply_that_is_refused_for_now_does_not_hold_up_its_command(live: Callable[..., Life]) -> None:
    life = live()
    link = life.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    life.command(link, "c", 4)
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    refusal = {"id": "c.dc.result", "status": "refused", "error": MailboxFull.uri, "detail": "full"}
    asked.answer.resolve([{**refusal, "retry_after_s": 60.0}])
    life.turn()
    assert acked(link) == ["c.1"]
    assert b"c.dc.result" in life.file().path.read_bytes()
    # It goes out when it is time, by itself.
    link.holding.clear()
    life.clock.advance(60.0)
    life.turn()
    assert [message["id"] for message in link.sent()] == ["c.dc.result"] * 2
    life.turn()
    assert life.file().load().messages == []


def test_without_a_file_a_command_waits_for_its_reply(live: Callable[..., Life]) -> None:
    life = live(False)
    link = life.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    life.command(link, "c", 4)
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    asked.answer.resolve(
        [{"id": "c.dc.result", "status": "refused", "error": MailboxFull.uri, "detail": "full", "retry_after_s": 1.0}]
    )
    life.turn()
    assert acked(link) == []
    link.holding.clear()
    life.clock.advance(1.0)
    life.turn()
    assert acked(link) == ["c.1"]


# -- whose file it is --------------------------------------------------------------------------------------------------


def test_a_newer_session_waits_until_the_older_one_has_let_go_of_the_file(live: Callable[..., Life]) -> None:
    older = live()
    older.push(older.join(), "a")
    newer = live()
    started = newer.start()
    link = newer.connection.join()
    newer.push(link, "a", attempt=2)
    newer.push(link, "b")
    assert (newer.ran, started.done) == ([], False)
    # The node has ended the older one.
    older.stop()
    newer.clock.advance(0.05)
    newer.turn()
    assert started.done
    assert newer.ran == [("b", 1)]
    assert acked(link) == ["a.2", "b.1"]


def test_a_file_that_another_process_keeps_is_an_error(live: Callable[..., Life]) -> None:
    older = live()
    older.join()
    newer = live()
    started = newer.start()
    newer.connection.join()
    newer.clock.pump([0.05] * 210)
    assert isinstance(started.error, StateBusy)
    assert newer.connection.is_stopped


def test_a_stop_while_it_waits_for_the_file_is_the_end(live: Callable[..., Life]) -> None:
    older = live()
    older.join()
    newer = live()
    started = newer.start()
    begun: list[str] = []
    newer.agent.on_start(lambda: begun.append("on_start"))
    newer.connection.join()
    newer.clock.pump([0.05] * 3)
    stopped = start(newer.agent.stop(grace_s=0.0))
    newer.clock.pump([0.05] * 3)
    assert stopped.done
    older.stop()
    newer.clock.pump([0.05] * 3)
    assert isinstance(started.error, BusUnreachable)
    assert begun == []
    third = live()
    assert third.start().error is None
    third.connection.join()
    third.turn()
    # Nobody holds the file any more.
    assert third.file() is not None


def test_an_agent_that_is_taken_over_while_it_waits_for_the_file_says_so(live: Callable[..., Life]) -> None:
    older = live()
    older.join()
    newer = live()
    started = newer.start()
    begun: list[str] = []
    newer.agent.on_start(lambda: begun.append("on_start"))
    newer.connection.join()
    newer.clock.pump([0.05] * 3)
    listener = newer.connection.listener
    assert listener is not None
    listener.given_up(TakenOver("agni joined from elsewhere"))
    older.stop()
    newer.clock.pump([0.05] * 3)
    assert isinstance(started.error, TakenOver)
    assert isinstance(newer.agent.over.error, TakenOver)
    assert begun == []
    third = live()
    third.start()
    third.connection.join()
    third.turn()
    assert third.file() is not None


def test_another_token_on_the_same_store_is_the_same_bus(live: Callable[..., Life]) -> None:
    first = live()
    first.push(first.join(), "a")
    first.kill()
    second = live()
    link = second.join(Settings(("ws://one/ws",), "agni", "agni.rotated"))
    second.push(link, "a", attempt=2)
    assert second.ran == []


def test_another_bus_gets_nothing_of_the_old_one_and_the_old_one_gets_it_back(
    live: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    other = Settings(("ws://two/ws",), "agni", "agni.elsewhere")

    def foreign(link: FakeLink) -> None:
        usual = link.usual

        def answer(asked: Any) -> Any:
            if asked.uri == uris.MAILBOX_ATTACH:
                return {"node": "single", "epoch": "another", "high_water": 0}
            return usual(asked)

        link.usual = answer  # type: ignore[method-assign]

    first = live()
    link = first.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    first.push(link, "a")
    sent = first.agent.send("dc", id="for_the_old_bus")
    first.turn()
    first.kill()
    assert sent.error is not None
    second = live()
    with caplog.at_level(logging.WARNING):
        link = second.join(other, url="ws://two/ws", prepare=foreign)
    assert "agni is on another bus than before" in caplog.text
    second.push(link, "a")
    assert (second.ran, link.sent()) == ([("a", 1)], [])
    second.kill()
    third = live()
    link = third.join()
    third.turn()
    third.push(link, "a", attempt=2)
    assert third.ran == []
    assert [message["id"] for message in link.sent()] == ["for_the_old_bus"]


def test_a_store_that_is_another_than_before_is_noticed(
    live: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    first = live()
    first.join()
    first.stop()
    second = live()

    def restored(link: FakeLink) -> None:
        usual = link.usual
        link.usual = lambda asked: (  # type: ignore[method-assign]
            {"node": "single", "epoch": "f", "high_water": 3, "epoch_changed": True}
            if asked.uri == uris.MAILBOX_ATTACH
            else usual(asked)
        )

    with caplog.at_level(logging.WARNING):
        link = second.join(prepare=restored)
    assert link.args_of(uris.MAILBOX_ATTACH)[0][0]["epoch"] == "e"
    assert link.args_of(uris.MAILBOX_ATTACH)[0][0]["position"] == 7
    assert caplog.text.count("has another store than before (epoch f, was e)") == 1
    attached = second.agent.client.attached
    assert attached is not None
    assert attached.epoch_changed
    second.connection.lose()

    def behind(link: FakeLink) -> None:
        usual = link.usual
        link.usual = lambda asked: (  # type: ignore[method-assign]
            {"node": "single", "epoch": "f", "high_water": 2, "epoch_changed": True}
            if asked.uri == uris.MAILBOX_ATTACH
            else usual(asked)
        )

    with caplog.at_level(logging.WARNING):
        second.connection.join(prepare=behind)
    assert "has another store than before (epoch f, was f)" in caplog.text
    second.turn()
    assert second.file().load().nodes == {"ws://one/ws": ("f", 2)}


# -- where it is -------------------------------------------------------------------------------------------------------


def test_where_the_file_is() -> None:
    home = Path("/home/x")
    assert directory_of("agni", "/var/lib/t", {"TRISHULA_AGENT_STATE": "/e"}, home) == (Path("/var/lib/t/agni"), True)
    assert directory_of("agni", None, {"TRISHULA_AGENT_STATE": "/e"}, home) == (Path("/e/agni"), True)
    assert directory_of("agni", None, {"XDG_STATE_HOME": "/s"}, home) == (Path("/s/trishula/agni"), False)
    usual = Path("/home/x/.local/state/trishula/agni")
    assert directory_of("agni", None, {"XDG_STATE_HOME": "relative"}, home) == (usual, False)
    assert directory_of("agni", None, {"TRISHULA_AGENT_STATE": ""}, home) == (usual, False)
    assert directory_of("agni", None, {}, None) == (None, False)


def test_a_home_that_can_not_be_written_to_is_done_without(
    live: Callable[..., Life], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    # A file in place of a directory: root may write everywhere else.
    home.write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("TRISHULA_AGENT_STATE")
    life = live(None)
    with caplog.at_level(logging.WARNING):
        link = life.join()
    assert caplog.text.count("agni runs without a file") == 1
    life.push(link, "a")
    assert (life.ran, acked(link)) == ([("a", 1)], ["a.1"])


@pytest.mark.parametrize("is_named", [False, True])
def test_where_nothing_can_be_locked_an_agent_does_without_a_file(
    live: Callable[..., Life],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_named: bool,
) -> None:
    monkeypatch.setattr("trishula.runtime.file_lock.fcntl", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRISHULA_AGENT_STATE")
    life = live(tmp_path / "named" if is_named else None)
    if is_named:
        started = life.start()
        assert isinstance(started.error, StateUnusable)
        assert "this system can't lock a file" in str(started.error) and "state=False" in str(started.error)
        return
    with caplog.at_level(logging.WARNING):
        life.join()
    assert caplog.text.count("agni runs without a file") == 1
    assert "this system can't lock a file for one process" in caplog.text


def test_a_place_that_was_named_is_not_done_without(live: Callable[..., Life], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    life = live(tmp_path / "file")
    started = life.start()
    assert isinstance(started.error, StateUnusable)
    assert "make it writable, or name another with state= or TRISHULA_AGENT_STATE" in str(started.error)


# -- long jobs ---------------------------------------------------------------------------------------------------------


def beats(link: FakeLink) -> list[dict[str, Any]]:
    return [{k: v for k, v in args[0].items() if k != "sent_at"} for args in link.args_of(uris.DIRECTORY_BEAT)]


def test_an_agent_says_that_it_is_busy_at_once_and_with_each_beat_until_it_is_over(live: Callable[..., Life]) -> None:
    life = live(False)
    link = life.join()
    life.agent.busy(for_s=15.0, progress="1 of 3", load=0.5)
    life.turn()
    says = {"state": "busy", "busy_until": NOW_MS + 15_000, "progress": "1 of 3", "load": 0.5}
    assert beats(link) == [{}, says]
    life.clock.advance(10.0)
    life.clock.advance(10.0)
    assert beats(link)[2:] == [says, {}]
    life.agent.busy()
    life.turn()
    life.agent.idle(load=0.0)
    life.turn()
    assert beats(link)[4:] == [{"state": "busy"}, {"load": 0.0}]


def test_a_handler_says_how_long_it_will_take(live: Callable[..., Life]) -> None:
    life = live(False)
    done: list[Any] = []

    @life.agent.on("RESULT")
    def long(message: Message) -> Any:
        from twisted.internet.defer import Deferred

        delivery = current_delivery()
        assert delivery is not None
        delivery.working(600.0)
        done.append(Deferred())
        return done[0]

    link = life.join()
    life.push(link, "r", type="RESULT")
    assert link.args_of(uris.MAILBOX_WORKING) == [["r.1", 600.0]]
    for _ in range(5):
        life.clock.advance(10.0)
    # Sixty seconds from now would be less.
    assert len(link.args_of(uris.MAILBOX_WORKING)) == 1
    life.connection.lose()
    link = life.connection.join()
    life.push(link, "r", attempt=2, type="RESULT")
    assert link.args_of(uris.MAILBOX_WORKING) == [["r.2", 550.0]]
    done[0].callback(None)
    life.turn()
    assert acked(link) == ["r.2"]


def test_that_a_model_has_it_is_said_again_on_the_next_session(live: Callable[..., Life]) -> None:
    life = live(False)
    done: list[Any] = []
    said: list[Pending[bool]] = []

    @life.agent.on("RESULT")
    def ask_model(message: Message) -> Any:
        from twisted.internet.defer import Deferred

        delivery = current_delivery()
        assert delivery is not None
        said.append(delivery.surfaced())
        done.append(Deferred())
        return done[0]

    link = life.join()
    life.push(link, "r", type="RESULT")
    assert link.args_of(uris.MAILBOX_SURFACED) == [[["r.1"]]]
    assert said[0].result() is True
    life.connection.lose()
    link = life.connection.join()
    life.push(link, "r", attempt=2, type="RESULT")
    assert link.args_of(uris.MAILBOX_SURFACED)[-1] == [["r.2"]]
    done[0].callback(None)
    life.turn()
    assert acked(link) == ["r.2"]
    life.connection.lose()
    link = life.connection.join()
    life.push(link, "r", attempt=3, type="RESULT")
    # It is known to be handled: nobody has put it anywhere since.
    assert [args for args in link.args_of(uris.MAILBOX_SURFACED) if args != [[]]] == []


def test_a_short_lease_is_extended_in_time(live: Callable[..., Life]) -> None:
    life = live(False)
    done: list[Any] = []

    @life.agent.on("RESULT")
    def long(message: Message) -> Any:
        from twisted.internet.defer import Deferred

        done.append(Deferred())
        return done[0]

    def short(link: FakeLink) -> None:
        usual = link.usual
        link.usual = lambda asked: (  # type: ignore[method-assign]
            {"node": "single", "epoch": "e", "high_water": 7, "lease_s": 2.0}
            if asked.uri == uris.MAILBOX_ATTACH
            else usual(asked)
        )

    link = life.join(prepare=short)
    life.push(link, "r", type="RESULT")
    life.clock.pump([0.5] * 4)
    assert link.args_of(uris.MAILBOX_WORKING) == [["r.1", 2.0]] * 3
    done[0].callback(None)
    life.turn()


# -- what was begun ----------------------------------------------------------------------------------------------------


def told(link: FakeLink) -> dict[str, Any]:
    """What the attach on a session said of the process."""
    ((options,), *_) = link.args_of(uris.MAILBOX_ATTACH)
    return {key: value for key, value in options.items() if key in ("run", "after", "begun")}


def test_the_next_life_tells_what_the_last_one_had_begun(live: Callable[..., Life]) -> None:
    first = live()
    never: list[Pending[None]] = []

    @first.agent.procedure()
    def long() -> Pending[None]:
        never.append(Pending())
        return never[-1]

    link = first.join()
    assert told(link) == {"run": "0" * 16}
    first.push(link, "m1")
    for name in ("m2", "m3", "m4"):
        first.push(link, name, type="COMMAND", procedure="long", payload={"args": [], "kwargs": {}})
    never[1].resolve(None)
    first.turn()
    first.kill()
    second = live()
    link = second.join()
    assert told(link)["after"] == "0" * 16
    assert sorted(told(link)["begun"]) == [["dc", "m2"], ["dc", "m4"]]
    # It is told once.
    second.connection.lose()
    assert told(second.connection.join()) == {"run": "0" * 16}


def test_a_node_of_a_former_release_is_told_nothing_new(live: Callable[..., Life]) -> None:
    life = live()

    def prepare(link: FakeLink) -> None:
        usual = link.usual

        def strict(asked: Any) -> Any:
            if asked.uri == uris.MAILBOX_ATTACH and "run" in asked.args[0]:
                raise KeyUnknown("options has an unknown key")
            return usual(asked)

        link.usual = strict  # type: ignore[method-assign]

    life.start()
    link = life.connection.join(prepare=prepare)
    assert life.agent.client.is_ready
    assert set(link.args_of(uris.MAILBOX_ATTACH)[-1][0]) == {"capabilities", "window", "heartbeat_s"}
