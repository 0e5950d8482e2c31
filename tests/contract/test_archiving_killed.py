"""A process that archives its journal is killed (kill -9) at each step, and the next one goes on: nothing is lost."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.archiving_run import NOW, archive
from tests.support.node import ROOT, environment
from tests.support.subjects import InSqlite, append, draft
from trishula.evidence.archive import Archive
from trishula.evidence.chain import GENESIS
from trishula_router.store.journal import verify
from trishula_router.store.messages import State

OLD = NOW - 100 * 86_400_000


def done(subject: InSqlite, message_id: str) -> None:
    (accepted,) = append(subject, draft(message_id), at=OLD)
    subject.do(lambda store: store.settle(accepted.positions, State.DONE, None, OLD))


def test_killed_at_any_step_it_goes_on(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    subject = InSqlite(before)
    for number in range(5):
        done(subject, f"m{number}")
    subject.do(lambda store: store.forget(0, 100, before=OLD + 1, dead_before=0, at=OLD))
    (waits,) = append(subject, draft("waits", body=b'{"a":1}'), at=OLD)
    written = [(one.position, one.digest.hex()) for one in subject.do(lambda store: store.records(after=0, limit=100))]
    subject.close()
    killed = 0
    while True:
        state_dir = tmp_path / str(killed)
        shutil.copytree(before, state_dir)
        command = [sys.executable, "-m", "tests.support.archiving_run", str(state_dir), str(killed + 1)]
        ended = subprocess.run(command, cwd=ROOT, env=environment())
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        killed += 1
        archiver = archive(state_dir)
        assert archiver.fault is None
        folder = archiver.segments.archive.folder
        assert [(one.sequence, one.digest) for one in Archive(folder).read()] == written
        assert all(path.name.endswith((".jsonl.gz", ".jsonl.gz.index")) for path in folder.iterdir())
        end = GENESIS
        for _, checked in Archive(folder).check():
            assert checked.ok
            end = checked.digest
        again = InSqlite(state_dir)
        assert again.store.base().sequence == len(written)
        assert again.store.base().digest == end
        newer = again.do(lambda store: store.records(after=len(written), limit=100))
        assert verify(newer, end, len(written)) == []
        assert [one.kind for one in newer] == ["archived"]
        assert not again.do(lambda store: store.verify()).damages
        assert again.do(lambda store: store.bodies(waits.positions)) == {waits.positions[0]: b'{"a":1}'}
        assert [one.id for one in again.do(lambda store: store.head("agni", (0, 0), 9))] == ["waits"]
        again.close()
    assert killed > 20
