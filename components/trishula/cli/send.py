"""``trishula send``: send one message, and say what the node answered.

A message that is refused for now waits in this process's memory and is offered again. A person is told so when that
takes longer than a moment, by one line on standard error; a program (``--json``) only hears how it ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from trishula.cli.state import State, json_option
from trishula.cli.values import DURATION, milliseconds, parse_json
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.contract.message import DEFAULT_PRIORITY, MESSAGE_TYPES, MailType
from trishula.contract.units import show_duration
from trishula.errors import CallFailed, OutcomeUnknown, TrishulaError
from trishula.send_options import SendOptions

if TYPE_CHECKING:
    from rich.text import Text

    from trishula.sync import Bus

__all__ = ["send"]

#: The types that are nothing without a content; a COMMAND without a procedure is refused with a sentence of its own.
_SAYS_SOMETHING = ("STATUS", "RESULT", "ERROR")
_SETTLED = ("done", "dead", "expired", "cancelled")
#: Many refusals for now are over by then.
_SAY_AFTER_S = 1.0


class _Waiting:
    """Says, once, that a message waits because it is refused for now.

    Args:
        timeout_s: how long it waits at most.
        is_silent: whether nobody reads that.
    """

    def __init__(self, timeout_s: float, is_silent: bool) -> None:
        self._timeout_s = timeout_s
        self._is_silent = is_silent
        self._timer: threading.Timer | None = None

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def refused(self, refusal: TrishulaError) -> None:
        """It was; in the reactor's thread."""
        if self._timer is None and not self._is_silent:
            self._timer = threading.Timer(_SAY_AFTER_S, self._say, [refusal])
            self._timer.daemon = True
            self._timer.start()

    def _say(self, refusal: TrishulaError) -> None:
        click.echo(
            "trishula: the message waits in this process's memory, because the node refuses it for now: "
            f"{plain(refusal.sentence)} (tried again for {self._timeout_s:g} s; Ctrl-C gives up)",
            err=True,
        )


