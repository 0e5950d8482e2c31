"""``trishula top``: agents, traffic, mailboxes and links of a bus, live in a terminal."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.cli.words import is_unicode
from trishula.contract import uris
from trishula.errors import BusUnreachable, NodeStopping, OutcomeUnknown, TrishulaError
from trishula.watching.facts import Facts, facts_of
from trishula.watching.journals import Journals

if TYPE_CHECKING:
    from rich.console import Console

    from trishula.sync import Bus

__all__ = ["top"]

_EVERY_S = 1.0
#: Between two looks at a node that is slow to answer: it has other things to do as well.
_LEAST_PAUSE_S = 0.2
#: A node that hasn't answered for so long is told as gone; it is asked again all the same.
_ANSWER_S = 3.0
#: The first look may take longer: nothing is shown that would be old.
_FIRST_ANSWER_S = 10.0
#: So often the keys and the size of the terminal are looked at.
_KEYS_S = 0.1
#: The node answers at most so many at a time.
_MOST_MAILBOXES = 1000
_KEYS = "q: quit   p: pause"
_CTRL_C = "Ctrl-C: quit"


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end; so it does wherever there is no terminal.")
@json_option
@click.pass_obj
def top(state: State, once: bool) -> None:
    """Show agents, traffic, latency, mailboxes and links, live (operators and observers).

    The frame is drawn anew each second: who is there, who sends to whom (messages a second in the last ten seconds and
    in the last minute), how long messages took from their acceptance until they were done, the deepest mailboxes, and
    the links to other nodes. q quits, p pauses. When the node is gone the frame says so, and goes on as soon as the
    node is back.

    Traffic is counted from the node's journal, by 4000 records at most in a look: the frame says how many were passed
    over. --json prints the facts of one frame.

    \b
    Examples:
      trishula top
      trishula top --once
      trishula top --once --json
    """
    console = state.console()
    is_once = once or state.json or not sys.stdout.isatty() or console.is_dumb_terminal
    with state.bus(looks_only=True) as bus:
        looks = _Looks(bus)
        facts = looks.look(_FIRST_ANSWER_S)
        if not is_once:
            _live(console, looks, facts)
        elif state.json:
            state.line(facts)
        else:
            from trishula.cli.top_frame import frame

            width = console.width if console.is_terminal else None
            for line in frame(facts, width, cut=_mark()):
                state.print(line)


@dataclass(slots=True)
class _Seen:
    """What the looks found last.

    Attributes:
        facts: of the last look that succeeded.
        at_s: when that was, of the monotonic clock.
        fault: why the looks since then failed; ``None`` if none did.
        end: an error because of which no further look can succeed.
    """

    facts: Facts
    at_s: float
    fault: TrishulaError | None = None
    end: BaseException | None = None


class _Looks:
    """Asks the node for what a frame shows."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._journals = Journals()

    def look(self, timeout_s: float) -> Facts:
        """Ask for all of it.

        Raises:
            TrishulaError: what the node answered, or that it doesn't.
        """

        def ask(uri: str, *args: Any) -> Any:
            return self._bus.request(uri, *args, timeout=timeout_s)

        status = ask(uris.NODE_STATUS)
        entries = ask(uris.DIRECTORY_LIST)
        try:
            boxes = ask(uris.NODE_MAILBOXES, {"limit": _MOST_MAILBOXES})
        except NodeStopping:
            # A router says the same of a procedure that a node of an earlier release hasn't. One that does stop is gone
            # by the next look.
            boxes = None
        self._journals.read_on(lambda options: ask(uris.AUDIT_QUERY, options), status, time.monotonic)
        return facts_of(status, entries, boxes, self._journals.flow, self._journals.now(time.monotonic()))

    def keep_looking(self, seen: _Seen, ends: threading.Event) -> None:
        """Look once a second, in a thread of its own: the terminal waits for no node."""
        pause_s = _EVERY_S
        while not ends.wait(pause_s):
            begun_s = time.monotonic()
            try:
                facts = self.look(_ANSWER_S)
                seen.facts, seen.at_s, seen.fault = facts, time.monotonic(), None
            except TrishulaError as error:
                if not (error.temporary or isinstance(error, OutcomeUnknown)):
                    seen.end = error
                    return
                seen.fault = error
            except BaseException as error:
                # A bug: it is told where errors are told, and not by a thread in the middle of a frame.
                seen.end = error
                return
            pause_s = max(_LEAST_PAUSE_S, _EVERY_S - (time.monotonic() - begun_s))


def _live(console: Console, looks: _Looks, facts: Facts) -> None:
    """Draw until somebody quits."""
    from trishula.cli.top_frame import Notice, frame
    from trishula.cli.top_screen import screen

    seen, ends = _Seen(facts, time.monotonic()), threading.Event()
    looker = threading.Thread(target=looks.keep_looking, args=(seen, ends), name="trishula-top", daemon=True)
    looker.start()
    try:
        with screen(console) as shown:
            is_paused, drawn = False, None
            while seen.end is None:
                if not is_paused:
                    facts, fault, at_s = seen.facts, seen.fault, seen.at_s
                # The age of old facts is drawn each second; else there is a new frame with new facts only.
                age_s = 0 if fault is None else int(time.monotonic() - at_s)
                size = console.size
                if drawn != (now_drawn := (size, at_s, age_s, fault, is_paused)):
                    notice = Notice(
                        fault=None if fault is None else _words(fault),
                        reason="" if fault is None else fault.sentence,
                        age_s=age_s,
                        is_paused=is_paused,
                        keys=_KEYS if shown.has_keys else _CTRL_C,
                    )
                    shown.show(frame(facts, size.width, size.height, notice, cut=_mark()))
                    drawn = now_drawn
                pressed = shown.keys(_KEYS_S)
                if "q" in pressed or "Q" in pressed:
                    return
                if pressed.lower().count("p") % 2:
                    is_paused = not is_paused
    finally:
        ends.set()
    assert seen.end is not None
    raise seen.end


def _words(fault: TrishulaError) -> str:
    if isinstance(fault, BusUnreachable):
        return "The node is gone"
    return "The node does not answer" if isinstance(fault, OutcomeUnknown) else "The node can't answer now"


def _mark() -> str:
    """What stands where a text was cut: an encoding that lacks it would spell it with more cells than there are."""
    return "…" if is_unicode(sys.stdout) else "~"
