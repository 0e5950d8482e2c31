"""``trishula wake``: when it wakes, by what, and what it says when that fails."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract.uris import MAILBOX_PEEK
from trishula.errors import BusUnreachable, StateBusy
from trishula.waking.adapters import WakeFailed, run_program
from trishula.waking.codex import CodexQueue
from trishula.waking.looking import Looker
from trishula.waking.memory import Memory
from trishula.waking.opencode import OpencodeServer
from trishula.waking.policy import Look, Pointer, WakePolicy
from trishula.waking.shell import ShellCommand

POINTER = Pointer("m1", "agni", 2, 1, "TRISHULA: 2 messages wait for you from agni.", frozenset({"agni m1"}))


def waits(message_id: str, priority: int = 3, sender: str = "agni/7f", state: str = "accepted") -> dict[str, Any]:
    message = {"id": message_id, "from": sender, "priority": priority, "subject": "a secret", "payload": "a secret"}
    return {"message": message, "state": state, "attempts": 0}


def seen(*messages: dict[str, Any], turn: str = "closed") -> Look:
    return Look(messages, len(messages), turn)


def policy(saved: object = None, again_s: float | None = 900.0) -> WakePolicy:
    return WakePolicy(gap_s=30.0, again_s=again_s, priority=3, saved=saved)


def woken(waker: WakePolicy, look: Look, now_s: float) -> str | None:
    """The message that it wakes for, if it does."""
    told = waker.due(look, now_s)
    if told is None:
        return None
    waker.woke(told, now_s)
    return told.message_id


# -- when --------------------------------------------------------------------------------------------------------------


def test_mail_wakes_once_and_a_burst_is_one_wake() -> None:
    waker = policy()
    assert woken(waker, Look(), 1000.0) is None
    assert woken(waker, seen(waits("a")), 1001.0) == "a"
    both = seen(waits("a"), waits("b"))
    assert woken(waker, both, 1030.9) is None
    told = waker.due(both, 1031.0)
    assert told is not None
    assert (told.message_id, told.sender, told.count, told.urgent) == ("b", "agni", 2, 0)
    assert told.text.startswith("TRISHULA: 2 messages wait for you from agni.")
    assert "secret" not in repr(told)
    waker.woke(told, 1031.0)
    assert woken(waker, both, 1500.0) is None


def test_the_same_id_of_another_sender_is_another_message() -> None:
    waker = policy()
    assert woken(waker, seen(waits("a")), 1000.0) == "a"
    assert woken(waker, seen(waits("a"), waits("a", sender="dc")), 1100.0) == "a"
    assert woken(waker, seen(waits("a"), waits("a", sender="dc")), 1200.0) is None


def test_mail_that_stays_wakes_again_and_ever_more_rarely() -> None:
    waker, look = policy(), seen(waits("a"))
    found = [now for now in range(0, 40_000, 100) if woken(waker, look, now) is not None]
    assert found[:5] == [0, 900, 2700, 6300, 13500]
    # No more than 16 times the span.
    assert found[5] - found[4] == 14_400
    never = policy(again_s=None)
    assert [now for now in range(0, 40_000, 100) if woken(never, look, now) is not None] == [0]


def test_new_mail_begins_the_spans_anew() -> None:
    waker = policy()
    assert [woken(waker, seen(waits("a")), now) for now in (0, 900)] == ["a", "a"]
    assert woken(waker, seen(waits("a"), waits("b")), 1000) == "b"
    assert woken(waker, seen(waits("a"), waits("b")), 1899) is None
    assert woken(waker, seen(waits("a"), waits("b")), 1900) == "a"


@pytest.mark.parametrize("turn", ["open", "blocked"])
def test_in_a_turn_only_urgent_mail_wakes(turn: str) -> None:
    waker = policy()
    assert woken(waker, seen(waits("a"), turn=turn), 1000.0) is None
    assert woken(waker, seen(waits("u", 2), waits("a"), turn=turn), 1003.0) == "u"
    assert woken(waker, seen(waits("u", 2), waits("a"), turn=turn), 1100.0) is None
    assert woken(waker, seen(waits("u", 2), waits("a")), 1200.0) == "a"


def test_mail_that_is_not_urgent_enough_wakes_nobody() -> None:
    assert woken(policy(), seen(waits("a", 4)), 1000.0) is None
    only_urgent = WakePolicy(gap_s=30.0, again_s=900.0, priority=1)
    assert woken(only_urgent, seen(waits("a", 2), turn="open"), 1000.0) is None
    assert woken(only_urgent, seen(waits("a", 1), turn="open"), 1000.0) == "a"


def test_mail_that_came_back_from_a_session_that_ended_is_news() -> None:
    waker = policy()
    assert woken(waker, seen(waits("a")), 1000.0) == "a"
    assert woken(waker, Look(), 1100.0) is None
    assert woken(waker, seen(waits("a")), 1200.0) == "a"


def test_a_wake_that_failed_is_tried_again_ever_more_slowly() -> None:
    waker, look = policy(), seen(waits("a"))
    assert waker.due(look, 1000.0) is not None
    assert waker.failed(1000.0) == 5.0
    assert waker.due(look, 1004.9) is None
    assert waker.due(look, 1005.0) is not None
    assert [waker.failed(1005.0) for _ in range(8)] == [10, 20, 40, 80, 160, 300, 300, 300]
    # A clock that was set back keeps nobody asleep.
    assert waker.due(look, 100.0) is not None
    assert woken(waker, look, 1400.0) == "a"
    assert waker.failed(1400.0) == 5.0


def test_a_restart_neither_forgets_nor_repeats() -> None:
    first = policy()
    assert woken(first, seen(waits("a")), 1000.0) == "a"
    saved = json.loads(json.dumps(first.saved()))
    second = policy(saved)
    assert woken(second, seen(waits("a")), 1100.0) is None
    assert woken(second, seen(waits("a"), waits("b")), 1110.0) == "b"
    assert woken(policy(saved), seen(waits("a")), 1900.0) == "a"
    # Set back over the restart.
    assert woken(policy(saved), seen(waits("a"), waits("b")), 10.0) is None
    unreadable: tuple[object, ...] = (None, [], {"told": "a"}, {"told": [], "woke_s": None, "reminders": 0})
    for broken in unreadable:
        assert woken(policy(broken), seen(waits("a")), 1000.0) == "a"


# -- looking -----------------------------------------------------------------------------------------------------------


def test_a_look_takes_one_message_while_nothing_happens_and_passes_over_what_is_in_hand() -> None:
    bus = FakeBus()
    in_hand = [waits(f"h{number}", 1, state="delivered") for number in range(64)]
    place = {"epoch": "e", "high_water": 9, "pending": 1, "turn": "open"}
    bus.answers[MAILBOX_PEEK] = [
        {**place, "messages": in_hand[:1], "more": True, "after": [1, 1]},
        {**place, "messages": in_hand, "more": True, "after": [1, 64]},
        {**place, "messages": [waits("a")], "more": False, "after": [3, 65]},
        {**place, "messages": in_hand[:1], "more": True, "after": [1, 1], "turn": "closed"},
        {**place, "messages": [], "more": False, "after": [0, 0], "pending": 0, "high_water": 10},
    ]
    looker = Looker(bus)  # type: ignore[arg-type]
    found = looker.look()
    assert [one["message"]["id"] for one in found.messages] == ["a"]
    assert (found.pending, found.turn) == (1, "open")
    assert len(bus.asked) == 3
    again = looker.look()
    assert (again.messages, again.turn) == (found.messages, "closed")
    assert len(bus.asked) == 4
    assert looker.look() == Look(turn="open")


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_one_waker_for_each_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISHULA_AGENT_STATE", str(tmp_path))
    first = Memory("scout", "command a")
    assert first.read() is None
    first.keep({"told": ["x"]})
    with pytest.raises(StateBusy, match=rf"another trishula wake \(process {os.getpid()}\) wakes the same for scout"):
        Memory("scout", "command a")
    other = Memory("scout", "command b")
    assert other.read() is None
    other.release()
    first.release()
    second = Memory("scout", "command a")
    assert second.read() == {"told": ["x"]}
    second.path.write_text("{")
    assert second.read() is None
    second.release()


# -- programs ----------------------------------------------------------------------------------------------------------


def test_a_command_gets_the_pointer_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ShellCommand(f"env | grep ^TRISHULA_WAKE_ | sort > {out}; cat >> {out}", 30.0).wake(POINTER)
    assert out.read_text().splitlines() == [
        "TRISHULA_WAKE_COUNT=2",
        "TRISHULA_WAKE_FROM=agni",
        "TRISHULA_WAKE_ID=m1",
        f"TRISHULA_WAKE_TEXT={POINTER.text}",
        "TRISHULA_WAKE_URGENT=1",
    ]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("echo one >&2; echo two >&2; exit 3", "it ended with 3 and said: two"),
        ("echo Error: this >&2; echo at line 7 >&2; exit 1", "it ended with 1 and said: Error: this"),
        ("exit 4", "it ended with 4"),
        ("kill -9 $$", "it was ended by signal 9"),
        (["/nowhere/program"], "/nowhere/program can't be started: No such file or directory"),
    ],
)
def test_how_a_program_failed_is_said(command: str | list[str], sentence: str) -> None:
    with pytest.raises(WakeFailed) as failed:
        run_program(command, {}, 30.0)
    assert str(failed.value) == sentence


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    out = tmp_path / "pid"
    with pytest.raises(WakeFailed, match=r"not through after 1 s and was ended and said: slow"):
        run_program(f"echo slow >&2; sleep 600 & echo $! > {out}; wait", {}, 1.0)
    number = int(out.read_text())
    deadline = time.monotonic() + 20
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_command_leaves_behind_on_purpose_stays(tmp_path: Path) -> None:
    out = tmp_path / "pid"
    run_program(f"sleep 600 & echo $! > {out}", {}, 30.0)
    psutil.Process(int(out.read_text())).kill()


def test_codex_is_given_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "codex"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/out\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    CodexQueue("a-thread", 30.0).wake(POINTER)
    assert (tmp_path / "out").read_text().splitlines() == [
        "queue",
        "--thread=a-thread",
        f"--message={POINTER.text}",
    ]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(WakeFailed, match="codex can't be started: No such file"):
        CodexQueue("a-thread", 30.0).wake(POINTER)


# -- opencode ----------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Answers as it is told, and writes down what it was asked. No stand-in for opencode: its shapes are from there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, str, Any, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body, self.headers.get("Authorization")))
        status, text = self.server.answers.get(self.path, (404, ""))
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", text)
            text = ""
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def session(name: str, updated: int, **more: Any) -> dict[str, Any]:
    return {"id": name, "time": {"created": 1, "updated": updated}, **more}


def test_opencode_is_prompted_in_its_last_session_as_the_agent_that_it_is(server: Server) -> None:
    model = {"id": "m", "providerID": "p", "variant": "default"}
    sessions = [
        session("ses_old", 5, agent="build", model=model),
        session("ses_new", 9, agent="plan", model=model),
        session("ses_child", 12, parentID="ses_new", agent="explore"),
    ]
    server.answers = {"/session": (200, json.dumps(sessions)), "/session/ses_new/prompt_async": (204, "")}
    environ = {"OPENCODE_SERVER_PASSWORD": "s3cret"}
    OpencodeServer(f"{server.url}/", None, environ, 10.0).wake(POINTER)
    authorization = "Basic " + base64.b64encode(b"opencode:s3cret").decode()
    prompt = {
        "parts": [{"type": "text", "text": POINTER.text}],
        "agent": "plan",
        "model": {"providerID": "p", "modelID": "m"},
    }
    assert server.asked == [
        ("GET", "/session", None, authorization),
        ("POST", "/session/ses_new/prompt_async", prompt, authorization),
    ]


def test_opencode_is_prompted_in_the_session_that_was_named(server: Server) -> None:
    server.answers = {
        "/session/ses_x": (200, json.dumps(session("ses_x", 1))),
        "/session/ses_x/prompt_async": (204, ""),
    }
    OpencodeServer(server.url, "ses_x", {}, 10.0).wake(POINTER)
    assert server.asked[-1][2] == {"parts": [{"type": "text", "text": POINTER.text}]}
    assert server.asked[-1][3] is None


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((404, '{"data": {"message": "Session not found: ses_x"}}'), "answered 404: Session not found: ses_x"),
        ((401, ""), "answered 401: set OPENCODE_SERVER_PASSWORD as the server has it"),
        ((302, "http://127.0.0.1:9/elsewhere"), "answered 302"),
        ((200, "<html>"), "/session/ses_x answered no JSON"),
        ((200, "[]"), "it told no session"),
    ],
)
def test_what_is_wrong_with_opencode_is_said(server: Server, answer: tuple[int, str], sentence: str) -> None:
    server.answers = {"/session/ses_x": answer}
    with pytest.raises(WakeFailed) as failed:
        OpencodeServer(server.url, "ses_x", {"OPENCODE_SERVER_PASSWORD": "s3cret"}, 10.0).wake(POINTER)
    assert sentence in str(failed.value)
    assert "s3cret" not in str(failed.value)
    assert len(server.asked) == 1


def test_opencode_without_a_session_or_without_a_server(server: Server) -> None:
    server.answers = {"/session": (200, "[]")}
    with pytest.raises(WakeFailed, match="has no session yet"):
        OpencodeServer(server.url, None, {}, 10.0).wake(POINTER)
    server.shutdown()
    server.server_close()
    with pytest.raises(WakeFailed, match=r"can't be reached: .*refused"):
        OpencodeServer(server.url, None, {}, 10.0).wake(POINTER)


# -- a hook of Claude Code ---------------------------------------------------------------------------------------------


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeBus], int]:
    """Run the hook beside a bus; its exit code."""
    for name in ("TRISHULA_PROFILE", "TRISHULA_URL", "CLAUDE_CODE_ENTRYPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRISHULA_AGENT_STATE", str(tmp_path / "agents"))
    monkeypatch.setenv("TRISHULA_TOKEN", f"scout.{'0' * 40}")
    monkeypatch.setattr("trishula.waking.command._AFTER_TURN_S", 0.0)
    monkeypatch.setattr("trishula.waking.command._POLL_S", 0.01)
    told = tmp_path / "told"
    told.write_text('{"session_id": "one", "hook_event_name": "Stop"}')

    def go(bus: FakeBus) -> int:
        with told.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            return run(["wake", "--hook", "claude-code"], State(connect=bus.connect))  # type: ignore[arg-type]

    return go


def mail(*messages: dict[str, Any]) -> dict[str, Any]:
    place = {"epoch": "e", "high_water": 1, "more": False, "after": [3, 1], "turn": "closed"}
    return {**place, "messages": list(messages), "pending": len(messages)}


def test_the_hook_stays_until_mail_waits_and_ends_with_the_pointer(
    hook: Callable[[FakeBus], int], capsys: pytest.CaptureFixture[str]
) -> None:
    bus = FakeBus()
    away = BusUnreachable("no node answers")
    bus.answers[MAILBOX_PEEK] = [mail(), away, mail(), mail(waits("a"))]
    assert hook(bus) == 2
    # All of it goes to the model: so no word of a node that was away.
    told = "TRISHULA: 1 message waits for you from agni. Call the tool inbox of the server trishula.\n"
    assert capsys.readouterr() == ("", told)
    assert len(bus.asked) == 5


def test_the_next_hook_of_the_session_does_not_wake_for_the_same(
    hook: Callable[[FakeBus], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = FakeBus()
    bus.answers[MAILBOX_PEEK] = [mail(waits("a"))]
    assert hook(bus) == 2
    bus.asked.clear()
    # Its client goes away while it waits.
    monkeypatch.setattr("os.getppid", lambda: len(bus.asked) // 10)
    assert hook(bus) == 0
    assert len(bus.asked) >= 10


def test_one_hook_for_a_session_and_none_for_a_client_that_does_not_stay(
    hook: Callable[[FakeBus], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = FakeBus()
    first = Memory("scout", "claude-code one")
    assert hook(bus) == 0
    first.release()
    monkeypatch.setenv("CLAUDE_CODE_ENTRYPOINT", "sdk-cli")
    assert hook(bus) == 0
    assert bus.asked == []
    assert capsys.readouterr() == ("", "")


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "none of them given"),
        (["--command", "x", "--codex", "y"], "2 of them given"),
        (["--command", " "], "--command is empty"),
        (["--command", "x", "--session", "y"], "--session is about --opencode"),
        (["--opencode", "127.0.0.1:4096"], "it must be http://HOST:PORT"),
        (
            ["--opencode", "http://me:secret@127.0.0.1:4096"],
            "set OPENCODE_SERVER_USERNAME and OPENCODE_SERVER_PASSWORD",
        ),
        (["--opencode", "http://bus.example:4096"], "would travel in the clear"),
        (["--command", "x", "--gap", "0s"], "--gap is '0s'; it must be from 1.0 s to "),
    ],
)
def test_what_is_wrong_on_the_command_line(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["wake", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "secret" not in said
