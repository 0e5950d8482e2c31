"""The command line: what each command asks of the bus, what it prints, and how it ends."""

from __future__ import annotations

import importlib.metadata
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from tests.support.fakebus import FakeBus
from trishula import errors
from trishula.cli.main import OWN_COMMANDS, cli, run
from trishula.cli.state import State
from trishula.cli.words import local_time, plain
from trishula.consumer import process
from trishula.contract import uris
from trishula.contract.deliveries import Delivery, Fetched
from trishula.contract.message import Message
from trishula.exit_codes import Exit, exit_for
from trishula.settings import SettingsInvalid, load
from trishula.tools.temporary_node import ToolFailed


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


class Ran:
    """How a command line ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Trishula = Callable[..., Ran]


@pytest.fixture
def trishula(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> Trishula:
    """Run a command line against the fake bus."""

    def go(*args: str) -> Ran:
        connect: Any = bus.connect
        code = run(args, State(connect=connect))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return go


# -- the root ----------------------------------------------------------------------------------------------------------


def test_help_lists_every_command(trishula: Trishula) -> None:
    ran = trishula("--help")
    assert ran.code == 0
    for name in [*OWN_COMMANDS, "node", "token"]:
        assert f"\n  {name} " in ran.out


def test_version(trishula: Trishula) -> None:
    ran = trishula("--version")
    assert (ran.code, ran.out) == (0, "trishula, version 2.0.0a1\n")


def every_command() -> list[list[str]]:
    found = []

    def walk(group: click.Group, path: list[str]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found.append([*path, name])
            if isinstance(command, click.Group):
                walk(command, [*path, name])

    walk(cli, [])
    return found


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help_and_json(trishula: Trishula, path: list[str]) -> None:
    ran = trishula(*path, "--help")
    assert ran.code == 0
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    assert command.help
    # The whole first sentence is in the list of commands.
    assert not command.get_short_help_str(limit=90).endswith("...")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help is not None and parameter.help.rstrip(")").endswith((".", "…")), parameter.opts
    if not isinstance(command, click.Group):
        assert "--json" in ran.out


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_help_has_examples(trishula: Trishula, path: list[str]) -> None:
    ran = trishula(*path, "--help")
    if "COMMAND [ARGS]" not in ran.out or "Examples:" in ran.out:
        assert f"Examples:\n    trishula {' '.join(path)}" in ran.out or path == ["dead"]


def test_the_exit_codes_are_in_the_help(trishula: Trishula) -> None:
    listed = trishula("--help").out.partition("Exit codes")[2]
    told = {int(number) for number in re.findall(r"  (\d+) [a-z]", listed)}
    assert told == {int(code) for code in Exit}


def test_an_unknown_command(trishula: Trishula) -> None:
    ran = trishula("sned")
    assert ran.code == Exit.USAGE
    assert ran.err == "trishula: there is no command 'sned'; did you mean send? (try 'trishula --help')\n"


@pytest.mark.parametrize(
    ("args", "example"),
    [
        (("dead", "--json"), "trishula dead list --json (try 'trishula dead --help')"),
        (("dead", "--json", "show", "1"), "trishula dead show --json (try 'trishula dead --help')"),
        (("--json", "send"), "trishula send --json (try 'trishula --help')"),
        (("--json",), "trishula agents --json (try 'trishula --help')"),
    ],
)
def test_where_json_goes(trishula: Trishula, args: tuple[str, ...], example: str) -> None:
    ran = trishula(*args)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert json.loads(ran.err) == {
        "error": "usage",
        "message": f"--json goes behind the command, as in: {example}",
    }


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("dead", "shwo", "1"), "there is no command 'shwo'; did you mean show? (try 'trishula dead --help')"),
        (
            ("token", "x"),
            "there is no command 'x'; there are grant, key, list, new, revoke, rotate (try 'trishula token --help')",
        ),
        (("dead", "show", "x"), "NUMBER is 'x'; it must be a whole number from 1 on (try 'trishula dead show --help')"),
        (("send", "a", "--priority", "9"), "--priority is '9'; it must be a whole number from 1 to 5 (try "),
        (("bench", "--rate", "x"), "--rate is 'x'; it must be a number from 0.1 on (try "),
        (("agents", "--presence", "up"), "--presence is 'up'; it must be one of online, busy, stale, offline (try "),
        (("call", "agni"), "Missing argument 'PROCEDURE' (try "),
        (("--url", "http://x", "agents"), "--url has the URL 'http://x'; it must be ws://"),
        (("--profile", "/no.toml", "agents"), "--profile names the profile /no.toml, and there is no such file"),
    ],
)
def test_a_wrong_command_line(trishula: Trishula, bus: FakeBus, args: tuple[str, ...], sentence: str) -> None:
    ran = Ran(*connecting(args)) if args[0].startswith("--") else trishula(*args)
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(f"trishula: {sentence}")
    assert len(ran.err.splitlines()) == 1


def connecting(args: tuple[str, ...]) -> tuple[int, str, str]:
    """How a command line ends that looks for a real bus."""
    environ = {**os.environ, "TRISHULA_TOKEN": "dc." + "x" * 40}
    command = [sys.executable, "-m", "trishula.cli.main", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    return done.returncode, done.stdout, done.stderr


def test_no_token_is_told_without_arguments_of_python(
    trishula: Trishula, bus: FakeBus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRISHULA_TOKEN", raising=False)
    monkeypatch.delenv("TRISHULA_PROFILE", raising=False)
    with pytest.raises(errors.TokenMissing) as missing:
        load()
    assert "argument" in missing.value.sentence
    bus.error = missing.value
    ran = trishula("agents")
    assert (ran.code, ran.err.startswith("trishula: there is no token: set TRISHULA_TOKEN, or write")) == (
        Exit.FORBIDDEN,
        True,
    )


@pytest.mark.parametrize("path", [(), ("node",), ("dead",), ("token",)], ids=" ".join)
def test_a_command_that_is_missing_is_answered_by_the_help(trishula: Trishula, path: tuple[str, ...]) -> None:
    ran = trishula(*path)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert ran.err == trishula(*path, "--help").out
    assert "..." not in ran.err.partition("Commands:")[2].partition("Where")[0]


def test_an_unknown_option_as_json(trishula: Trishula) -> None:
    ran = trishula("agents", "--json", "--colour")
    assert ran.code == Exit.USAGE
    told = json.loads(ran.err)
    assert told["error"] == "usage"
    assert "--colour" in told["message"]
    assert told["message"].endswith("(try 'trishula agents --help')")


def test_commands_that_join(trishula: Trishula, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def extra() -> None:
        """Say hello."""
        click.echo("hello")

    class Point:
        name = "extra"

        def load(self) -> object:
            return extra

    class Points(tuple[Point, ...]):
        names = frozenset({"extra"})

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **how: Points([Point()]))
    assert re.search(r"\n  extra +Say hello.\n", trishula("--help").out)
    assert trishula("extra").out == "hello\n"


def test_a_command_that_joins_and_cannot_be_imported(trishula: Trishula, monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "node"

        def load(self) -> object:
            raise ImportError("No module named 'crossbar'")

    class Points(tuple[Point, ...]):
        names = frozenset({"node"})

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **how: Points([Point()]))
    ran = trishula("node", "start")
    sentence = (
        "the command node can't be loaded (No module named 'crossbar'); install what it needs: pip install "
        "'trishula-bus[router]' (in a checkout: pip install '.[router]')"
    )
    assert (ran.code, ran.err) == (Exit.FAILED, f"trishula: {sentence}\n")
    assert "can't be loaded" in trishula("--help").out


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BusUnreachable("x"), Exit.UNREACHABLE),
        (errors.TokenMissing("x"), Exit.FORBIDDEN),
        (errors.TokenInvalid("x"), Exit.FORBIDDEN),
        (errors.NotAllowed("x"), Exit.FORBIDDEN),
        (errors.RecipientForbidden("x"), Exit.FORBIDDEN),
        (errors.RecipientUnknown("x"), Exit.NOT_FOUND),
        (errors.MessageUnknown("x"), Exit.NOT_FOUND),
        (errors.ProcedureUnknown("x"), Exit.NOT_FOUND),
        (errors.MessageInvalid("x"), Exit.REFUSED),
        (errors.MailboxBusy("x"), Exit.REFUSED),
        (errors.MailboxFull("x"), Exit.TRY_LATER),
        (errors.StorageFull("x"), Exit.TRY_LATER),
        (errors.OutcomeUnknown("x"), Exit.OUTCOME_UNKNOWN),
        (errors.CallFailed("x"), Exit.FAILED),
        (errors.RemoteError("x", remote_uri="com.example.x"), Exit.FAILED),
        (SettingsInvalid("x"), Exit.USAGE),
        (ToolFailed("x"), Exit.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_exit_codes(error: errors.TrishulaError, code: Exit) -> None:
    assert exit_for(error) is code


@pytest.mark.parametrize("error", errors.wire_errors().values(), ids=lambda cls: cls.__name__)
def test_every_error_ends_with_a_code_of_its_own_kind(error: type[errors.TrishulaError]) -> None:
    assert exit_for(error("x")) not in (Exit.OK, Exit.USAGE, Exit.BUG)


def test_an_error_of_the_bus(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.RecipientUnknown("no agent nobody is registered")
    ran = trishula("send", "nobody", "--text", "x")
    assert (ran.code, ran.out, ran.err) == (Exit.NOT_FOUND, "", "trishula: no agent nobody is registered\n")
    assert bus.is_closed


def test_an_error_of_the_bus_as_json(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.MailboxFull("agni's mailbox is full", retry_after_s=2)
    ran = trishula("send", "agni", "--text", "x", "--json")
    assert (ran.code, ran.out) == (Exit.TRY_LATER, "")
    assert json.loads(ran.err) == {
        "error": "trishula.error.mailbox_full",
        "message": "agni's mailbox is full",
        "temporary": True,
        "retry_after_s": 2,
    }


def test_an_unknown_outcome_names_the_message(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.OutcomeUnknown("no answer", message_id="m9")
    ran = trishula("call", "agni", "host_report", "--json")
    assert ran.code == Exit.OUTCOME_UNKNOWN
    assert json.loads(ran.err)["id"] == "m9"


def test_a_remote_error_keeps_its_uri(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.RemoteError("the disk is gone", remote_uri="com.example.disk")
    assert json.loads(trishula("call", "agni", "x", "--json").err)["error"] == "com.example.disk"


def test_an_unreachable_bus(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.BusUnreachable("no node could be joined")
    ran = trishula("agents")
    assert (ran.code, ran.err) == (Exit.UNREACHABLE, "trishula: no node could be joined\n")


def test_a_bug_is_one_sentence(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = ZeroDivisionError("division by zero")
    ran = trishula("agents")
    assert (ran.code, ran.err) == (
        Exit.BUG,
        "trishula: this is a bug in trishula: ZeroDivisionError: division by zero (set TRISHULA_DEBUG=1 for the "
        "traceback)\n",
    )


def test_interrupted(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = KeyboardInterrupt()
    ran = trishula("agents")
    assert (ran.code, ran.err) == (Exit.INTERRUPTED, "\ntrishula: interrupted\n")


def test_url_and_profile_are_passed_on(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.DIRECTORY_LIST] = [[]]
    trishula("--url", "ws://a:1/ws", "--profile", "office", "agents")
    assert (bus.opened_with["url"], bus.opened_with["profile"]) == ("ws://a:1/ws", "office")


# -- agents ------------------------------------------------------------------------------------------------------------

AGNI = {
    "agent": "agni",
    "presence": "online",
    "since": 1763856000000,
    "reason": "its session is joined",
    "node": "single",
    "capabilities": ["deploy", "host"],
    "last_seen_at": 1763856001000,
    "clock_skew_ms": -3,
    "sessions": 1,
}
NEVER_SEEN: dict[str, Any] = {
    "agent": "dc",
    "presence": "offline",
    "since": None,
    "node": None,
    "capabilities": [],
    "last_seen_at": None,
}


def test_agents(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.DIRECTORY_LIST] = [[AGNI, NEVER_SEEN]]
    ran = trishula("agents")
    assert ran.code == 0
    row = next(line for line in ran.out.splitlines() if "agni" in line)
    assert row.split()[:2] == ["agni", "online"]
    assert "deploy, host" in row
    assert "-3 ms" in row
    assert bus.asked == [("request", (uris.DIRECTORY_LIST,), {})]


def test_agents_as_json(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.DIRECTORY_FIND] = [[AGNI]]
    assert trishula("agents", "--capability", "host", "--json").json == [AGNI]
    assert bus.asked == [("request", (uris.DIRECTORY_FIND, {"capability": "host"}), {})]


def test_no_agents(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.DIRECTORY_LIST] = [[]]
    ran = trishula("agents")
    assert (ran.out, ran.err) == ("", "no agents are registered\n")


# -- send --------------------------------------------------------------------------------------------------------------


def test_send(trishula: Trishula, bus: FakeBus) -> None:
    ran = trishula("send", "agni", "--payload", '{"a": [1, null]}', "--priority", "1", "--id", "m1", "--ttl", "2h")
    assert ran.code == 0
    assert ran.out == "accepted  m1  on single as 7, copies: 1\n"
    options = {"type": "STATUS", "payload": {"a": [1, None]}, "priority": 1, "id": "m1", "ttl_ms": 7200000}
    assert bus.asked == [("send", ("agni",), options)]


def test_send_of_nothing(trishula: Trishula, bus: FakeBus) -> None:
    ran = trishula("send", "agni")
    assert ran.code == Exit.USAGE
    assert ran.err.startswith("trishula: there is nothing to send to agni: give --text, --payload or --subject")
    assert bus.asked == []
    for given in (("--payload", "null"), ("--subject", "x"), ("--type", "RESULT", "--reply-to", "m1")):
        assert trishula("send", "agni", *given).code == Exit.OK


def test_send_as_json(trishula: Trishula, bus: FakeBus) -> None:
    ran = trishula("send", "broadcast", "--text", '"plain"', "--json")
    assert ran.json == {"id": "m1", "status": "accepted", "node": "single", "seq": 7, "copies": 1}
    assert bus.asked[0][2]["payload"] == '"plain"'


def test_send_a_command_without_a_payload(trishula: Trishula, bus: FakeBus) -> None:
    trishula("send", "agni", "--type", "COMMAND", "--procedure", "host_report")
    assert bus.asked[0][2] == {
        "type": "COMMAND",
        "payload": {"args": [], "kwargs": {}},
        "priority": 3,
        "procedure": "host_report",
    }


def test_send_what_stands_in_a_file(trishula: Trishula, bus: FakeBus, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_text('["ä"]', encoding="utf-8")
    trishula("send", "agni", "--payload", f"@{tmp_path}/payload.json")
    assert bus.asked[0][2]["payload"] == ["ä"]


def test_send_what_comes_on_standard_input(trishula: Trishula, bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"17")))
    trishula("send", "agni", "--payload", "-")
    assert bus.asked[0][2]["payload"] == 17


@pytest.mark.parametrize("how", ["--payload", "file", "stdin"])
def test_the_mark_of_an_editor_before_a_payload_is_skipped(
    trishula: Trishula, bus: FakeBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    text = '\ufeff{"a": "\ufeff"}'
    (tmp_path / "payload.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    given = {"--payload": text, "file": f"@{tmp_path}/payload.json", "stdin": "-"}[how]
    assert trishula("send", "agni", "--payload", given).code == Exit.OK
    assert bus.asked[0][2]["payload"] == {"a": "\ufeff"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_stray_bytes_in_a_payload_are_a_usage_error(
    trishula: Trishula, bus: FakeBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    (tmp_path / "payload.json").write_bytes(b'"\xff"')
    # As Python opens it under LANG=C: stray bytes become halves of characters.
    stdin = io.TextIOWrapper(io.BytesIO(b'"\xff"'), encoding=encoding, errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", stdin)
    said = [
        trishula("send", "agni", "--payload", "-"),
        trishula("send", "agni", "--payload", f"@{tmp_path}/payload.json"),
        trishula("send", "agni", "--payload", '"\udcff"'),
        trishula("send", "agni", "--payload", r'["\ud800"]'),
        trishula("send", "agni", "--text", "\udcff"),
        trishula("call", "agni", "add", "a=\udcff"),
        trishula("--profile", "\udcff", "agents"),
    ]
    assert [ran.code for ran in said] == [Exit.USAGE] * len(said)
    assert said[0].err == "trishula: --payload from standard input is not text in UTF-8 (try 'trishula send --help')\n"
    file = tmp_path / "payload.json"
    assert said[1].err == f"trishula: --payload from {file} is not text in UTF-8 (try 'trishula send --help')\n"
    assert said[3].err == (
        "trishula: --payload has half of a character, \\ud800, which is no text (try 'trishula send --help')\n"
    )
    for index in (2, 4, 5, 6):
        assert said[index].err.startswith("trishula: the argument ") and "is not text in UTF-8" in said[index].err
        assert said[index].err.isascii()
    assert bus.asked == []


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ["--payload", "hello"],
            "--payload is no JSON: Expecting value: line 1 column 1 (char 0); a string needs its quotes: '\"text\"'",
        ),
        (["--payload", "NaN"], "--payload is no JSON: NaN is not in JSON; a string needs its quotes: '\"text\"'"),
        (
            ["--payload", "@/no/such/file"],
            "--payload: the file '/no/such/file' can't be read: No such file or directory",
        ),
        (["--payload", "1", "--text", "a"], "--payload and --text are two ways to give the payload; leave one out"),
        (
            ["--ttl", "2"],
            '--ttl is \'2\'; it must be a duration with its unit, such as "250ms", "30s", "5m", "2h" or "7d"',
        ),
        (["--priority", "9"], "--priority is '9'; it must be a whole number from 1 to 5"),
        (
            ["--timeout", "soon"],
            '--timeout is \'soon\'; it must be a duration with its unit, such as "250ms", "30s", "5m", "2h" or "7d"',
        ),
    ],
)
def test_send_with_a_wrong_argument(trishula: Trishula, bus: FakeBus, args: list[str], sentence: str) -> None:
    ran = trishula("send", "agni", *args)
    assert (ran.code, ran.err.removesuffix("\n").partition(" (try ")[0]) == (Exit.USAGE, f"trishula: {sentence}")
    assert bus.asked == []


DONE = {"state": "done", "from": "dc/7f3a", "to": "agni", "accepted_at": 1000, "settled_at": 1250, "attempts": 1}


class Timer:
    """Stands for a thread's timer: its time is over at once, or never."""

    spans_s: list[float]
    is_over: bool

    def __init__(self, span_s: float, call: Callable[..., None], args: list[Any]) -> None:
        self.spans_s.append(span_s)
        self._call, self._args = call, args

    def start(self) -> None:
        if self.is_over:
            self._call(*self._args)

    def cancel(self) -> None:
        pass


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> type[Timer]:
    monkeypatch.setattr(Timer, "spans_s", [], raising=False)
    monkeypatch.setattr(Timer, "is_over", True, raising=False)
    monkeypatch.setattr(threading, "Timer", Timer)
    return Timer


