"""An agent that knows files alone, on a real bus: by a real bridge, and by a real rsync."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.file_talk import Talk, small_disk

pytestmark = pytest.mark.node


def test_a_conversation_by_files_and_rsync_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    # TRISHULA_LONG=1 is the long form, as python -m tests.support.file_talk: 1,000 messages and three kills.
    is_long = os.environ.get("TRISHULA_LONG") == "1"
    if shutil.which("rsync") is None and os.environ.get("TRISHULA_REQUIRE_RSYNC") != "1":
        pytest.skip("there is no rsync on this machine: apt-get install rsync")
    with small_disk(tmp_path) as disk:
        talk = Talk(tmp_path, disk, rounds=50 if is_long else 2)
        found = talk.run(kills=3 if is_long else 1, is_full_first=not is_long, timeout_s=300.0)
        assert (found.lost, found.twice) == ([], [])
        assert "No space left on device" in talk.log("bridge")
        assert "has lost its node" in talk.log("bridge")
        # All that was sent is archived, and nothing was rejected.
        archived = [path.name for path in talk.bridge_folder.glob("archive/*/*")]
        assert sorted(archived) == sorted(f"re_{one}.json" for one in found.said)
        assert list(talk.bridge_folder.glob("rejected/*")) == []
        assert list(talk.bridge_folder.glob("outbox/*.json")) == []
