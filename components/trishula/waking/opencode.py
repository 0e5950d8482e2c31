"""Wake a session of opencode by its own HTTP server: ``POST /session/ID/prompt_async``, as version 1 has it.

The server is what ``opencode serve`` starts, and a terminal's ``opencode --port N`` as well. It takes the line at once
and begins a turn, or has it wait for the end of the turn that is on. The line goes to the session's own agent and
model: without naming them a session that only plans would go on as one that writes.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from trishula.cli.words import plain
from trishula.waking.adapters import WakeFailed
from trishula.waking.policy import Pointer

__all__ = ["OpencodeServer"]

_MOST_BYTES = 8 * 1024 * 1024


class OpencodeServer:
    """See :class:`~trishula.waking.adapters.Adapter`.

    Args:
        url: of the server, such as ``http://127.0.0.1:4096``.
        session: the id of the session; ``None``: the one that was used last, sessions of subagents left out.
        environ: ``OPENCODE_SERVER_PASSWORD`` and ``OPENCODE_SERVER_USERNAME``, as the server has them.
        timeout_s: how long an answer may take.
    """

    def __init__(self, url: str, session: str | None, environ: Mapping[str, str], timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self.target = f"opencode {self._url} {session or ''}"
        self._session = session
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if password := environ.get("OPENCODE_SERVER_PASSWORD"):
            name = environ.get("OPENCODE_SERVER_USERNAME") or "opencode"
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        # Its own machine's, in whichever environment: not by a proxy. And a password follows no redirect.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def wake(self, pointer: Pointer) -> None:
        session = self._chosen()
        prompt: dict[str, Any] = {"parts": [{"type": "text", "text": pointer.text}]}
        if isinstance(agent := session.get("agent"), str):
            prompt["agent"] = agent
        match session.get("model"):
            case {"id": str() as model, "providerID": str() as provider}:
                prompt["model"] = {"providerID": provider, "modelID": model}
        self._ask(f"/session/{_quoted(session['id'])}/prompt_async", prompt)

    def _chosen(self) -> Mapping[str, Any]:
        if self._session is not None:
            found = self._ask(f"/session/{_quoted(self._session)}")
        else:
            listed = self._ask("/session")
            own = [one for one in listed if _is_own(one)] if isinstance(listed, list) else []
            found = max(own, key=lambda one: one["time"]["updated"], default=None)
            if found is None:
                raise WakeFailed(f"{self._url} has no session yet: begin one, or name one by --session")
        if not isinstance(found, dict) or not isinstance(found.get("id"), str):
            raise WakeFailed(f"{self._url} is no server of opencode 1: it told no session")
        return found

    def _ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                text = answer.read(_MOST_BYTES)
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                raise WakeFailed(f"{self._url}{path} answered {error.code}{_reason(error)}") from None
        except urllib.error.URLError as error:
            raise WakeFailed(f"{self._url} can't be reached: {plain(str(error.reason))}") from None
        except (OSError, HTTPException) as error:
            raise WakeFailed(f"{self._url} gave no answer: {plain(str(error))}") from None
        except ValueError:
            raise WakeFailed(f"{self._url} is no server of opencode 1: {path} answered no JSON") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _is_own(session: object) -> bool:
    match session:
        case {"parentID": str()}:
            return False
        case {"id": str(), "time": {"updated": int() | float()}}:
            return True
    return False


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _reason(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return ": set OPENCODE_SERVER_PASSWORD as the server has it"
    try:
        told = json.loads(error.read(4096))["data"]["message"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f": {plain(told)[:300]}"
