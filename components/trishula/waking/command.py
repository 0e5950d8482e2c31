"""``trishula wake``: wake an idle model when mail waits for it."""

from __future__ import annotations

import ipaddress
import os
import signal
import sys
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import click

from trishula.cli.lasting import may_pass
from trishula.cli.state import State, json_option
from trishula.cli.values import Duration
from trishula.cli.words import as_json, plain
from trishula.errors import StateBusy, StateUnusable, TrishulaError
from trishula.exit_codes import Exit
from trishula.settings import load
from trishula.waking.adapters import Adapter, WakeFailed
from trishula.waking.codex import CodexQueue
from trishula.waking.looking import Looker
from trishula.waking.memory import Memory
from trishula.waking.opencode import OpencodeServer
from trishula.waking.policy import Pointer, WakePolicy
from trishula.waking.rewake import REWAKE_CODE, RewakeHook, is_interactive, told_session
from trishula.waking.shell import ShellCommand

__all__ = ["wake"]

_POLL_S = 3.0
_JOIN_S = 10.0
#: How long a hook lets a turn go on that another hook keeps from ending.
_AFTER_TURN_S = 15.0


@click.command()
@click.option("--command", metavar="COMMAND", help="Run this by the shell.")
@click.option("--codex", metavar="THREAD", help="Queue a line for this session of Codex: its UUID or exact name.")
@click.option("--opencode", metavar="URL", help="Prompt a session of the opencode server at http://HOST:PORT.")
@click.option(
    "--hook",
    type=click.Choice(["claude-code"]),
    help="As a hook of that client, which setup --wake writes: stay until mail waits, and end with 2.",
)
@click.option("--session", metavar="ID", help="Which session of --opencode (default: the one used last).")
@click.option(
    "--priority",
    type=click.IntRange(1, 5),
    default=3,
    show_default=True,
    help="Wake for mail of this priority and more urgent (1 is most urgent).",
)
@click.option(
    "--gap",
    "gap_s",
    type=Duration(least_s=1.0, most_s=86_400.0),
    default="30s",
    show_default=True,
    help="The least time between two wakes.",
)
@click.option(
    "--again",
    "again_s",
    type=Duration(most_s=7 * 86_400.0),
    default="15m",
    show_default=True,
    help="Wake once more for mail that nobody took in this time, then in twice that, …; 0s: never.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Duration(least_s=1.0, most_s=86_400.0),
    default="10m",
    show_default=True,
    help="End a wake that takes longer.",
)
@json_option
@click.pass_obj
def wake(
    state: State,
    command: str | None,
    codex: str | None,
    opencode: str | None,
    hook: str | None,
    session: str | None,
    priority: int,
    gap_s: float,
    again_s: float,
    timeout_s: float,
) -> int | None:
    """Wake an idle model when mail waits for it, until Ctrl-C.

    A wake says how many messages wait and from whom, and nothing of what is in them. Nothing is taken, and no message
    counts as seen: the model calls inbox. While it is in a turn only urgent mail wakes it.

    A COMMAND finds the line for the model in $TRISHULA_WAKE_TEXT; also $TRISHULA_WAKE_ID, _FROM, _COUNT and _URGENT.
    Only one runs at a time. A wake that fails is said on standard error and tried again. What was told of is kept over
    a restart.

    \b
    Examples:
      trishula wake --opencode http://127.0.0.1:4096
      trishula --profile scout wake --codex 01a22962-2851-7452-98bc-203535ee1656
      trishula wake --command 'tmux send-keys -t scout -l "$TRISHULA_WAKE_TEXT";
        sleep 1; tmux send-keys -t scout Enter'
    """
    adapter = _adapter(
        {"--command": command, "--codex": codex, "--opencode": opencode, "--hook": hook}, session, timeout_s
    )
    agent = load(url=state.url, profile=state.profile).agent
    if isinstance(adapter, RewakeHook) and not is_interactive(os.environ):
        # It would hold up the end of a client that is asked one thing and then ends.
        return Exit.OK
    try:
        memory = Memory(agent, adapter.target)
    except StateBusy:
        if isinstance(adapter, RewakeHook):
            return Exit.OK
        raise
    try:
        policy = WakePolicy(gap_s=gap_s, again_s=again_s or None, priority=priority, saved=memory.read())
        before = signal.signal(signal.SIGTERM, _end)
        try:
            return _Waker(state, adapter, policy, memory).run()
        finally:
            signal.signal(signal.SIGTERM, before)
    finally:
        memory.release()


def _end(_: int, __: FrameType | None) -> NoReturn:
    # What is run at the moment is ended on the way out.
    raise SystemExit(0)


