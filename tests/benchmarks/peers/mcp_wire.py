"""A client of MCP over streamable HTTP, with a socket alone: one thread, one connection, one call at a time.

Two servers whose SDKs are of different years get the same load by it, and it costs the machine that they share little.
"""

from __future__ import annotations

import http.client
import json
import select
from collections.abc import Mapping
from typing import Any

__all__ = ["McpClient", "NoAnswer", "NoServer", "ToolFailed"]

_PROTOCOL = "2025-06-18"
#: A server that is this slow counts as one that doesn't answer.
_ANSWER_WITHIN_S = 30.0


class ToolFailed(Exception):
    """The server answered that it did not do it; its words."""


class NoAnswer(Exception):
    """No answer: it may have been done or not."""


class NoServer(NoAnswer):
    """Nobody listens: nothing was done."""


class McpClient:
    """Calls tools.

    Args:
        port, path: of the server, on loopback.
        headers: sent with each request.
    """

    def __init__(self, port: int, path: str, headers: Mapping[str, str] | None = None) -> None:
        self._port = port
        self._path = path
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **(headers or {}),
        }
        self._number = 0
        self._connection: http.client.HTTPConnection | None = None
        self._session: dict[str, str] = {}

    def open(self) -> None:
        """Connect and agree upon the protocol, unless that is done.

        Raises:
            NoServer: nobody is there.
        """
        if self._connection is not None and not self._is_stale():
            return
        self.close()
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_WITHIN_S)
        self._session = {}
        asked = {"protocolVersion": _PROTOCOL, "capabilities": {}, "clientInfo": {"name": "gauntlet", "version": "1"}}
        agreed = self._request("initialize", asked)
        self._session["MCP-Protocol-Version"] = agreed["protocolVersion"]
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> tuple[str, Any]:
        """Call a tool: its text, and its structured content if it has any.

        Raises:
            ToolFailed: the answer is an error.
            NoAnswer: there is none.
        """
        self.open()
        told = self._request("tools/call", {"name": tool, "arguments": arguments})
        text = "\n".join(block.get("text", "") for block in told.get("content", ()))
        if told.get("isError"):
            raise ToolFailed(text)
        return text, told.get("structuredContent")

    def _is_stale(self) -> bool:
        """Whether the server has closed an idle connection, as it may."""
        line = self._connection.sock if self._connection is not None else None
        return line is None or bool(select.select([line], [], [], 0)[0])

    def close(self) -> None:
        """Disconnect; the next call connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        said = self._post({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        for message in said:
            if message.get("id") == self._number:
                if "error" in message:
                    raise ToolFailed(str(message["error"].get("message", message["error"])))
                result: dict[str, Any] = message["result"]
                return result
        self.close()
        raise NoAnswer("the server's answer has no result")

    def _post(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        connection = self._connection
        assert connection is not None
        try:
            connection.request("POST", self._path, json.dumps(message), {**self._headers, **self._session})
            answer = connection.getresponse()
            body = answer.read().decode()
            if session := answer.getheader("Mcp-Session-Id"):
                self._session["Mcp-Session-Id"] = session
            if answer.status >= 300:
                raise NoAnswer(f"the server answered {answer.status}: {body[:200]}")
            return messages_in(body)
        except ConnectionRefusedError as error:
            self.close()
            raise NoServer("nobody listens") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        except NoAnswer:
            self.close()
            raise


def messages_in(body: str) -> list[dict[str, Any]]:
    """What an answer holds, whether it is JSON or a stream of events."""
    if not body.strip():
        return []
    if body.lstrip().startswith("{"):
        return [json.loads(body)]
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:") and line[5:].strip()]