REFUSALS = [
    errors.CopiesUnavailable("this node has no peer"),
    errors.MailboxFull("agni's mailbox is full"),
    errors.RateLimited("dc sends too fast"),
    errors.StorageFull("the disk is \x1b[31mfull"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
def test_send_says_once_that_a_message_waits(
    trishula: Trishula, bus: FakeBus, timer: type[Timer], refusal: errors.TrishulaError
) -> None:
    bus.refusals = [refusal, refusal]
    ran = trishula("send", "agni", "--text", "x", "--timeout", "30s")
    assert (ran.code, timer.spans_s) == (0, [1.0])
    sentence = refusal.sentence.replace("\x1b", "\\x1b")
    assert ran.err == (
        "trishula: the message waits in this process's memory, because the node refuses it for now: "
        f"{sentence} (tried again for 30 s; Ctrl-C gives up)\n"
    )
    assert ran.out.startswith("accepted  m1")


def test_send_says_nothing_of_a_refusal_that_is_soon_over(trishula: Trishula, bus: FakeBus, timer: type[Timer]) -> None:
    timer.is_over = False
    bus.refusals = [errors.RateLimited("dc sends too fast")]
    assert trishula("send", "agni", "--text", "x").err == ""


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
def test_send_as_json_says_only_at_its_end_that_a_message_was_refused(
    trishula: Trishula, bus: FakeBus, timer: type[Timer], refusal: errors.TrishulaError
) -> None:
    bus.refusals, bus.error = [refusal], refusal
    ran = trishula("send", "agni", "--text", "x", "--json")
    assert (ran.code, ran.out, timer.spans_s) == (Exit.TRY_LATER, "", [])
    told = json.loads(ran.err)
    assert (told["error"], told["message"], told["temporary"]) == (refusal.uri, refusal.sentence, True)


def test_send_and_wait(trishula: Trishula, bus: FakeBus) -> None:
    open_ = {**DONE, "state": "delivered", "settled_at": None}
    bus.answers[uris.MAILBOX_STATUS] = [{}, {"m1": open_}, {"m1": DONE}]
    ran = trishula("send", "agni", "--text", "x", "--wait")
    assert ran.code == 0
    assert ran.out.splitlines()[1] == "done  250 ms after it was accepted, attempts: 1"
    assert [asked[1] for asked in bus.asked[1:]] == [(uris.MAILBOX_STATUS, ["m1"])] * 3


def test_send_and_wait_for_what_dies(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.MAILBOX_STATUS] = [{"m1": {**DONE, "state": "dead"}}]
    ran = trishula("send", "agni", "--text", "x", "--wait", "--json")
    assert ran.code == Exit.FAILED
    assert ran.json["outcome"]["state"] == "dead"
    assert json.loads(ran.err)["message"] == "the message m1 was accepted and ended as dead: trishula why m1"


def test_send_and_wait_in_vain(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.MAILBOX_STATUS] = [{"m1": {**DONE, "state": "accepted"}}]
    ran = trishula("send", "agni", "--text", "x", "--wait", "--wait-timeout", "0s")
    assert (ran.code, ran.err) == (
        Exit.OUTCOME_UNKNOWN,
        "trishula: after 0.00 ms the message m1 is accepted; it stays on its way: ask with trishula why m1\n",
    )


# -- call --------------------------------------------------------------------------------------------------------------


def test_call(trishula: Trishula, bus: FakeBus) -> None:
    bus.result = {"host": "agni", "disks": [{"mount": "/", "used": 0.5}]}
    ran = trishula("call", "agni", "host_report", "/var", "3", "deep=true", "note=a b", "timeout=7", "--timeout", "30s")
    assert ran.code == 0
    assert '{"mount": "/", "used": 0.5}' in ran.out
    kwargs = {"deep": True, "note": "a b", "timeout": 7}
    assert bus.asked == [("call", ("agni", "host_report", ["/var", 3], kwargs, 30.0), {})]


def test_call_prints_text_as_text(trishula: Trishula, bus: FakeBus) -> None:
    long = "long " * 60
    bus.result = f"one\n\ttwo\x1b[2J\n{long.strip()}\n"
    assert trishula("call", "agni", "poem").out == f"one\n\ttwo\\x1b[2J\n{long.strip()}\n"
    bus.result = {"text": "one\ntwo", "n": 1}
    assert trishula("call", "agni", "poem").out == "text  one\n      two\nn     1\n"


def test_call_with_an_id_and_a_time_to_live(trishula: Trishula, bus: FakeBus) -> None:
    bus.result = 5
    trishula("call", "agni", "f", "--id", "c1", "--ttl", "2h")
    assert bus.asked == [("call", ("agni", "f", [], {}, 10.0), {"id": "c1", "ttl_ms": 7_200_000})]
    assert "--live stores nothing" in trishula("call", "agni", "f", "--id", "c1", "--live").err
    assert "--ttl is 'x'" in trishula("call", "agni", "f", "--ttl", "x").err
    assert len(bus.asked) == 1


def test_call_says_at_once_what_it_waits_for(trishula: Trishula, bus: FakeBus) -> None:
    bus.warning = "nobody announced it"
    bus.error = errors.OutcomeUnknown("no answer")
    ran = trishula("call", "capability:deplyo", "f")
    assert (ran.code, ran.err) == (
        Exit.OUTCOME_UNKNOWN,
        "trishula: warning: nobody announced it\ntrishula: no answer\n",
    )


def test_call_live_with_json(trishula: Trishula, bus: FakeBus) -> None:
    bus.result = [1, None]
    ran = trishula("call", "agni", "f", "1", "--args", "[2]", "--kwargs", '{"a": 3}', "--live", "--json")
    assert ran.json == [1, None]
    assert bus.asked == [("rpc", ("agni", "f", [1, 2], {"a": 3}, 10.0), {})]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--args", "{}"], "--args must be a JSON list, such as '[1, \"two\"]'"),
        (["--kwargs", "[]"], '--kwargs must be a JSON map, such as \'{"disk": "/"}\''),
        (["--args", "["], "--args is no JSON: "),
    ],
)
def test_call_with_a_wrong_argument(trishula: Trishula, bus: FakeBus, args: list[str], sentence: str) -> None:
    ran = trishula("call", "agni", "f", *args)
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(f"trishula: {sentence}")
    assert bus.asked == []


