"""The roads by which an alert leaves the node, each tried once, in a thread: it blocks, :data:`TIMEOUT_S` at each step.

The thread is its own, and ends with the process: the reactor's would be waited for at the node's end, and the links'
look-ups of names share them.

What goes wrong is a sentence (:class:`RoadFailed`); the URL and the password, which are secrets, are in none.
"""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.contract.texts import one_line
from trishula_router.alerts.forms import as_mail, as_slack, as_webhook
from trishula_router.alerts.policy import Alert
from trishula_router.settings.alerts import AlertOptions, SecretMissing, read_secret

__all__ = ["TIMEOUT_S", "RoadFailed", "Roads"]

TIMEOUT_S = 10.0
_SHOWN = 200
#: Of an answer so much is read, before it is cut: a part of what it repeats would be shown otherwise.
_READ_BYTES = 16 * 1024


class RoadFailed(Exception):
    """An alert did not get through; the text says why, and whether a later try could help (``is_temporary``)."""

    def __init__(self, why: str, *, is_temporary: bool = True) -> None:
        super().__init__(why)
        self.is_temporary = is_temporary


class Roads:
    """The roads of a node.

    Args:
        options: which there are.
        base: the state directory, where relative paths of secrets start.
        call_in_reactor: hands a function over to the reactor's thread, as ``reactor.callFromThread`` does.
    """

    def __init__(self, options: AlertOptions, base: Path, call_in_reactor: Callable[..., object]) -> None:
        self._options = options
        self._base = base
        self._call_in_reactor = call_in_reactor

    def send_in_thread(self, road: str, alert: Alert) -> Deferred[str]:
        """:meth:`send` in a thread; the outcome comes later, in the reactor's."""
        done: Deferred[str] = Deferred()

        def work() -> None:
            try:
                said = self.send(road, alert)
            except Exception:
                self._call_in_reactor(done.errback, Failure())  # type: ignore[no-untyped-call]
            else:
                self._call_in_reactor(done.callback, said)

        threading.Thread(target=work, name=f"alert-{road}", daemon=True).start()
        return done

    def send(self, road: str, alert: Alert) -> str:
        """Send an alert by one road; what the other end said.

        Raises:
            RoadFailed: it did not get through.
        """
        try:
            if road == "mail":
                return self._mail(alert)
            where, body = (
                (self._options.slack, as_slack(alert))
                if road == "slack"
                else (self._options.webhook, as_webhook(alert))
            )
            return _post(read_secret(where, self._base), body)
        except SecretMissing as error:
            raise RoadFailed(str(error)) from None
        except (OSError, http.client.HTTPException, smtplib.SMTPException) as error:
            raise RoadFailed(_sentence(error)) from None
        except UnicodeError:
            # Its text may hold what it is about.
            raise RoadFailed(f"what is configured for {road} holds characters that can't be sent") from None

    def _mail(self, alert: Alert) -> str:
        options = self._options
        host, _, port = options.mail_server.rpartition(":")
        context = ssl.create_default_context()
        host = host.strip("[]")
        with contextlib.ExitStack() as stack:
            server: smtplib.SMTP
            if options.mail_tls == "tls":
                server = smtplib.SMTP_SSL(host, int(port), timeout=TIMEOUT_S, context=context)
            else:
                server = smtplib.SMTP(host, int(port), timeout=TIMEOUT_S)
            stack.enter_context(server)
            if options.mail_tls == "starttls":
                server.starttls(context=context)
            if options.mail_user:
                server.login(options.mail_user, read_secret(options.mail_password, self._base))
            refused = server.send_message(as_mail(alert, options))
        if refused:
            return f"sent, but not to {one_line(', '.join(refused))}"
        return f"taken by {options.mail_server}"


def _post(url: str, body: bytes) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    # What http.client says of a space in it, such as before a remark, would show the URL.
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise RoadFailed(
            "what is said to hold the URL holds none of http or https, or more than that", is_temporary=False
        )
    if "@" in parts.netloc:
        raise RoadFailed("the URL has a user name in it, which is not sent", is_temporary=False)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"Content-Type": "application/json", "User-Agent": "trishula"})
        answer = connection.getresponse()
        said = answer.read(_READ_BYTES).decode(errors="replace")
        for secret in (target, parts.path):
            if len(secret) > 1:
                # "Cannot POST /…", say.
                said = said.replace(secret, "/…")
        said = one_line(said)[:_SHOWN]
    if not 200 <= answer.status < 300:
        # A redirect is not followed: it would take the alert to where nobody meant it to go.
        is_temporary = answer.status in (408, 425, 429) or answer.status >= 500
        raise RoadFailed(f"{parts.hostname} answered {answer.status}: {said or 'nothing'}", is_temporary=is_temporary)
    return f"{parts.hostname} answered {answer.status}"


def _sentence(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {TIMEOUT_S:g} s"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        # What the server says may repeat what it was told.
        return f"the mail server refuses the login ({error.smtp_code}); look at alerts.mail_user and its password"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return one_line(f"the mail server answered {error.smtp_code}: {said}")[:_SHOWN]
    return one_line(f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}")[:_SHOWN]
