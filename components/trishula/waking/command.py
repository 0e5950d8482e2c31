"""``trishula wake``: wake an idle model when mail waits for it."""

from __future__ import annotations

import ipaddress
import os
import signal
import sys
import time
import urllib.parse
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import click

from trishula.cli.state import State, json_option
from trishula.cli.values import Duration
from trishula.cli.words import as_json, plain
from trishula.errors import BusUnreachable, OutcomeUnknown, StateUnusable, TrishulaError
from trishula.settings import load
from trishula.waking.adapters import Adapter, WakeFailed
from trishula.waking.codex import CodexQueue
from trishula.waking.looking import Looker
from trishula.waking.memory import Memory
from trishula.waking.opencode import OpencodeServer
from trishula.waking.policy import Pointer, WakePolicy
from trishula.waking.shell import ShellCommand

__all__ = ["wake"]

_POLL_S = 3.0
_JOIN_S = 10.0


@click.command()
@click.option("--command", metavar="COMMAND", help="Run this by the shell.")
@click.option("--codex", metavar="THREAD", help="Queue a line for this session of Codex: its UUID or exact name.")
@click.option("--opencode", metavar="URL", help="Prompt a session of the opencode server at http://HOST:PORT.")
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
    session: str | None,
    priority: int,
    gap_s: float,
    again_s: float,
    timeout_s: float,
) -> None:
    """Wake an idle model when mail waits for it, until Ctrl-C.

    A wake says how many messages wait and from whom, and nothing of what is in them. Nothing is taken, and no message
    counts as seen: the model calls inbox. While it is in a turn only urgent mail wakes it.

    A COMMAND finds the line for the model in $TRISHULA_WAKE_TEXT; also $TRISHULA_WAKE_ID, _FROM, _COUNT and _URGENT.
    Only one runs at a time. A wake that fails is said on standard error and tried again. What was told of is kept over
    a restart.

    \b
    Examples:
      trishula --profile scout wake --opencode http://127.0.0.1:4096
      trishula --profile scout wake --codex 01a22962-2851-7452-98bc-203535ee1656
      trishula wake --command 'tmux send-keys -t scout "$TRISHULA_WAKE_TEXT" Enter'
    """
    adapter = _adapter(command, codex, opencode, session, timeout_s)
    agent = load(url=state.url, profile=state.profile).agent
    memory = Memory(agent, adapter.target)
    try:
        policy = WakePolicy(gap_s=gap_s, again_s=again_s or None, priority=priority, saved=memory.read())
        before = signal.signal(signal.SIGTERM, _end)
        try:
            _Waker(state, adapter, policy, memory).run()
        finally:
            signal.signal(signal.SIGTERM, before)
    finally:
        memory.release()


def _end(_: int, __: FrameType | None) -> NoReturn:
    # What is run at the moment is ended on the way out.
    raise SystemExit(0)


def _adapter(
    command: str | None, codex: str | None, opencode: str | None, session: str | None, timeout_s: float
) -> Adapter:
    given = {"--command": command, "--codex": codex, "--opencode": opencode}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise click.UsageError(f"say by one of {', '.join(given)} what to wake; {len(chosen) or 'none'} of them given")
    (name,) = chosen
    if not (given[name] or "").strip():
        raise click.UsageError(f"{name} is empty; say what to wake")
    if session is not None and opencode is None:
        raise click.UsageError("--session is about --opencode")
    if opencode is not None:
        _check_url(opencode)
        return OpencodeServer(opencode, session, os.environ, min(timeout_s, 30.0))
    return CodexQueue(codex, timeout_s) if codex is not None else ShellCommand(command or "", timeout_s)


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
        self._policy = policy
        self._memory = memory
        self._is_away = False

    def run(self) -> NoReturn:
        """Until the process is ended, or the bus refuses us for good."""
        while True:
            try:
                with self._state.bus(timeout_s=_JOIN_S, looks_only=True) as bus:
                    self._state.note(
                        f"waking {self._adapter.target.partition(' ')[0]} for {bus.address.agent}; Ctrl-C ends it"
                    )
                    looker = Looker(bus)
                    while True:
                        with suppress(_Away):
                            self._look(looker)
                        time.sleep(_POLL_S)
            except TrishulaError as error:
                self._away(error)
            time.sleep(_POLL_S)

    def _look(self, looker: Looker) -> None:
        try:
            look = looker.look()
        except TrishulaError as error:
            self._away(error)
            raise _Away from None
        if self._is_away:
            self._is_away = False
            self._state.note("the bus answers again")
        if (pointer := self._policy.due(look, time.time())) is not None:
            self._wake(pointer)

    def _away(self, error: TrishulaError) -> None:
        """Say once that nobody answers; what no patience mends is raised."""
        if not (error.temporary or isinstance(error, BusUnreachable | OutcomeUnknown)):
            raise error
        if not self._is_away:
            self._is_away = True
            self._complain(f"{error.sentence}; it is tried again", {})

    def _wake(self, pointer: Pointer) -> None:
        try:
            self._adapter.wake(pointer)
        except WakeFailed as error:
            delay_s = self._policy.failed(time.time())
            self._complain(f"the wake failed: {error}; it is tried again in {delay_s:g} s", {"retry_after_s": delay_s})
            return
        self._policy.woke(pointer, time.time())
        try:
            self._memory.keep(self._policy.saved())
        except StateUnusable as error:
            # It is remembered as long as this process lives.
            self._complain(error.sentence, {})
        told = {"id": pointer.message_id, "from": pointer.sender, "waiting": pointer.count}
        told |= {"urgent": pointer.urgent, "again": pointer.is_reminder}
        if self._state.json:
            self._state.line(told)
        else:
            again = " again" if pointer.is_reminder else ""
            click.echo(
                f"woke{again} for {plain(pointer.message_id)} from {plain(pointer.sender)}; {pointer.count} waiting"
            )

    def _complain(self, sentence: str, beside: dict[str, float]) -> None:
        if self._state.json:
            click.echo(as_json({"error": "wake_failed", "message": sentence, **beside}, sys.stderr), file=sys.stderr)
        else:
            click.echo(f"trishula: {plain(sentence)}", err=True)


class _Away(Exception):
    """Nobody answered."""
