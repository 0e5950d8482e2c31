"""An alert in the form of each road: JSON for programs, a line for chats, a letter. All text of others is one line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from trishula.contract.texts import one_line
from trishula_router.alerts.policy import Alert
from trishula_router.settings.alerts import AlertOptions

__all__ = ["as_mail", "as_slack", "as_webhook", "line_of"]

_STATES = {"firing": "PROBLEM", "resolved": "OVER", "test": "TEST"}


def line_of(alert: Alert) -> str:
    """One line for people."""
    condition = alert.condition
    what = f"{_STATES[alert.state]} at {alert.node}: {condition.sentence}"
    if alert.is_repeat:
        what += f" (since {_time(alert.since)})"
    if alert.held_back:
        what += f" [{alert.held_back} alerts were held back: alerts.rate]"
    return one_line(what)


def as_webhook(alert: Alert) -> bytes:
    """``{version, state, node, kind, about, sentence, since, at, repeat, held_back}``; instants in RFC 3339, UTC."""
    condition = alert.condition
    return json.dumps(
        {
            "version": 1,
            "state": alert.state,
            "node": alert.node,
            "kind": condition.kind,
            "about": one_line(condition.about),
            "sentence": one_line(condition.sentence),
            "since": _time(alert.since),
            "at": _time(alert.at),
            "repeat": alert.is_repeat,
            "held_back": alert.held_back,
        }
    ).encode()


def as_slack(alert: Alert) -> bytes:
    """The form of Slack's incoming webhooks, which Mattermost and Rocket.Chat read too."""
    # Slack's own three: without them an agent's name could address everybody (<!channel>) or be a link.
    text = line_of(alert).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return json.dumps({"text": text}).encode()


def as_mail(alert: Alert, options: AlertOptions) -> EmailMessage:
    """A letter in plain text."""
    mail = EmailMessage()
    mail["From"], mail["To"] = options.mail_from, ", ".join(options.mail_to)
    mail["Subject"] = f"[trishula] {line_of(alert)}"[:200]
    mail["Date"] = format_datetime(datetime.fromtimestamp(alert.at / 1000, UTC))
    # One thread for each condition; and no answer of a robot to a robot.
    mail["Auto-Submitted"] = "auto-generated"
    condition = alert.condition
    mail.set_content(
        f"{line_of(alert)}\n\nnode:  {alert.node}\nkind:  {condition.kind}\nabout: "
        f"{one_line(condition.about) or '-'}\nsince: {_time(alert.since)}\n\n"
        "The conditions now: trishula alert list. What to do: deploy/runbooks.rst.\n"
    )
    return mail


def _time(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