def _adapter(given: Mapping[str, str | None], session: str | None, timeout_s: float) -> Adapter:
    chosen = [(name, value) for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise click.UsageError(f"say by one of {', '.join(given)} what to wake; {len(chosen) or 'none'} of them given")
    ((name, value),) = chosen
    if not value.strip():
        raise click.UsageError(f"{name} is empty; say what to wake")
    if session is not None and name != "--opencode":
        raise click.UsageError("--session is about --opencode")
    match name:
        case "--opencode":
            _check_url(value)
            return OpencodeServer(value, session, os.environ, min(timeout_s, 30.0))
        case "--codex":
            return CodexQueue(value, timeout_s)
        case "--hook":
            return RewakeHook(told_session(), time.monotonic)
    return ShellCommand(value, timeout_s)


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    try:
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and parts.port != 0
    except ValueError:
        fits = False
    if parts.username is not None:
        raise click.UsageError(
            "--opencode holds a user; set OPENCODE_SERVER_USERNAME and OPENCODE_SERVER_PASSWORD instead"
        )
    if not fits or parts.query or parts.fragment:
        raise click.UsageError(f"--opencode is {url!r}; it must be http://HOST:PORT, with nothing behind it")
    if parts.scheme == "http" and not _is_here(parts.hostname or ""):
        raise click.UsageError(
            f"--opencode is {url!r}: password and prompts would travel in the clear; run trishula wake beside the "
            "server, or have https:// before it"
        )


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Waker:
    def __init__(self, state: State, adapter: Adapter, policy: WakePolicy, memory: Memory) -> None:
        self._state = state
        self._adapter = adapter
        self._hook = adapter if isinstance(adapter, RewakeHook) else None
        self._policy = policy
        self._memory = memory
        self._is_away = False

    def run(self) -> int:
        """Until the process is ended, or the bus refuses us for good; the exit code of a hook that woke its client."""
        if self._hook is not None:
            # What a turn's end told is taken in the turn that goes on with it.
            time.sleep(_AFTER_TURN_S)
        while True:
            try:
                with self._state.bus(timeout_s=_JOIN_S, looks_only=True) as bus:
                    if self._hook is None:
                        client = self._adapter.target.partition(" ")[0]
                        self._state.note(f"waking {client} for {bus.address.agent}; Ctrl-C ends it")
                    looker = Looker(bus)
                    while True:
                        if self._hook is not None and self._hook.is_left_alone():
                            return Exit.OK
                        with suppress(_Away):
                            if self._look(looker) and self._hook is not None:
                                return REWAKE_CODE
                        time.sleep(_POLL_S)
            except TrishulaError as error:
                self._away(error)
            if self._hook is not None and self._hook.is_left_alone():
                return Exit.OK
            time.sleep(_POLL_S)

    def _look(self, looker: Looker) -> bool:
        """Whether it woke."""
        try:
            look = looker.look()
        except TrishulaError as error:
            self._away(error)
            raise _Away from None
        if self._is_away:
            self._is_away = False
            if self._hook is None:
                self._state.note("the bus answers again")
        pointer = self._policy.due(look, time.time())
        return pointer is not None and self._wake(pointer)

    def _away(self, error: TrishulaError) -> None:
        """Say once that nobody answers; what no patience mends is raised."""
        if not may_pass(error):
            raise error
        if not self._is_away:
            self._is_away = True
            self._complain(f"{error.sentence}; it is tried again", {})

    def _wake(self, pointer: Pointer) -> bool:
        try:
            self._adapter.wake(pointer)
        except WakeFailed as error:
            delay_s = self._policy.failed(time.time())
            self._complain(f"the wake failed: {error}; it is tried again in {delay_s:g} s", {"retry_after_s": delay_s})
            return False
        self._policy.woke(pointer, time.time())
        try:
            self._memory.keep(self._policy.saved())
        except StateUnusable as error:
            # It is remembered as long as this process lives.
            self._complain(error.sentence, {})
        if self._hook is not None:
            return True
        told = {"id": pointer.message_id, "from": pointer.sender, "waiting": pointer.count}
        told |= {"urgent": pointer.urgent, "again": pointer.is_reminder}
        if self._state.json:
            self._state.line(told)
        else:
            again = " again" if pointer.is_reminder else ""
            click.echo(
                f"woke{again} for {plain(pointer.message_id)} from {plain(pointer.sender)}; {pointer.count} waiting"
            )
        return True

    def _complain(self, sentence: str, beside: dict[str, float]) -> None:
        if self._hook is not None:
            # What it says on standard error would go to the model.
            return
        if self._state.json:
            click.echo(as_json({"error": "wake_failed", "message": sentence, **beside}, sys.stderr), file=sys.stderr)
        else:
            click.echo(f"trishula: {plain(sentence)}", err=True)


class _Away(Exception):
    """Nobody answered."""