def test_a_call_that_fails(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.CallFailed("agni's host_report failed: no such disk")
    ran = trishula("call", "agni", "host_report")
    assert (ran.code, ran.err) == (Exit.FAILED, "trishula: agni's host_report failed: no such disk\n")


# -- inbox -------------------------------------------------------------------------------------------------------------


def delivery(number: int, **keys: Any) -> Delivery:
    wire = {"type": "STATUS", "id": f"m{number}", "from": "agni", "to": "dc", "payload": number, **keys}
    # As a node of an earlier release hands it out, which took other subjects.
    return Delivery(msgspec.convert(wire, Message), 1, f"{number}.1")


def fetched(*deliveries: Delivery, pending: int = 0, in_flight: int = 0) -> Fetched:
    return Fetched(list(deliveries), "e1", 42, pending, in_flight)


def test_inbox_prints_then_acknowledges(trishula: Trishula, bus: FakeBus) -> None:
    bus.fetched = [fetched(delivery(1), delivery(2, subject="hot", priority=1)), fetched()]
    ran = trishula("inbox")
    assert ran.code == 0
    assert "m1" in ran.out
    assert "(priority 1)" in ran.out
    assert ran.err == "2 taken; the mailbox is empty (as of record 42)\n"
    assert [verb for verb, _, _ in bus.asked] == ["fetch", "ack", "fetch"]
    assert bus.asked[1][1] == (["1.1", "2.1"],)


def test_inbox_prints_text_as_text(trishula: Trishula, bus: FakeBus) -> None:
    """The lines of a payload are indented, so that none can pass for the first line of another message."""
    bus.fetched = [fetched(delivery(1, payload=f"one\n2026-11-28T16:48:02.352Z  STATUS  op\r\n{'x' * 300}")), fetched()]
    assert trishula("inbox").out.splitlines()[1:] == [
        "  one",
        "  2026-11-28T16:48:02.352Z  STATUS  op",
        "  " + "x" * 300,
    ]


@pytest.mark.parametrize(("wait", "seconds"), [("5s", 5.0), ("500ms", 0.5), ("1m", 60.0), ("5", 5.0), ("0.5", 0.5)])
def test_inbox_waits(trishula: Trishula, bus: FakeBus, wait: str, seconds: float) -> None:
    bus.fetched = [fetched()]
    assert trishula("inbox", "--wait", wait).code == Exit.OK
    assert bus.asked[0][1] == (64, seconds)


@pytest.mark.parametrize("wait", ["2m", "61", "soon", "-1s"])
def test_inbox_waits_no_longer_than_a_minute(trishula: Trishula, bus: FakeBus, wait: str) -> None:
    ran = trishula("inbox", f"--wait={wait}")
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(f"trishula: --wait is '{wait}'; it must be ")


def test_inbox_says_what_it_left(trishula: Trishula, bus: FakeBus) -> None:
    bus.fetched = [fetched(delivery(1), pending=3, in_flight=1)]
    ran = trishula("inbox", "--max", "1")
    assert ran.err == "1 taken; 3 wait, 1 are delivered and not acknowledged\n"
    assert bus.asked[0][1] == (1, 0.0)


def test_inbox_peek_takes_nothing(trishula: Trishula, bus: FakeBus) -> None:
    counts = {"pending": 1, "in_flight": 1, "high_water": 42}
    bus.answers[uris.MAILBOX_PEEK] = [
        {"messages": [peeked(1, "delivered", 2)], "more": True, "after": [3, 1], **counts},
        {"messages": [peeked(2, "accepted", 0)], "more": False, "after": [3, 2], **counts},
    ]
    ran = trishula("inbox", "--peek")
    assert ran.err == "2 looked at; 1 wait, 1 are delivered and not acknowledged\n"
    assert "m1  (delivered and not acknowledged, attempt 2)" in ran.out
    assert [(verb, *args) for verb, args, _ in bus.asked] == [
        ("request", uris.MAILBOX_PEEK, {"max": 64}),
        ("request", uris.MAILBOX_PEEK, {"max": 64, "after": [3, 1]}),
    ]


def test_inbox_peek_ends_where_an_older_node_shows_the_same_page_again(trishula: Trishula, bus: FakeBus) -> None:
    counts = {"pending": 2, "in_flight": 0, "high_water": 42}
    page = {"messages": [peeked(1, "accepted", 0)], "more": True, "after": [3, 1 << 48], **counts}
    bus.answers[uris.MAILBOX_PEEK] = [page, page]
    ran = trishula("inbox", "--peek")
    assert ran.code == Exit.TRY_LATER
    assert "the node shows the same page again" in ran.err


def test_inbox_peek_as_json(trishula: Trishula, bus: FakeBus) -> None:
    one = peeked(1, "accepted", 0)
    bus.answers[uris.MAILBOX_PEEK] = [{"messages": [one], "more": True, "after": [3, 1]}]
    ran = trishula("inbox", "--peek", "--max", "1", "--json")
    assert (ran.lines, ran.err) == ([one], "")
    assert bus.asked == [("request", (uris.MAILBOX_PEEK, {"max": 1}), {})]


def test_inbox_follow_as_json(trishula: Trishula, bus: FakeBus) -> None:
    bus.fetched = [fetched(delivery(1)), fetched(), fetched(delivery(2))]
    ran = trishula("inbox", "--follow", "--json")
    assert ran.code == Exit.INTERRUPTED
    assert [line["message"]["id"] for line in ran.lines] == ["m1", "m2"]
    assert ran.lines[0]["token"] == "1.1"
    assert [args for verb, args, _ in bus.asked if verb == "ack"] == [(["1.1"],), (["2.1"],)]


def peeked(number: int, state: str, attempts: int) -> dict[str, Any]:
    return {"message": delivery(number).message.to_wire(), "state": state, "attempts": attempts}


@pytest.mark.parametrize("other", [["--follow"], ["--wait", "3"]])
def test_inbox_peek_and_what_takes(trishula: Trishula, bus: FakeBus, other: list[str]) -> None:
    ran = trishula("inbox", "--peek", *other)
    assert ran.code == Exit.USAGE
    assert bus.asked == []


def test_a_foreign_text_cannot_steer_the_terminal(trishula: Trishula, bus: FakeBus) -> None:
    bus.fetched = [fetched(delivery(1, subject="\x1b[2Jgone\r", payload={"a": "\x07[bold]x[/bold]"})), fetched()]
    ran = trishula("inbox")
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    assert "\\x1b[2Jgone\\r" in ran.out
    assert "[bold]x[/bold]" in ran.out


def test_inbox_purge(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_MAILBOX_PURGE] = [3]
    assert "3 messages to agni are dead letters now" in " ".join(trishula("inbox", "purge", "agni").out.split())
    assert bus.asked == [("request", (uris.ADMIN_MAILBOX_PURGE, "agni"), {})]
    assert trishula("inbox", "purge", "agni", "--json").json == {"agent": "agni", "ended": 3}


def test_inbox_purge_of_what_an_agent_sent(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_MAILBOX_PURGE] = [3, 3, 3]
    told = trishula("inbox", "purge", "mallory", "--sent", "--dry-run").out
    assert told == "3 messages from mallory are open\n"
    assert "3 messages from mallory are dead letters now" in trishula("inbox", "purge", "mallory", "--sent").out
    assert trishula("inbox", "purge", "mallory", "--dry-run", "--json").json == {"agent": "mallory", "open": 3}
    assert [args for _, args, _ in bus.asked] == [
        (uris.ADMIN_MAILBOX_PURGE, "mallory", {"sent": True, "dry_run": True}),
        (uris.ADMIN_MAILBOX_PURGE, "mallory", {"sent": True}),
        (uris.ADMIN_MAILBOX_PURGE, "mallory", {"dry_run": True}),
    ]


# -- cancel ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "states", "code", "said"),
    [
        ([True, True], {"m1": "cancelled", "m2": "cancelled"}, Exit.OK, "m2  cancelled"),
        ([True, False], {"m1": "cancelled", "m2": "done"}, Exit.FAILED, "m2  not cancelled: it is done"),
        ([True, False], {"m1": "cancelled"}, Exit.NOT_FOUND, "m2  unknown: you sent no message of that id"),
    ],
)
def test_cancel(
    trishula: Trishula, bus: FakeBus, answers: list[bool], states: dict[str, str], code: Exit, said: str
) -> None:
    bus.result = answers
    bus.answers[uris.MAILBOX_STATUS] = [{message_id: {"state": state} for message_id, state in states.items()}]
    ran = trishula("cancel", "m1", "m2")
    assert ran.code == code
    assert "m1  cancelled\n" in ran.out
    assert said in ran.out
    assert bus.asked[0] == ("cancel", ("m1", "m2"), {})
    told = trishula("cancel", "m1", "m2", "--json").json
    assert told["m2"] == {"cancelled": answers[1], "state": states.get("m2")}


