"""Prometheus' own programs, for tests of what is written for them; skipped where they are not, unless they must be."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["PROMTOOL", "needs_promtool"]

_FOUND = shutil.which("promtool")
PROMTOOL = _FOUND or "promtool"
needs_promtool = pytest.mark.skipif(
    _FOUND is None and os.environ.get("TRISHULA_REQUIRE_PROMETHEUS") != "1", reason="promtool is not installed"
)
