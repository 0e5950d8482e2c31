"""Lines of a log, for people and for programs: what is in them, and that nobody forges one."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from trishula.consumer import process
from trishula.contract.deliveries import CurrentDelivery, Delivery, running
from trishula.contract.message import Message
from trishula.log_lines import LogOptionInvalid, chosen, goes_to_journal, json_line, prioritized
from trishula.runtime.pending import Pending

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
AT_S = 1_764_362_082.0625


def test_a_line_of_json() -> None:
    line = json_line(AT_S, "warning", "trishula_router.edge", "a said b", event="{agent} said b", fields={"peer": "b"})
    assert line.count("\n") == 0
    assert json.loads(line) == {
        "time": "2025-11-28T20:34:42.062Z",
        "level": "warning",
        "logger": "trishula_router.edge",
        "message": "a said b",
        "event": "{agent} said b",
        "peer": "b",
    }


def test_only_known_fields_that_have_a_value_are_in_a_line() -> None:
    fields = {"agent": "dc", "message_id": None, "node": "", "session": 7, "payload": {"secret": 1}, "token": "dc.abc"}
    said = json.loads(json_line(AT_S, "info", "x", "y", fields=fields))
    assert said.keys() == {"time", "level", "logger", "message", "agent", "session"}
    assert said["session"] == 7


@pytest.mark.parametrize("text", ["a\nb", "a\r\x1b[31mb", "a\u2028b", "a\x85b", "a\ud800b", "a\x00b"])
def test_what_others_wrote_makes_no_second_line_and_no_escape(text: str) -> None:
    line = json_line(AT_S, "info", text, text, fields={"peer": text})
    assert line.isascii() and line.isprintable()
    said = json.loads(line)
    assert said["message"].isprintable() and said["peer"].isprintable()


def test_a_field_and_a_message_have_a_bound() -> None:
    line = json_line(AT_S, "info", "x", "m" * 100_000, fields={"peer": "p" * 10_000}, traceback="t" * 1_000_000)
    assert len(line) < 50_000


def test_what_is_asked_for() -> None:
    assert chosen({}, "info") == ("text", "info")
    assert chosen({"TRISHULA_LOG_FORMAT": "json", "TRISHULA_LOG_LEVEL": "debug"}, "info") == ("json", "debug")
    assert chosen({"TRISHULA_LOG_FORMAT": "", "TRISHULA_LOG_LEVEL": ""}, "info") == ("text", "info")
    with pytest.raises(LogOptionInvalid, match="TRISHULA_LOG_FORMAT is 'xml'; it must be one of auto, text, json"):
        chosen({"TRISHULA_LOG_FORMAT": "xml"}, "info")
    with pytest.raises(LogOptionInvalid, match="TRISHULA_LOG_LEVEL is 'loud'; it must be one of error, warning, info"):
        chosen({"TRISHULA_LOG_LEVEL": "loud"}, "info")


def test_the_journal_is_known_by_its_own_end(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as journal, (tmp_path / "other").open("w") as other:
        status = os.fstat(journal.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert goes_to_journal(environ, journal.fileno())
        # As it is when a program beneath systemd writes into a file.
        assert not goes_to_journal(environ, other.fileno())
        assert not goes_to_journal({}, journal.fileno())
        assert not goes_to_journal({"JOURNAL_STREAM": "nonsense"}, journal.fileno())


def test_each_line_has_its_priority() -> None:
    assert prioritized("a\nb", "warning") == "<4>a\n<4>b"
    assert prioritized("a", "critical") == "<2>a"


# -- an agent's --------------------------------------------------------------------------------------------------------


class Log:
    """What an agent's handler writes of records that are given to it."""

    def __init__(self, **environ: str) -> None:
        self.handler = process.log_handler("agni", environ)

    def line(self, name: str, level: int, text: str, *args: object, error: BaseException | None = None) -> str:
        info = None if error is None else (type(error), error, error.__traceback__)
        return self.handler.format(logging.LogRecord(name, level, __file__, 1, text, args, info))

    def said(self, name: str, level: int, text: str, *args: object, error: BaseException | None = None) -> Any:
        return json.loads(self.line(name, level, text, *args, error=error))


def raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_what_a_handler_logs_names_the_message_it_handles() -> None:
    log = Log(TRISHULA_LOG_FORMAT="json")
    message = Message(
        type="STATUS", id="m-1", to="agni", sender="dc", payload="hush", traceparent=f"00-{TRACE}-{'1' * 16}-01"
    )
    outside = log.said("my.bot", logging.INFO, "at %s", "work")
    token = running.set(
        CurrentDelivery(Delivery(message, 1, "t"), lambda message, for_s: Pending(), lambda message: Pending())
    )
    try:
        handling = log.said("my.bot", logging.INFO, "at %s", "work")
    finally:
        running.reset(token)
    assert outside.items() >= {"logger": "my.bot", "message": "at work", "event": "at %s", "agent": "agni"}.items()
    assert {"message_id", "trace_id", "peer"}.isdisjoint(outside)
    assert handling.items() >= {"message_id": "m-1", "trace_id": TRACE, "peer": "dc", "agent": "agni"}.items()
    assert "hush" not in json.dumps(handling)


def test_the_level_is_the_one_that_was_asked_for() -> None:
    assert Log().handler.level == logging.INFO
    assert Log(TRISHULA_LOG_LEVEL="error").handler.level == logging.ERROR


FORGED = "2026-11-28 20:00:00,000 INFO forged"


def test_an_exception_is_a_field_of_its_own() -> None:
    said = Log(TRISHULA_LOG_FORMAT="json").said("x", logging.ERROR, "it broke", error=raised(f"one\n{FORGED}"))
    assert (said["level"], said["message"]) == ("error", "it broke")
    assert said["traceback"].startswith("Traceback (most recent call last):\n")
    assert said["traceback"].endswith(f"ValueError: one\n  {FORGED}")


def test_in_text_a_traceback_forges_no_line() -> None:
    lines = Log().line("x", logging.ERROR, "it\nbroke", error=raised(f"one\n{FORGED} \x1b[31m")).split("\n")
    assert lines[0].endswith("ERROR it\\nbroke")
    assert [line for line in lines if line.startswith("20")] == lines[:1]
    assert lines[-1] == f"  {FORGED} \\x1b[31m"


def test_beneath_systemd_the_lines_have_priorities() -> None:
    status = os.fstat(2)
    log = Log(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    assert log.line("x", logging.WARNING, "careful") == "<4>WARNING careful"
    assert log.line("x", logging.ERROR, "it broke", error=raised("no")).splitlines()[-1] == "<3>ValueError: no"