# -- watch -------------------------------------------------------------------------------------------------------------


def test_watch(trishula: Trishula, bus: FakeBus) -> None:
    bus.events = {
        uris.EVENT_AGENT: [AGNI],
        uris.topic_of("agni", "load"): [0.7],
        uris.receipts_of("dc"): [[{"id": "m1", "to": "agni", "state": "done", "at": 1}]],
    }
    bus.answers[uris.DIRECTORY_GET] = [AGNI]
    ran = trishula("watch", "--max", "3", "--topic", "agni.load")
    assert ran.code == 0
    assert "agni is online  (its session is joined)" in ran.out
    assert "m1 to agni: done" in ran.out
    assert "0.7" in ran.out
    assert "watching as dc/7f3a" in ran.err


def test_watch_as_json(trishula: Trishula, bus: FakeBus) -> None:
    bus.events = {uris.EVENT_AGENT: [AGNI]}
    (line,) = trishula("watch", "--max", "1", "--json").lines
    assert (line["kind"], line["event"]) == ("agent", AGNI)


def test_watch_a_topic_that_is_none(trishula: Trishula, bus: FakeBus) -> None:
    ran = trishula("watch", "--topic", "agni")
    assert (ran.code, ran.err.partition(" (try")[0]) == (
        Exit.USAGE,
        "trishula: --topic is 'agni'; it must be AGENT.NAME, such as agni.load",
    )