@click.command()
@click.argument("to")
@click.option(
    "--type",
    "kind",
    type=click.Choice(MESSAGE_TYPES),
    default="STATUS",
    show_default=True,
    help="What kind of message it is.",
)
@click.option("--payload", metavar="JSON|@FILE|-", help="The payload; - reads it from standard input.")
@click.option("--text", metavar="TEXT", help="The payload as plain text, without JSON's quotes.")
@click.option("--procedure", metavar="NAME", help="Of a COMMAND: what to run.")
@click.option("--priority", type=click.IntRange(1, 5), default=DEFAULT_PRIORITY, show_default=True, help="1 is urgent.")
@click.option("--id", "message_id", metavar="ID", help="Sending again with the same id is safe.")
@click.option("--reply-to", metavar="ID", help="The message that this one answers.")
@click.option("--subject", metavar="TEXT", help="One line for people.")
@click.option("--ttl", "ttl_s", type=DURATION, help='How long the node tries to deliver it, such as "2h" (default 7d).')
@click.option("--copies", type=click.IntRange(1, 2), help="On how many nodes it must be on disk.")
@click.option("--encrypt", is_flag=True, help="Let nobody but TO read the payload; both must know each other's key.")
@click.option(
    "--attach",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file of up to 1 GiB that goes with the message.",
)
@click.option("--wait", is_flag=True, help="Wait until the recipient has handled it.")
@click.option("--timeout", type=DURATION, default="10s", show_default=True, help="How long to wait for the node.")
@click.option("--wait-timeout", type=DURATION, default="60s", show_default=True, help="How long --wait waits.")
@json_option
@click.pass_obj
def send(
    state: State,
    to: str,
    kind: MailType,
    payload: str | None,
    text: str | None,
    procedure: str | None,
    priority: int,
    message_id: str | None,
    reply_to: str | None,
    subject: str | None,
    ttl_s: float | None,
    copies: int | None,
    encrypt: bool,
    attach: Path | None,
    wait: bool,
    timeout: float,
    wait_timeout: float,
) -> None:
    """Send a message to TO: an agent, one instance of it (agni/7f3a), or broadcast.

    It prints the receipt once the message is on the node's disk; from then on it isn't lost. One that the node refuses
    for now (a full mailbox, a rate, a full disk, no second node for --copies 2) waits in this process's memory and is
    tried again until --timeout is over; then it is given up, with the exit code 75.

    \b
    Examples:
      trishula send agni --text "disk is filling up" --priority 1
      trishula send broadcast --payload '{"release": "2.1"}'
      trishula send agni --type COMMAND --procedure host_report --wait
      trishula send agni --text "the build" --attach build.tar
    """
    if payload is not None and text is not None:
        raise click.UsageError("--payload and --text are two ways to give the payload; leave one out")
    value = text if payload is None else parse_json(payload, "--payload")
    if kind in _SAYS_SOMETHING and all(
        given is None for given in (payload, text, subject, procedure, reply_to, attach)
    ):
        raise click.UsageError(
            f"there is nothing to send to {to}: give --text, --payload or --subject (--payload null sends it empty)"
        )
    if attach is not None and text is not None:
        # The attachment is named in the payload, which is a map then.
        value = {"text": text}
    if kind == "COMMAND" and procedure is not None and value is None:
        value = {"args": [], "kwargs": {}}
    given = {
        "id": message_id,
        "priority": priority,
        "reply_to": reply_to,
        "procedure": procedure,
        "subject": subject,
        "ttl_ms": milliseconds(ttl_s),
        "copies": copies,
        "encrypt": encrypt or None,
        "attachment": attach,
    }
    with state.bus(timeout) as bus:
        with _Waiting(timeout, is_silent=state.json) as waiting, _progress(state, attach) as progress:
            # What wasn't asked for is left to the client.
            options = cast(SendOptions, {key: value for key, value in given.items() if value is not None})
            options["on_refused"] = waiting.refused
            if progress is not None:
                options["on_progress"] = progress
            receipt = bus.send(
                to,
                type=kind,
                payload=value,
                **options,
            )
        told = msgspec.to_builtins(receipt)
        if wait:
            told["outcome"] = _outcome(bus, receipt.id, wait_timeout)
    state.show(told, lambda: _render(told))
    if receipt.warning is not None:
        click.echo(f"trishula: warning: {plain(receipt.warning)}", err=True)
    if receipt.missed:
        reasons = "\n".join(f"  {plain(one.to)}: {plain(one.detail or one.error)}" for one in receipt.missed)
        click.echo(f"trishula: warning: {len(receipt.missed)} don't get it:\n{reasons}", err=True)
    outcome = told.get("outcome")
    if outcome is not None and outcome["state"] != "done":
        raise CallFailed(
            f"the message {receipt.id} was accepted and ended as {outcome['state']}: trishula why {receipt.id}"
        )


def _progress(state: State, attach: Path | None) -> AbstractContextManager[Callable[[int, int], object] | None]:
    if attach is None:
        return nullcontext()
    # Late, because most messages have none.
    from trishula.cli.attachment import bar

    return bar(state, f"sending {attach.name}")


def _outcome(bus: Bus, message_id: str, timeout_s: float) -> dict[str, Any]:
    """Ask until the message is settled; the pauses grow, because what isn't done at once often takes long."""
    until_s = time.monotonic() + timeout_s
    pause_s = 0.01
    while True:
        told: dict[str, Any] | None = bus.request(uris.MAILBOX_STATUS, [message_id]).get(message_id)
        if told is not None and told["state"] in _SETTLED:
            return told
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            where = "is unknown there" if told is None else f"is {plain(told['state'])}"
            raise OutcomeUnknown(
                f"after {show_duration(timeout_s)} the message {message_id} {where}; it stays on its way: "
                f"ask with trishula why {message_id}",
                message_id=message_id,
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, 0.5)


def _render(told: dict[str, Any]) -> Text:
    from rich.text import Text

    text = Text()
    text.append(plain(told["status"]), style="bold green")
    text.append(f"  {plain(told['id'])}")
    if told.get("node"):
        text.append(f"  on {plain(told['node'])} as {told.get('seq')}, copies: {told.get('copies')}", style="dim")
    outcome = told.get("outcome")
    if outcome is not None:
        text.append("\n")
        text.append(plain(outcome["state"]), style="bold green" if outcome["state"] == "done" else "bold red")
        if outcome.get("settled_at") is not None:
            spent = show_duration((outcome["settled_at"] - outcome["accepted_at"]) / 1000)
            text.append(f"  {spent} after it was accepted, attempts: {outcome.get('attempts')}", style="dim")
    return text
