"""Two linked stores that are killed while they copy, archive and cut: none lost, none twice, both chains whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from tests.support.linked_cutting_run import NAMES, Linked
from trishula.evidence.archive import Archive
from trishula.evidence.checking import check_file
from trishula_router.store.journal import SEQUENCE_MASK, is_own, verify
from trishula_router.store.messages import State

_ROOT = Path(__file__).parents[2]
#: Behind how many steps each process ends; primes, so that they come to all kinds of steps.
_STEPS = (13, 23, 37, 53, 71, 83, 109, 127)


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def ended(directory: Path, linked: Linked) -> set[str]:
    """The ids of messages that are done by what is archived."""
    ids, done = {}, set()
    for name, other in (NAMES, NAMES[::-1]):
        for line in Archive(directory / name / "archive" / linked.stores[name].epoch).read():
            facts = msgspec.json.decode(line.facts)
            if line.kind == "accepted":
                ids[name, line.sequence] = facts["id"]
            elif line.kind == "done":
                done |= {(name if is_own(one) else other, one & SEQUENCE_MASK) for one in facts["messages"]}
    return {ids[one] for one in done}


def test_killed_at_any_step_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    module = "tests.support.linked_cutting_run"
    codes = [
        subprocess.run(
            [sys.executable, "-m", module, str(tmp_path), str(steps), str(number)], timeout=60, check=False, cwd=_ROOT
        ).returncode
        for number, steps in enumerate(_STEPS)
    ]
    assert codes.count(-9) >= 6
    # One more round by itself brings all to its end: of what waits, too.
    linked = Linked(tmp_path)
    linked.round(1000)
    linked.round(1004)
    accepted, done = lines(tmp_path / "accepted"), lines(tmp_path / "done")
    assert len(accepted) > 40
    # What was durably done at one came back at neither.
    assert len(done) == len(set(done))
    for name in NAMES:
        store = linked.stores[name]
        assert store.base().sequence > 60
        assert store.base(1).sequence > 60
        assert linked.ask(store.head("agni", (0, 0), 1000)) == []
        found = linked.ask(store.with_ids(accepted))
        assert {one.state for one in found} <= {State.DONE}
        # The others are forgotten, and were done by then.
        forgotten = set(accepted) - {one.id for one in found}
        assert forgotten and forgotten <= ended(tmp_path, linked)
        assert store.first_use > 0
        assert not linked.ask(store.verify()).damages
        # The chain leads from the first segment into the store, from files alone.
        end, sequence = bytes(32), 0
        for segment in Archive(tmp_path / name / "archive" / store.epoch).segments():
            checked = check_file(segment.path, ())
            assert checked.ok
            assert checked.head is not None
            assert (checked.head.first, bytes.fromhex(checked.head.previous)) == (sequence + 1, end)
            end, sequence = checked.digest, checked.end
        assert sequence == store.base().sequence
        newer = linked.ask(store.records(after=sequence, limit=1000))
        assert verify(newer, end, sequence) == []
    linked.close()