@pytest.mark.parametrize("topic", ["NOBODY.load", "a b.load"])
def test_watch_a_topic_of_what_can_be_no_agent(trishula: Trishula, bus: FakeBus, topic: str) -> None:
    ran = trishula("watch", "--topic", topic)
    assert ran.code == Exit.USAGE
    assert "an agent's name is a lower-case letter" in ran.err
    assert bus.asked == []


def test_watch_a_topic_of_nobody(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.DIRECTORY_GET] = [errors.AgentUnknown('no agent "nobody" is registered')]
    assert trishula("watch", "--topic", "nobody.load").code == Exit.NOT_FOUND


# -- why, audit --------------------------------------------------------------------------------------------------------

LIFE = {
    "messages": [
        {
            "id": "m1",
            "from": "dc/7f3a",
            "to": "agni",
            "type": "COMMAND",
            "state": "done",
            "accepted_at": 1000,
            "delivered_at": 1004,
            "settled_at": 1250,
            "attempts": 1,
            "events": [
                {"seq": 3, "at": 1000, "kind": "accepted", "priority": 3, "bytes": 120, "sha256": "ab"},
                {"seq": 4, "at": 1004, "kind": "delivered", "attempt": 1},
                {"seq": 9, "at": 1250, "kind": "done"},
            ],
        }
    ]
}


