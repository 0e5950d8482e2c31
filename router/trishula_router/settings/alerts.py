"""The options of the notifier, ``alerts``: what is worth an alert, and the roads by which it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula_router.settings.faults import Section

__all__ = ["AlertOptions", "SecretMissing", "parse_alerts", "read_secret"]

_SECRET_RULE = "file:PATH or env:NAME, which holds it: a secret does not belong in the configuration"
_ADDRESS_RULE = "an address such as ops@example.org"
_SERVER_RULE = "HOST:PORT of a mail server, such as mail.example.org:587"
_TLS = ("starttls", "tls", "none")
_URL_RULE = "file:PATH or env:NAME, which holds the URL: it is a secret, and does not belong in the configuration"

_SECRET = re.compile(r"(file:.+|env:[A-Za-z_][A-Za-z0-9_]*)")
_ADDRESS = re.compile(r"[^\s@<>,;\x00-\x1f\x7f-\x9f]{1,64}@[A-Za-z0-9.\[\]:-]{1,255}")
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """What is worth an alert, and who is told.

    Attributes:
        webhook: where the URL is to which alerts go as JSON; empty for none.
        slack: where the URL of an incoming webhook of Slack, Mattermost or Rocket.Chat is; empty for none.
        mail_server: by which server alerts go as e-mail; empty for none.
        mail_tls: how the connection to it is encrypted.
        mail_from: who the e-mail is from.
        mail_to: who gets it.
        mail_user: by which name the node logs in there; empty for no login.
        mail_password: where the password of that name is.
        after_s: how long a condition must have lasted before anybody is told.
        repeat_s: after how long it is told again while it lasts.
        rate_per_s: how many alerts are sent in the long run, at most; a few more at once.
        agent_away_s: how long an agent that was there once may be away.
        agents: the agents that are missed when they are away; with none named, all that are no operators.
        backlog_messages: how many messages may be open in one mailbox.
        backlog_age_s: how old the oldest of them may be.
        dead_letters: from how many dead letters on somebody is told; 0 for never.
        clock_s: by how much the machine's clock may differ from the node's or a peer's.
        certificate_s: how long before its end a certificate is worth an alert.
    """

    webhook: str = ""
    slack: str = ""
    mail_server: str = ""
    mail_tls: str = "starttls"
    mail_from: str = ""
    mail_to: tuple[str, ...] = ()
    mail_user: str = ""
    mail_password: str = ""
    after_s: float = 60.0
    repeat_s: float = 4 * 3600.0
    rate_per_s: float = 30 / 3600
    agent_away_s: float = 3600.0
    agents: tuple[str, ...] = ()
    backlog_messages: int = 10_000
    backlog_age_s: float = 900.0
    dead_letters: int = 1
    clock_s: float = 1.0
    certificate_s: float = 14 * 86_400.0

    @property
    def roads(self) -> tuple[str, ...]:
        """The names of the roads that are configured."""
        there = {"webhook": self.webhook, "slack": self.slack, "mail": self.mail_server}
        return tuple(name for name, value in there.items() if value)


def parse_alerts(section: Section) -> AlertOptions:
    """Read ``alerts``; each fault is left with ``section``."""

    def optional(key: str, rule: str, pattern: re.Pattern[str]) -> str:
        value = section.text(key, "", rule, lambda value: not value or pattern.fullmatch(value) is not None)
        return value if pattern.fullmatch(value) else ""

    options = AlertOptions(
        webhook=optional("webhook", _URL_RULE, _SECRET),
        slack=optional("slack", _URL_RULE, _SECRET),
        mail_server=optional("mail_server", _SERVER_RULE, _SERVER),
        mail_tls=section.text("mail_tls", "starttls", f"one of {', '.join(_TLS)}", _TLS.__contains__),
        mail_from=optional("mail_from", _ADDRESS_RULE, _ADDRESS),
        mail_to=section.names("mail_to", _ADDRESS_RULE, lambda value: _ADDRESS.fullmatch(value) is not None),
        mail_user=section.text("mail_user", "", "a name of one line", str.isprintable),
        mail_password=optional("mail_password", _SECRET_RULE, _SECRET),
        after_s=section.duration_s("after", "60s", "0s", "1d"),
        repeat_s=section.duration_s("repeat", "4h", "1m", "30d"),
        rate_per_s=section.rate_per_s("rate", "30/h"),
        agent_away_s=section.duration_s("agent_away", "1h", "1s", "30d"),
        agents=section.names("agents", AGENT_RULE, is_agent_name),
        backlog_messages=section.count("backlog_messages", 10_000, 1, 10_000_000),
        backlog_age_s=section.duration_s("backlog_age", "15m", "1s", "30d"),
        dead_letters=section.count("dead_letters", 1, 0, 10_000),
        clock_s=section.duration_s("clock", "1s", "10ms", "1d"),
        certificate_s=section.duration_s("certificate", "14d", "0s", "365d"),
    )
    if options.mail_server:
        for key, value in (("mail_from", options.mail_from), ("mail_to", options.mail_to)):
            if not value:
                section.fault(key, section.shown(key, ""), "it must be there, because alerts.mail_server is")
        if int(options.mail_server.rpartition(":")[2]) not in range(1, 65_536):
            section.fault("mail_server", options.mail_server, "it must name a port from 1 to 65535")
    if options.mail_user and not options.mail_password:
        section.fault("mail_password", "", f"it must be {_SECRET_RULE}, because alerts.mail_user is there")
    if options.mail_user and options.mail_tls == "none" and section.shown("mail_tls", "") == "none":
        section.fault("mail_tls", "none", "it must be starttls or tls, or the password would travel for all to read")
    section.close()
    return options


class SecretMissing(Exception):
    """A secret is not where the configuration says; the text says why."""


def read_secret(where: str, base: Path, environ: Mapping[str, str] | None = None) -> str:
    """A secret, from where the configuration says it is; read anew each time, so that it may be changed.

    Args:
        where: ``file:PATH`` or ``env:NAME``.
        base: where relative paths start: the state directory.
        environ: the variables; the process's own if absent.

    Raises:
        SecretMissing: it is not there.
    """
    kind, _, name = where.partition(":")
    if kind == "env":
        value = (os.environ if environ is None else environ).get(name, "").strip()
        if not value:
            raise SecretMissing(f"the variable {name} is not set; set it where the node is started")
        return value
    try:
        value = (base / name).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise SecretMissing(f"{base / name} is no text") from None
    except OSError as error:
        raise SecretMissing(f"{base / name} can't be read: {error.strerror}") from None
    if not value:
        raise SecretMissing(f"{base / name} is empty")
    return value
