"""What systemd is told of a node: that it serves, how it is, that it lives, that it stops (``Type=notify``).

The program that systemd started, ``trishula node start``, tells it by datagrams to the socket that ``NOTIFY_SOCKET``
names (``sd_notify(3)``), and asks the node by its page ``/ready``:

* ``READY=1`` as soon as the node runs and a canary has come through. A node whose store is full, or that is behind its
  peers, is not ready for a load balancer, and has started all the same: it delivers, and takes acks.
* ``WATCHDOG=1`` only while canaries come through: a node that hangs is ended by systemd after ``WatchdogSec``, and
  started again. What else is wrong with a node is not mended by a restart. So it is fed as well while the store answers
  and refuses: a node whose file was moved away holds in that file what nobody else has, and would lose it by its end.
* ``STATUS=`` one line: what is wrong, for ``systemctl status``.

Where a configuration names another page as ``/ready``, nothing is known of canaries, and the watchdog is fed as long as
the worker answers at all. Without ``NOTIFY_SOCKET`` nothing is asked and nothing is told.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

from trishula.contract.texts import one_line
from trishula_router.settings.crossbar_config import ListenEndpoint

__all__ = ["VARIABLES", "Notifier", "Reporter", "any_certificate", "ask_ready"]

#: What systemd tells by the environment; the node's own processes have no use for it.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

#: Between two looks at the node, without a watchdog and at most. With one it is a third of its time.
_LOOK_S = 5.0
#: Before the node is ready it is looked at so often: whoever waits for the unit waits for that.
_LOOK_SOON_S = 0.2
#: A page that doesn't come within that time doesn't come.
_ANSWER_S = 3.0
_MOST_BYTES = 1024 * 1024
_STATUS_MOST = 300

Told = Mapping[str, Any]


class Notifier:
    """Sends to systemd.

    Args:
        name: the socket's: a path, or ``@`` and an abstract name.
    """

    def __init__(self, name: str) -> None:
        self._address = f"\0{name[1:]}" if name.startswith("@") else name

    def tell(self, **fields: str) -> bool:
        """Send assignments, and say whether they were taken: whoever is not there, or is busy, is not waited for."""
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.setblocking(False)
            to.sendto(text.encode(), self._address)
            return True
        return False


class Reporter:
    """Tells systemd of one node.

    Args:
        notifier: where to; ``None`` if nobody wants to know.
        ask: asks the node; ``None`` if it doesn't answer.
        watchdog_s: the time of the watchdog; ``None`` without one.
        seconds: a clock for spans.
    """

    def __init__(
        self,
        notifier: Notifier | None,
        ask: Callable[[], Told | None],
        watchdog_s: float | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._ask = ask
        self._seconds = seconds
        self._look_s = _LOOK_S if watchdog_s is None else min(_LOOK_S, watchdog_s / 3)
        self._feeds = watchdog_s is not None
        self._look_at_s = 0.0
        self._is_ready = self._is_stopping = False
        self._status = ""

    @classmethod
    def of(cls, environ: Mapping[str, str], ask: Callable[[], Told | None]) -> Reporter:
        """As the environment wants it."""
        name = environ.get("NOTIFY_SOCKET", "")
        notifier = Notifier(name) if name.startswith(("/", "@")) else None
        return cls(notifier, ask, _watchdog_s(environ))

    def stopping(self) -> None:
        """It was asked to stop."""
        if self._notifier is not None and not self._is_stopping:
            self._is_stopping = self._notifier.tell(STOPPING="1", STATUS="stopping")

    def failed(self, why: str) -> None:
        """It ended, and nobody asked it to."""
        self._say(why)

    def look(self) -> None:
        """Look at the node, if it is time to: to be called several times a second while it runs."""
        now_s = self._seconds()
        if self._notifier is None or self._is_stopping or now_s < self._look_at_s:
            return
        told = self._ask()
        if not self._is_ready and told is not None and _is_ok(told, "running", "canary"):
            self._is_ready = self._notifier.tell(READY="1")
        if self._is_ready and self._feeds and told is not None and _lives(told):
            self._notifier.tell(WATCHDOG="1")
        self._say(_status_of(told) if self._is_ready or told is not None else "starting")
        self._look_at_s = self._seconds() + (self._look_s if self._is_ready else _LOOK_SOON_S)

    def _say(self, status: str) -> None:
        if self._notifier is None or status == self._status:
            return
        if self._notifier.tell(STATUS=one_line(status)[:_STATUS_MOST]):
            # What was not taken is told at the next look.
            self._status = status


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The watchdog's time, if it is this process that is to feed it."""
    text, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    if not (text.isascii() and text.isdecimal() and int(text) > 0 and whose == str(os.getpid())):
        return None
    return int(text) / 1_000_000


def _checks(told: Told) -> list[Mapping[str, Any]]:
    return [one for one in told.get("checks", ()) if isinstance(one, Mapping)]


def _is_ok(told: Told, *names: str) -> bool:
    return all(one.get("ok") is True for one in _checks(told) if one.get("check") in names)


def _lives(told: Told) -> bool:
    return _is_ok(told, "canary") or any(one.get("refused") is True for one in _checks(told))


def _status_of(told: Told | None) -> str:
    if told is None:
        return "the node doesn't answer"
    wrong = [one for one in _checks(told) if one.get("ok") is not True]
    poor = [one for one in _checks(told) if one.get("ok") is True and one.get("degraded") is True]
    said = "; ".join(f"{one.get('check')}: {one.get('reason') or 'not ok'}" for one in wrong or poor)
    if wrong:
        return f"not ready: {said}"
    return f"ready; {said}" if said else "ready"


def ask_ready(address: ListenEndpoint) -> Told | None:
    """What a node on this machine says at ``/ready``; an empty map if that is another page, ``None`` if nothing.

    It asks as nobody: over loopback it is told the reasons, and of a node that listens on another address alone it gets
    a stranger's answer, which tells of each check whether it is ok.
    """
    host = address.here
    if address.certificate is None:
        connection = http.client.HTTPConnection(host, address.port, timeout=_ANSWER_S)
    else:
        connection = http.client.HTTPSConnection(host, address.port, timeout=_ANSWER_S, context=any_certificate())
    try:
        connection.request("GET", "/ready")
        body = connection.getresponse().read(_MOST_BYTES)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) and isinstance(told.get("checks"), list) else {}


def any_certificate() -> ssl.SSLContext:
    """TLS with whoever is there: whether this is our own node is not in question, and clients check for themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