def test_why(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_WHY] = [LIFE]
    ran = trishula("why", "m1")
    assert ran.code == 0
    assert "m1  COMMAND from dc/7f3a to agni: done after 250 ms, attempts: 1" in ran.out
    assert ran.out.splitlines()[1].startswith("nothing on record says by what the node verified dc")
    assert ran.out.splitlines()[3:] == [
        f"{local_time(1000)}            accepted   priority: 3, bytes: 120 B",
        f"{local_time(1004)}  +4.00 ms  delivered  attempt: 1",
        f"{local_time(1250)}  +246 ms   done",
    ]
    assert bus.asked == [("request", (uris.AUDIT_WHY, "m1"), {})]


def test_why_as_json_of_one_sender(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_WHY] = [LIFE]
    assert trishula("why", "m1", "--from", "dc/7f3a", "--json").json == LIFE
    assert bus.asked == [("request", (uris.AUDIT_WHY, "m1", {"from": "dc/7f3a"}), {})]


RECORD = {"seq": 5, "at": 1000, "kind": "joined", "agent": "agni", "session": 12}


def test_audit_query(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [{"records": [RECORD], "more": False, "after": 5}]
    bus.answers[uris.NODE_STATUS] = [{"high_water": 5}]
    ran = trishula("audit", "query", "--agent", "agni", "--kind", "joined", "--since", "1970-01-01T00:00:00+00:00")
    assert ran.code == 0
    assert ran.out == f"       5  {local_time(1000)}  joined       agent: agni, session: 12\n"
    options = {"agent": "agni", "kind": "joined", "since": 0, "after": 0, "limit": 1000, "archive": True}
    assert bus.asked[1:] == [("request", (uris.AUDIT_QUERY, options), {})]


def test_audit_query_shows_the_newest_with_whole_ids(trishula: Trishula, bus: FakeBus) -> None:
    long_id = "node:single:" + "4" * 110
    due = [{"seq": 5999, "at": 1000, "kind": "returned", "messages": [[6, 3, 1763856000123]], "id": long_id}]
    bus.answers[uris.AUDIT_QUERY] = [{"records": [*due, {**RECORD, "seq": 6000}], "more": False, "after": 6000}]
    bus.answers[uris.NODE_STATUS] = [{"high_water": 6000}]
    ran = trishula("audit", "query", "--last", "2")
    assert bus.asked[1][1] == (uris.AUDIT_QUERY, {"after": 5000, "limit": 1000, "archive": True})
    first, second = ran.out.splitlines()
    assert f"messages: 6 (failures: 3, due at {local_time(1763856000123)}), id: {long_id}" in first
    assert second.startswith("    6000  ")


def test_audit_query_behind_the_last_record(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [{"records": [], "more": False, "after": 99}]
    bus.answers[uris.NODE_STATUS] = [{"high_water": 6}]
    ran = trishula("audit", "query", "--after", "99")
    assert (ran.code, ran.err.partition(" (try")[0]) == (
        Exit.USAGE,
        "trishula: --after is 99, and the newest record of this node is 6",
    )
    assert trishula("audit", "query", "--after", "6").code == Exit.OK


def test_audit_query_from_both_ends(trishula: Trishula, bus: FakeBus) -> None:
    ran = trishula("audit", "query", "--last", "3", "--after", "7")
    assert ran.code == Exit.USAGE
    assert bus.asked == []


def test_audit_query_reads_on(trishula: Trishula, bus: FakeBus) -> None:
    second = {**RECORD, "seq": 9}
    bus.answers[uris.AUDIT_QUERY] = [
        {"records": [RECORD], "more": True, "after": 7},
        {"records": [second], "more": False, "after": 9},
    ]
    ran = trishula("audit", "query", "--limit", "3", "--json")
    assert ran.json == {"records": [RECORD, second], "more": False, "after": 9}
    questions = [{"after": 0, "limit": 3, "archive": True}, {"after": 7, "limit": 2, "archive": True}]
    assert [args[1] for _, args, _ in bus.asked] == questions


def test_audit_query_says_that_there_is_more(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [{"records": [RECORD], "more": True, "after": 5}]
    assert trishula("audit", "query", "--limit", "1").err == "there are more: --after 5, or a higher --limit\n"


def test_audit_query_since_what(trishula: Trishula, bus: FakeBus) -> None:
    ran = trishula("audit", "query", "--since", "yesterday")
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(
        "trishula: --since is 'yesterday'; it must be a span such as '10m', '2h' or '1d' (ago), or a date such "
        "as 2026-11-23T00:00:00 (here) or 2026-11-23T00:00:00Z"
    )


def test_audit_query_by_all_that_newer_nodes_know(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [{"records": [RECORD], "more": False, "after": 5, "bodies_gone": 2}]
    wide = ("--with", "dc", "--type", "COMMAND", "--outcome", "dead", "--subject", "it", "--procedure", "plan")
    ran = trishula("audit", "query", "--agent", "agni", *wide, "--kind", "done", "--kind", "dead", "--limit", "1")
    assert bus.asked[0][1][1] == {
        "agent": "agni",
        "with": "dc",
        "type": "COMMAND",
        "outcome": "dead",
        "procedure": "plan",
        "subject": "it",
        "kinds": ["done", "dead"],
        "after": 0,
        "limit": 1,
        "archive": True,
    }
    assert ran.err.startswith("the bodies of some messages are deleted: nobody knows what they were about")


def test_audit_query_at_a_node_of_the_release_before(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [errors.KeyUnknown('options has the unknown key "with"')]
    bus.answers[uris.NODE_STATUS] = [{"node": "a", "version": "1.9", "high_water": 5}]
    ran = trishula("audit", "query", "--with", "dc", "--limit", "5")
    assert (ran.code, ran.err) == (
        exit_for(errors.KeyUnknown("")),
        "trishula: the node a runs version 1.9, which can't search by --with yet; update it, or leave that out\n",
    )


def test_audit_query_as_json_has_its_errors_as_json_too(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [errors.NotAllowed("agni is no operator")] * 2
    errs = [trishula("audit", "query", "--limit", "5", *form).err for form in (("--json",), ("--format", "json"))]
    assert errs[0] == errs[1] and json.loads(errs[0])


def test_audit_query_prints_all_while_it_reads(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_QUERY] = [
        {"records": [RECORD], "more": True, "after": 7},
        {"records": [], "more": True, "after": 50_007},
        {"records": [{**RECORD, "seq": 50_009}], "more": False, "after": 50_009},
    ]
    ran = trishula("audit", "query", "--all", "--format", "jsonl")
    assert [line["seq"] for line in ran.lines] == [5, 50_009]
    assert [args[1]["after"] for _, args, _ in bus.asked] == [0, 7, 50_007]


def test_audit_query_prints_all_of_all_nodes(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_STATUS] = [{"peers": [{"node": "b", "copied": 9}, {"node": "c", "copied": 0}]}]
    bus.answers[uris.AUDIT_QUERY] = [
        {"records": [{**RECORD, "node": "a"}], "more": False, "after": 5},
        {"records": [{**RECORD, "node": "b"}], "more": False, "after": 5, "missing": []},
    ]
    ran = trishula("audit", "query", "--all", "--node", "*", "--format", "csv")
    header, *rows = ran.out.splitlines()
    assert header == "node,seq,at,kind,agent,from,to,id,type,reason,error,detail,facts"
    assert [row.partition(",")[0] for row in rows] == ["a", "b"]
    assert [args[1].get("node") for _, args, _ in bus.asked[1:]] == [None, "b"]


@pytest.mark.parametrize(
    "more",
    [
        ("--all", "--json"),
        ("--all", "--last", "3"),
        ("--all", "--limit", "3"),
        ("--json", "--format", "csv"),
        ("--type", "NEWS"),
    ],
)
def test_audit_query_in_two_ways_at_once(trishula: Trishula, bus: FakeBus, more: tuple[str, ...]) -> None:
    assert trishula("audit", "query", *more).code == Exit.USAGE
    assert bus.asked == []


def test_audit_verify(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.AUDIT_VERIFY] = [{"records": 12, "bodies": 3, "ok": True, "damaged": []}]
    ran = trishula("audit", "verify")
    assert (ran.code, ran.out) == (0, "12 records, all as they were written\n")


def test_audit_verify_of_a_damaged_journal(trishula: Trishula, bus: FakeBus) -> None:
    damaged = {"records": 12, "bodies": 3, "ok": False, "damaged": [{"seq": 4, "what": "the digest is wrong"}]}
    bus.answers[uris.AUDIT_VERIFY] = [damaged, damaged]
    ran = trishula("audit", "verify")
    assert (ran.code, ran.out) == (Exit.FAILED, "1 of 12 records are damaged\n  4: the digest is wrong\n")
    assert trishula("audit", "verify", "--json").code == Exit.FAILED


# -- dead --------------------------------------------------------------------------------------------------------------

LETTER = {
    "seq": 7, "from": "dc", "id": "m1", "to": "agni", "type": "STATUS", "reason": "it failed", "failures": 5,
    "attempts": 5, "dead_at": 1000, "bytes": 120,
}  # fmt: skip


def test_dead_list(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": [LETTER], "more": False}]
    ran = trishula("dead", "list", "--agent", "agni")
    assert ran.code == 0
    row = re.split("  +", ran.out.splitlines()[1])
    assert row == ["7", local_time(1000, "seconds"), "STATUS", "agni", "m1", "dc", "5", "it failed"]
    assert bus.asked == [("request", (uris.ADMIN_DEAD_LIST, {"after": 0, "limit": 100, "agent": "agni"}), {})]


def test_dead_list_reads_on(trishula: Trishula, bus: FakeBus) -> None:
    second = {**LETTER, "seq": 9}
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": [LETTER], "more": True}, {"letters": [second], "more": True}]
    ran = trishula("dead", "list", "--limit", "2", "--json")
    assert ran.json == {"letters": [LETTER, second], "more": True}
    assert [args[1] for _, args, _ in bus.asked] == [{"after": 0, "limit": 2}, {"after": 7, "limit": 1}]


def test_dead_list_says_that_there_is_more(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": [LETTER], "more": True}]
    assert trishula("dead", "list", "--limit", "1").err == "there are more: --after 7, or a higher --limit\n"


def test_dead_list_of_none(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": [], "more": False}]
    ran = trishula("dead", "list")
    assert (ran.code, ran.out, ran.err) == (0, "", "no dead letters\n")


@pytest.mark.parametrize("command", [("dead", "list", "--agent"), ("audit", "query", "--agent"), ("inbox", "purge")])
def test_an_agent_that_is_nobody(trishula: Trishula, bus: FakeBus, command: tuple[str, ...]) -> None:
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": [], "more": False}]
    bus.answers[uris.AUDIT_QUERY] = [{"records": [], "more": False, "after": 5}]
    bus.answers[uris.NODE_STATUS] = [{"high_water": 5}]
    bus.answers[uris.ADMIN_MAILBOX_PURGE] = [0]
    bus.answers[uris.DIRECTORY_GET] = [errors.AgentUnknown('no agent "nobody" is registered')]
    ran = trishula(*command, "nobody")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert ran.err == 'trishula: no agent "nobody" is registered\n'


def test_dead_show(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_SHOW] = [{**LETTER, "message": {"id": "m1", "payload": [1]}}]
    ran = trishula("dead", "show", "7")
    assert ran.code == 0
    assert "message.payload  [1]\n" in ran.out
    assert "bytes            120 B\n" in ran.out
    assert f"dead_at          {local_time(1000)}\n" in ran.out
    assert bus.asked == [("request", (uris.ADMIN_DEAD_SHOW, 7), {})]


def test_dead_show_of_none(trishula: Trishula, bus: FakeBus) -> None:
    bus.error = errors.MessageUnknown("there is no dead letter 7")
    assert trishula("dead", "show", "7").code == Exit.NOT_FOUND


def test_dead_replay(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_REPLAY] = [[True, True]]
    ran = trishula("dead", "replay", "7", "9")
    assert (ran.code, ran.out) == (0, "2 of 2 dead letters are back in their mailboxes\n")
    assert bus.asked == [("request", (uris.ADMIN_DEAD_REPLAY, [7, 9]), {})]


def test_dead_replay_of_what_is_none(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_REPLAY] = [[True, False]]
    ran = trishula("dead", "replay", "7", "9")
    assert (ran.code, ran.out) == (
        Exit.NOT_FOUND,
        "1 of 2 dead letters are back in their mailboxes\n"
        "9 is not: it is no dead letter (any more), or its recipient is gone\n",
    )
    bus.answers[uris.ADMIN_DEAD_REPLAY] = [[True, False]]
    assert trishula("dead", "replay", "7", "9", "--json").json == {"replayed": [7], "left": [9]}


def test_dead_purge(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_PURGE] = [2]
    assert trishula("dead", "purge", "7", "9").out == "2 dead letters were purged\n"
    assert trishula("dead", "purge", "--all", "--json").json == {"purged": 2}
    assert [args[1] for _, args, _ in bus.asked] == [[7, 9], {}]


def test_dead_purge_of_the_old(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_PURGE] = [3]
    before_ms = time.time() * 1000
    assert trishula("dead", "purge", "--older-than", "1h").code == 0
    ((_, (_, options), _),) = bus.asked
    assert before_ms - 3_600_001 <= options["before"] <= time.time() * 1000 - 3_600_000 + 1


def test_dead_purge_of_what_is_none(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.ADMIN_DEAD_PURGE] = [1]
    ran = trishula("dead", "purge", "7", "9", "9")
    assert ran.code == Exit.NOT_FOUND
    assert ran.out == (
        "1 dead letter was purged; 1 of the numbers is no dead letter's (any more): trishula dead list\n"
    )


@pytest.mark.parametrize("how", [(), ("7", "--all"), ("--all", "--older-than", "1h")])
def test_dead_purge_of_what(trishula: Trishula, bus: FakeBus, how: tuple[str, ...]) -> None:
    ran = trishula("dead", "purge", *how)
    assert ran.code == Exit.USAGE
    assert ran.err.startswith("trishula: name the letters by their numbers, or give one of --older-than and --all (try")
    assert bus.asked == []


# -- agent run ---------------------------------------------------------------------------------------------------------

SILENT_AGENT = "from trishula import Agent\nbot = Agent('bot')\nbot.run = lambda **how: print('ran', how)\n"


def test_run_an_agent_of_a_file(trishula: Trishula, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "one_bot.py").write_text(SILENT_AGENT)
    ran = trishula("--url", "ws://a:1/ws", "agent", "run", f"{tmp_path}/one_bot.py:bot")
    assert (ran.code, ran.out) == (0, "ran {'url': 'ws://a:1/ws', 'profile': None}\n")


def test_run_an_agent_of_a_module(trishula: Trishula, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "other_bot.py").write_text(SILENT_AGENT)
    assert trishula("agent", "run", "other_bot:bot").out == "ran {}\n"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("nobody", "no agent 'nobody' ships with TRISHULA (there are "),
        ("no.such:agent", "there is no module 'no.such' to import; give MODULE:ATTR or FILE.py for one of your own"),
        ("no/such.py", "there is no file 'no/such.py'"),
        ("json:loads", "json has no Agent named 'loads'; it has no agent at all"),
        (":x", "':x' names no module before the colon"),
        ("x:", "'x:' names no attribute behind the colon"),
    ],
)
def test_run_what_is_no_agent(trishula: Trishula, monkeypatch: pytest.MonkeyPatch, target: str, sentence: str) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    ran = trishula("agent", "run", target)
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(f"trishula: {sentence}")


@pytest.mark.parametrize(
    ("text", "line", "what", "shown"),
    [
        ("import trishula\nagent = trishula.Agent('bot'\n", 2, "SyntaxError: '(' was never closed", "agent = trishula"),
        ("import no_such_one\n", 1, "ModuleNotFoundError: No module named 'no_such_one'", "import no_such_one"),
        (
            "from trishula import Agent\nagent = Agent('bot')\n@agent.on(5)\nasync def heard(message):\n    pass\n",
            3, "", "@agent.on(5)",
        ),
        ("from trishula import Agent\nagent = Agent('Bot!')\n", 2, "", "agent = Agent('Bot!')"),
        ("x = 1 / 0\n", 1, "ZeroDivisionError: division by zero", "x = 1 / 0"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError", "json.loads('{')"),
    ],
)  # fmt: skip
def test_an_error_in_an_agent_s_own_file_is_its_author_s(
    trishula: Trishula, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, what: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty_bot.py").write_text(text)
    ran = trishula("agent", "run", "./faulty_bot.py")
    assert ran.code == Exit.USAGE
    assert ran.err.startswith(
        "trishula: the agent './faulty_bot.py' can't be run, because of an error in its own code: "
    )
    assert what in ran.err
    assert f"\n  faulty_bot.py, line {line}:\n    {shown}" in ran.err
    assert "bug in trishula" not in ran.err
    told = json.loads(trishula("agent", "run", "./faulty_bot.py", "--json").err)
    assert (told["error"], f"faulty_bot.py, line {line}" in told["message"]) == ("usage", True)


def test_an_error_while_an_agent_runs_that_is_not_its_author_s(
    trishula: Trishula, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run_badly(*args: Any, **how: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("trishula.agent.Agent.run", run_badly)
    # As a module of the library's is: no frame of the author's is in it.
    monkeypatch.setattr("trishula.cli.agent_fault._is_library", lambda filename: True)
    (tmp_path / "good_bot.py").write_text("from trishula import Agent\nagent = Agent('bot')\n")
    assert trishula("agent", "run", f"{tmp_path}/good_bot.py").code == Exit.BUG


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ä b", "ä b"),
        ("a\nb", "a\\nb"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\u202e", "\\u202e"),
        ({"a": 1}, '{"a": 1}'),
        (None, "null"),
    ],
)
def test_plain(value: object, text: str) -> None:
    assert plain(value) == text


def test_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert local_time(1763856000123) == "2025-11-23T01:00:00.123+01:00"
        assert local_time(1763856000123, "seconds") == "2025-11-23T01:00:00+01:00"
    finally:
        monkeypatch.undo()
        time.tzset()
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert local_time(1763856000123) == "2025-11-23T00:00:00.123Z"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert local_time(None) == "–"
    assert local_time(10**18) == str(10**18)


#: What an agent's exception may say: to a terminal (ESC, and CSI and OSC as one character), and to who reads lines.
FORGED = "no\x1b[2J\x9b31m\x9d0;title\x07\r\n2026-11-28 00:00:00 INFO all is well\u2028"


@pytest.mark.parametrize("options", [(), ("--live",)])
def test_what_a_procedure_fails_with_gives_no_orders_to_the_terminal(
    trishula: Trishula, bus: FakeBus, options: tuple[str, ...]
) -> None:
    bus.error = errors.CallFailed(FORGED)
    for ran in (trishula("call", "agni", "deploy", *options), trishula("call", "agni", "deploy", *options, "--json")):
        assert ran.code == Exit.FAILED
        assert all(char == "\n" or char.isprintable() for char in ran.out + ran.err)
        assert len(ran.err.splitlines()) == 1
    assert json.loads(ran.err)["message"] == FORGED


def test_a_result_as_json_gives_no_orders_to_the_terminal(trishula: Trishula, bus: FakeBus) -> None:
    bus.result = {"said": FORGED, FORGED: 1}
    for ran in (trishula("call", "agni", "deploy"), trishula("call", "agni", "deploy", "--json")):
        assert all(char == "\n" or char.isprintable() for char in ran.out)
    assert ran.json == bus.result


def test_a_line_of_an_agent_s_log_is_one_line() -> None:
    formatter = process._TextFormatter(is_journal=True)
    record = logging.LogRecord("trishula", logging.ERROR, __file__, 1, "%s", (FORGED,), None)
    line = formatter.format(record)
    assert line.startswith("<3>ERROR no\\x1b[2J\\x9b31m")
    assert line.isprintable()
