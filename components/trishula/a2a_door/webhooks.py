"""Notifications to webhooks: each is tried until it is taken, signed, to an address that was looked at.

A webhook gets its notifications one after the other. What it does not take with a 2xx is tried again, after a second at
first and after an hour at last, for two days; a webhook that says 410 gets nothing more. Redirects are not followed,
and no proxy of the environment is used: either would lead somewhere else than to the address that was looked at.
A caller has a few attempts under way at a time: its webhooks that take their time delay no other caller's.
Each outcome is in the log and in the door's file (``trishula a2a tasks ID``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import httpx

from trishula.a2a_door.keys import DoorKey
from trishula.a2a_door.ledger import Ledger
from trishula.a2a_door.owed import Hook, Push
from trishula.a2a_door.targets import Networks, Target, choose_address, target_of
from trishula.errors import ArgumentInvalid

__all__ = ["SIGNATURE_HEADER", "Webhooks", "retry_ms"]

_log = logging.getLogger("trishula")

SIGNATURE_HEADER = "X-Trishula-Signature"
_TIMEOUT_S = 10.0
_MOST_AT_ONCE = 64
_MOST_OF_CALLER = 8
#: Lookups of names that are under way for callers who set up webhooks; those of attempts have threads of their own.
_MOST_CHECKS = 16
#: How long to rest while those that are due are under way already.
_LEAST_S = 0.25
_FIRST_MS, _LAST_MS, _GIVE_UP_MS = 1_000, 3_600_000, 2 * 24 * 3_600_000
_IDLE_S = 30.0
#: The rest when the door's file can't be read or written: its disk is full, say.
_FILE_REST_S = 1.0


def retry_ms(push: Push, now_ms: int, chance: float) -> int | None:
    """When to try a notification again after one more attempt failed; ``None``: it is given up."""
    if now_ms - push.created_ms >= _GIVE_UP_MS:
        return None
    pause_ms: int = min(_FIRST_MS << min(push.attempts, 20), _LAST_MS)
    return now_ms + round(pause_ms * (0.75 + 0.5 * chance))


class Webhooks:
    """See the module's docstring.

    Args:
        ledger: what is owed.
        key: signs.
        allowed: networks that are not public, and to which notifications may go all the same.
        body: a notification, from the number of the event and its task: A2A's ``StreamResponse``.
        now_ms: the wall clock.
        chance: a number in [0, 1).
    """

    def __init__(
        self,
        ledger: Ledger,
        key: DoorKey,
        allowed: Networks,
        body: Callable[[str, int], dict[str, Any] | None],
        now_ms: Callable[[], int],
        chance: Callable[[], float],
    ) -> None:
        self._owed = ledger.owed
        self._key = key
        self._allowed = allowed
        self._body = body
        self._now_ms = now_ms
        self._chance = chance
        self._awoken = asyncio.Event()
        self._under_way: dict[tuple[str, str], Push] = {}
        self._attempts: set[asyncio.Future[None]] = set()
        self._lookups = ThreadPoolExecutor(_MOST_AT_ONCE, "webhook")
        self._checks = ThreadPoolExecutor(_MOST_CHECKS, "webhook-check")
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False)

    def wake(self) -> None:
        """There may be something to send."""
        self._awoken.set()

    async def check(self, url: str) -> None:
        """Whether notifications may go there, as far as that can be told now.

        Raises:
            ArgumentInvalid: they may not.
        """
        target = target_of(url)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._address_of(target, self._checks)
        except TimeoutError:
            raise ArgumentInvalid(f"the webhook's host {target.host} is not resolved within {_TIMEOUT_S:g} s") from None

    async def run(self) -> None:
        """Send what is owed, until this is cancelled."""
        try:
            while True:
                self._awoken.clear()
                try:
                    rest_s = self._begin_due()
                except Exception:
                    _log.exception("Which notifications are due can't be read; it is tried again")
                    rest_s = _FILE_REST_S
                with contextlib.suppress(TimeoutError):
                    # Python 3.11's wait_for loses a cancellation that comes together with the event.
                    async with asyncio.timeout(rest_s):
                        await self._awoken.wait()
        finally:
            for attempt in self._attempts:
                attempt.cancel()
            for threads in (self._lookups, self._checks):
                threads.shutdown(wait=False, cancel_futures=True)
            await self._client.aclose()

    def _begin_due(self) -> float:
        """Begin what is due and has a place; how long to rest then."""
        now_ms = self._now_ms()
        taken = Counter(push.caller for push in self._under_way.values())
        # Those under way are due as well: of each caller there are as many again to choose from.
        for push in self._owed.due(now_ms, 2 * _MOST_AT_ONCE, 2 * _MOST_OF_CALLER):
            is_new = (push.task, push.hook) not in self._under_way
            if is_new and len(self._under_way) < _MOST_AT_ONCE and taken[push.caller] < _MOST_OF_CALLER:
                taken[push.caller] += 1
                self._begin(push)
        next_ms = self._owed.next_due_ms()
        return _IDLE_S if next_ms is None else min(max((next_ms - now_ms) / 1000, _LEAST_S), _IDLE_S)

    def _begin(self, push: Push) -> None:
        """An attempt by itself: a webhook that takes its time keeps no other one waiting."""
        key = push.task, push.hook
        self._under_way[key] = push
        attempt = asyncio.ensure_future(self._attempt(push))
        self._attempts.add(attempt)

        def release() -> None:
            del self._under_way[key]
            self._awoken.set()

        def over(done: asyncio.Future[None]) -> None:
            self._attempts.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.error("What became of a notification of the task %s can't be noted", push.task, exc_info=error)
                # It is due still, and may have been taken: not again at once.
                done.get_loop().call_later(_FIRST_MS / 1000, release)
            else:
                release()

        attempt.add_done_callback(over)

    async def _attempt(self, push: Push) -> None:
        hook = next((one for one in self._owed.hooks(push.task) if one.id == push.hook), None)
        body = self._body(push.task, push.event)
        if hook is None or body is None:
            self._owed.note(push, None, self._now_ms(), "there is nothing to tell any more")
            return
        status = 0
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status = await self._post(hook, push, json.dumps(body).encode())
            outcome = f"HTTP {status}"
        except ArgumentInvalid as error:
            outcome = str(error)
        except (OSError, httpx.HTTPError) as error:
            outcome = f"{type(error).__name__}: {error}"
        except Exception as error:
            # Whatever a stranger's configuration and server bring about is an attempt that failed, with its pause.
            _log.exception("A notification of the task %s can't be sent", push.task)
            outcome = f"{type(error).__name__}: {error}"
        now_ms = self._now_ms()
        is_taken = 200 <= status < 300
        due_ms = None if is_taken or status == 410 else retry_ms(push, now_ms, self._chance())
        self._owed.note(push, due_ms, now_ms, outcome)
        what = f"Notification {push.event} of the task {push.task} to {hook.config.get('url')}"
        if is_taken:
            _log.info("%s: taken at attempt %d (%s)", what, push.attempts + 1, outcome)
        elif due_ms is None:
            _log.warning("%s: given up after %d attempts: %s", what, push.attempts + 1, outcome)
        else:
            _log.info("%s: attempt %d failed, the next in %d ms: %s", what, push.attempts + 1, due_ms - now_ms, outcome)

    async def _post(self, hook: Hook, push: Push, body: bytes) -> int:
        url = str(hook.config.get("url", ""))
        target = target_of(url)
        address = await self._address_of(target, self._lookups)
        host = f"[{address}]" if ":" in address else address
        proof = self._key.proof(body, url, push.task, f"{push.task}.{push.hook}.{push.event}", self._now_ms() // 1000)
        headers = {
            "Host": target.authority,
            "Content-Type": "application/a2a+json",
            SIGNATURE_HEADER: proof,
            "Authorization": f"Bearer {proof}",
        }
        if token := hook.config.get("token"):
            headers["X-A2A-Notification-Token"] = token
        said = hook.config.get("authentication") or {}
        if said.get("scheme") and said.get("credentials"):
            headers["Authorization"] = f"{said['scheme']} {said['credentials']}"
        request = self._client.build_request(
            "POST", f"{target.scheme}://{host}:{target.port}{target.path}", headers=headers, content=body
        )
        # The certificate must be the name's, and not the address's.
        request.extensions["sni_hostname"] = target.host
        answer = await self._client.send(request, stream=True)
        # What it says beside its status is of no use, and may have no end.
        await answer.aclose()
        return int(answer.status_code)

    async def _address_of(self, target: Target, threads: Executor) -> str:
        with contextlib.suppress(ValueError):
            # An address needs no lookup, and no thread.
            return choose_address(target, [str(ipaddress.ip_address(target.host))], self._allowed)

        def looked_up() -> list[str]:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            return [str(one[4][0]) for one in found]

        try:
            # Not by the loop's own threads: names that a stranger chose may take for ever, and others need those.
            addresses = await asyncio.get_running_loop().run_in_executor(threads, looked_up)
        except (OSError, UnicodeError):
            raise ArgumentInvalid(f"the webhook's host {target.host} can't be resolved") from None
        return choose_address(target, addresses, self._allowed)
