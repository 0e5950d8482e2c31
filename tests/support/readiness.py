"""``/ready`` of a real node, as a load balancer asks it."""

from __future__ import annotations

import time

from tests.support.node import NodeProcess
from tests.support.web import ask

__all__ = ["against", "degraded", "until", "until_ready"]

GENEROUS_S = 60.0


def against(node: NodeProcess) -> dict[str, str]:
    """Name → reason of the checks that are not ok; 503 exactly if there are some."""
    got = ask(node, "/ready")
    found = {one["check"]: one["reason"] for one in got.map["checks"] if not one["ok"]}
    assert (got.code, got.map["ready"]) == ((503, False) if found else (200, True))
    return found


def until(node: NodeProcess, check: str, is_ok: bool) -> str:
    """Ask until a check is so; its reason."""
    deadline = time.monotonic() + GENEROUS_S
    while (check in (found := against(node))) is is_ok:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found.get(check, "")


def until_ready(node: NodeProcess) -> None:
    """Ask until 200."""
    deadline = time.monotonic() + GENEROUS_S
    while found := against(node):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def degraded(node: NodeProcess) -> dict[str, str]:
    """Name → reason of the checks that are ok, and have something to tell all the same."""
    return {one["check"]: one["reason"] for one in ask(node, "/ready").map["checks"] if one.get("degraded")}
