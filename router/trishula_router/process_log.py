"""What the processes of a node write into their log: Crossbar's lines and ours, in the form that was asked for.

A router worker hands each event of its log, as JSON, to Crossbar's controller, which writes it: so the worker's end
(:func:`for_worker`) takes apart what the event says, and the controller's end (:func:`for_controller`) writes lines of
:mod:`trishula.log_lines`. Both take the place of Crossbar's own observers before Crossbar imports them.

Below ``warning`` Crossbar's own lines are never written, whatever level is asked for: they tell what clients hand over
when they join.

Beneath systemd each line goes to the journal too, with its priority.

A log that was renamed, as logrotate does, is opened anew (:class:`LogFile`): no signal is needed, and no line is lost.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from twisted.logger import LogLevel, formatEvent, formatTime

from trishula.contract.texts import one_line
from trishula.log_lines import FIELDS, FORMAT_VARIABLE, json_line, prioritized, traceback_lines

__all__ = ["JOURNAL", "LOG_FILE", "NODE_NAME", "LogFile", "crossbar_level", "for_controller", "for_worker"]

#: Set by whoever starts a node's processes: the log's path, the node's name, and the open file that the journal reads.
LOG_FILE, NODE_NAME, JOURNAL = "TRISHULA_LOG_FILE", "TRISHULA_LOG_NODE", "TRISHULA_LOG_JOURNAL"

#: The names of our own loggers begin so.
_OURS = "trishula"
_CROSSBARS = ("crossbar", "autobahn", "txaio")
_PARTS = "trishula_parts"
_LEVELS = {"warn": "warning"}
#: Crossbar colours names in its sentences, for terminals.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Observer = Callable[[Mapping[str, Any]], None]


def crossbar_level(level: str) -> str:
    """What Crossbar calls a level of :data:`trishula.log_lines.LEVELS`; the node itself has no lines below ``info``."""
    return {"warning": "warn", "debug": "info"}.get(level, level)


def for_worker(logging: ModuleType) -> None:
    """Have a worker's events handed over with what they are made of, beside the sentence.

    Args:
        logging: Crossbar's module of that name.
    """
    make = logging.make_JSON_observer

    def make_observer(out: TextIO) -> Observer:
        hand_over: Observer = make(out)

        def observe(event: Mapping[str, Any]) -> None:
            level = event.get("log_level", LogLevel.info).name
            if logging.log_levels.index(level) > logging.log_levels.index(logging.get_global_log_level()):
                # Crossbar's observer drops it as well; most events are below, and formatting takes long.
                return
            parts: dict[str, Any] = {"message": formatEvent(dict(event)), "event": event.get("log_format")}
            parts["at_s"] = event.get("log_time")
            failure = event.get("log_failure")
            if failure is not None:
                parts["traceback"] = failure.getTraceback()
            parts["fields"] = {name: _field(event[name]) for name in FIELDS if event.get(name) is not None}
            hand_over({**event, _PARTS: parts})

        return observe

    logging.make_JSON_observer = make_observer  # type: ignore[attr-defined]


def _field(value: object) -> int | str:
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)


def for_controller(logging: ModuleType, environ: Mapping[str, str]) -> None:
    """Have Crossbar's controller write lines of ours.

    Args:
        logging: Crossbar's module of that name.
        environ: of this process.
    """
    line_of = _json_of if environ.get(FORMAT_VARIABLE) == "json" else _text_of
    node = environ.get(NODE_NAME, "")
    journal = int(environ.get(JOURNAL) or 0)

    def make_observer(levels: tuple[Any, ...], **_: object) -> Observer:
        def observe(event: Mapping[str, Any]) -> None:
            if event["log_level"] in levels and not _is_withheld(event):
                line = line_of(event, node)
                _write(2, line)
                if journal:
                    _write(journal, prioritized(line, _level_of(event)))

        return observe

    def out(levels: tuple[Any, ...] = (LogLevel.info,), **_: object) -> Observer:
        return make_observer(levels)

    def err(levels: tuple[Any, ...] = (LogLevel.warn, LogLevel.error, LogLevel.critical), **_: object) -> Observer:
        return make_observer(levels)

    logging.make_stdout_observer = out  # type: ignore[attr-defined]
    logging.make_stderr_observer = err  # type: ignore[attr-defined]


def _is_withheld(event: Mapping[str, Any]) -> bool:
    """Whether a line is one that nobody may ask for: see the module's docstring."""
    if event["log_level"] not in (LogLevel.info, LogLevel.debug):
        return False
    logger = _logger_of(event)
    # What the controller says without any of them is Twisted's word that a signal came.
    return not logger.startswith(_OURS) if "cb_namespace" in event else logger.startswith(_CROSSBARS)


def _logger_of(event: Mapping[str, Any]) -> str:
    return str(event.get("cb_namespace") or event.get("log_namespace") or "")


def _parts_of(event: Mapping[str, Any]) -> tuple[str, str | None, Mapping[str, Any]]:
    """Sentence, traceback and the rest of an event, a worker's or the controller's own."""
    parts = event.get(_PARTS)
    if isinstance(parts, dict):
        return str(parts.get("message") or ""), parts.get("traceback"), parts
    failure = event.get("log_failure")
    text = formatEvent(dict(event)) if event.get("log_format") is not None else ""
    return text, None if failure is None else failure.getTraceback(), {"event": event.get("log_format")}


def _text_of(event: Mapping[str, Any], node: str) -> str:
    message, traceback, _ = _parts_of(event)
    system = event.get("log_system", "-")
    if system == "-":
        system = f"{'Controller':<10} {os.getpid():>6}"
    is_ours = _logger_of(event).startswith(_OURS)
    # Crossbar's own sentences may be several lines, which say why it ends, and coloured.
    lines = [one_line(message)] if is_ours else traceback_lines(_COLOUR.sub("", message))
    if traceback is not None:
        lines += [*traceback_lines(traceback), ""]
    return "\n".join([f"{formatTime(event['log_time'])} [{system}] {lines[0]}", *lines[1:]])


def _json_of(event: Mapping[str, Any], node: str) -> str:
    message, traceback, parts = _parts_of(event)
    at_s = parts.get("at_s")
    return json_line(
        at_s if isinstance(at_s, int | float) else event["log_time"],
        _level_of(event),
        _logger_of(event),
        _COLOUR.sub("", message),
        event=parts.get("event"),
        fields={"node": node, **(parts.get("fields") or {})},
        traceback=traceback,
    )


def _level_of(event: Mapping[str, Any]) -> str:
    level: str = event["log_level"].name
    return _LEVELS.get(level, level)


def _write(descriptor: int, text: str) -> None:
    """Write a line in one piece; a disk that is full is no reason to end."""
    data = f"{text}\n".encode(errors="backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


class LogFile:
    """The log as this process has it open, as its standard output and error.

    Args:
        path: where the log lies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def follow(self, every_s: float = 0.2) -> None:
        """Look for ever whether the log was renamed, and open it anew; for a thread."""
        while True:
            time.sleep(every_s)
            self.reopen()

    def reopen(self) -> bool:
        """Open the log anew if what this process has open is not what lies there; whether that was done."""
        try:
            ours = os.fstat(2)
            try:
                there = os.stat(self._path)
                if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                    return False
            except FileNotFoundError:
                pass
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            for number in (1, 2):
                os.dup2(descriptor, number)
            os.close(descriptor)
        except OSError:
            # The directory is gone, or the disk is full: what is open goes on.
            return False
        return True
