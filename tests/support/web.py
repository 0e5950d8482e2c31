"""HTTP to a node, one request a connection, with the connection's own address and headers: what probes send."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.node import NodeProcess

__all__ = ["Got", "ask"]

GENEROUS_S = 20.0


@dataclass(frozen=True)
class Got:
    """An answer: its status, its headers by lower-case name, its body."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def map(self) -> dict[str, Any]:
        """The body, which is a JSON map."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


def ask(
    node: NodeProcess,
    path: str,
    *,
    method: str = "GET",
    token: str | None = None,
    source: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Got:
    """Ask a node over HTTP.

    Args:
        node: a running one.
        path: with its slash.
        method: of HTTP.
        token: sent as a bearer's.
        source: the loopback address to come from.
        headers: further ones.
    """
    where = None if source is None else (source, 0)
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=GENEROUS_S, source_address=where)
    sent = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **(headers or {})}
    try:
        connection.request(method, path, headers=sent)
        answer = connection.getresponse()
        return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
