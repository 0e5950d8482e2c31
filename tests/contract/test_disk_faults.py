"""What a disk can do to a node that runs: be full, be full for sends only, fail to sync; and how it recovers by itself.

The full disk is a small tmpfs. The one that fails is a file system on a loop device whose file has holes on a tmpfs:
when that is full, writes still go into the kernel's memory, and it is the fsync that fails, as on a dying disk.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.disks import mounted
from tests.support.subjects import (
    FULL,
    InSqlite,
    append,
    draft,
    fill,
    is_sound,
    kinds,
    one,
    open_ids,
    settle_all,
    state_of,
)
from trishula.errors import StorageFailed, StorageFull
from trishula_router.store.journal import Kind
from trishula_router.store.messages import Accepted, Draft, State
from trishula_router.store.sqlite.connection import FILE_NAME

MIB = 1024 * 1024


# -- full --------------------------------------------------------------------------------------------------------------


def test_a_store_at_its_limit_can_still_settle(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=2 * MIB)
    accepted = fill(subject)
    assert settle_all(subject) == len(accepted) > 20
    assert open_ids(subject) == []
    # The bodies are there yet, so it is as full as before, but for what was kept for these acks.
    with pytest.raises(StorageFull):
        append(subject, draft("no", body=b"x" * 200_000))
    assert is_sound(subject)
    subject.close()
    assert (tmp_path / FILE_NAME).stat().st_size <= 2 * MIB


def test_many_small_messages_can_still_be_settled(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=2 * MIB)
    accepted = 0
    with pytest.raises(StorageFull) as caught:
        for number in range(10_000):
            append(subject, *(draft(f"m{number}.{index}") for index in range(20)))
            accepted += 20
    assert caught.value.sentence.startswith(FULL)
    assert 200 < accepted < 10_000
    assert settle_all(subject) == accepted
    assert is_sound(subject)
    subject.close()


def test_a_batch_that_is_larger_than_the_room_is_refused_whole(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=2 * MIB)
    with pytest.raises(StorageFull):
        append(subject, *(draft(f"m{index}", body=b"x" * 100_000) for index in range(30)))
    assert kinds(subject) == []
    append(subject, draft("small"))
    assert open_ids(subject) == ["small"]
    subject.close()


def outcomes(subject: InSqlite, *batches: list[Draft]) -> list[str]:
    """Appends that are called before the first of them is answered: what became of each."""
    answers = [subject.store.append(batch, 100) for batch in batches]
    found = []
    for answer in answers:
        try:
            found.append("duplicate" if subject.calls.wait(answer)[0].duplicate else "accepted")
        except (StorageFull, StorageFailed) as error:
            found.append(type(error).__name__)
    return found


def test_nothing_overtakes_what_found_no_room(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=2 * MIB)
    large = [draft(f"m{index}", body=b"x" * 100_000) for index in range(30)]
    of_another = [draft("o1", sender="rushabdev")]
    of_an_instance = [draft("i1", sender="dc/s1")]
    found = outcomes(subject, [draft("m0")], large, [draft("m1")], of_another, of_an_instance)
    assert found == ["accepted", "StorageFull", "StorageFull", "accepted", "StorageFull"]
    assert open_ids(subject) == ["m0", "o1"]
    # Who was told decides.
    assert outcomes(subject, [draft("m1")], [draft("m0")], of_an_instance) == ["accepted", "duplicate", "accepted"]
    assert is_sound(subject)
    subject.close()


def test_what_fails_behind_a_failure_is_one_itself(tmp_path: Path) -> None:
    # The third is called when the first was answered and the second was not, which may have other recipients.
    subject = InSqlite(tmp_path, limit_bytes=2 * MIB)
    large = [draft(f"m{index}", body=b"x" * 100_000) for index in range(30)]
    third: list[Any] = []
    first = subject.store.append(large, 100)
    first.addErrback(lambda _: third.append(subject.store.append([draft("c", "rushabdev")], 100)))
    second = subject.store.append([draft("b", "rushabdev")], 100)
    subject.calls.wait(first)
    for answer in (second, third[0]):
        with pytest.raises(StorageFull):
            subject.calls.wait(answer)
    assert outcomes(subject, [draft("b", "rushabdev")], [draft("c", "rushabdev")]) == ["accepted", "accepted"]
    subject.close()


def test_nothing_overtakes_what_a_bug_undid(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    broken: Any = draft("m1", body="no bytes")  # type: ignore[arg-type]
    first = subject.store.append([broken], 100)
    second = subject.store.append([draft("m2")], 100)
    with pytest.raises(TypeError):
        subject.calls.wait(first)
    with pytest.raises(StorageFailed, match="a send before this one failed, and this one must not overtake it"):
        subject.calls.wait(second)
    assert open_ids(subject) == []
    subject.close()


def test_acks_go_on_where_sends_found_the_disk_full(small_disk: Path) -> None:
    subject = InSqlite(small_disk)
    (small_disk / "ballast").write_bytes(bytes(MIB))
    accepted = fill(subject)
    assert shutil.disk_usage(small_disk).free > 0
    positions = [it.position for it in subject.do(lambda store: store.head("agni", (0, 0), 1000))]
    subject.do(lambda store: store.settle(positions, State.DONE, None, 5))
    assert open_ids(subject) == []
    assert len(positions) == len(accepted)
    assert is_sound(subject)
    subject.close()


def test_a_disk_that_somebody_else_fills(small_disk: Path) -> None:
    # Not a byte is left, not even the reserve: nothing can be settled, but nothing is lost, and all goes on by itself.
    subject = InSqlite(small_disk)
    position = one(subject, "m1", at=1)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StorageFull):
        append(subject, draft("m2", body=b"x" * 200_000))
    with pytest.raises(StorageFull):
        for index in range(2000):
            subject.calls.wait(subject.store.note(Kind.LEFT, {"agent": "a" * 500, "n": index}, 2))
    high_water = subject.store.high_water
    assert open_ids(subject) == ["m1"]
    ballast.unlink()
    subject.do(lambda store: store.settle([position], State.DONE, None, 3))
    assert append(subject, draft("m3")) == [Accepted((high_water + 2,), False, high_water + 2)]
    assert is_sound(subject)
    subject.reopen()
    assert state_of(subject, position) is State.DONE
    assert open_ids(subject) == ["m3"]
    assert is_sound(subject)
    subject.close()


# -- fsync fails -------------------------------------------------------------------------------------------------------


class FailingDisk:
    """A file system whose fsync can be made to fail."""

    def __init__(self, directory: Path) -> None:
        self.below = directory / "below"
        self.path = directory / "disk"
        self._ballast = self.below / "ballast"
        mounted(self.below, "size=12m")
        image = self.below / "image"
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        self.path.mkdir()
        for command in (
            ["mkfs.ext4", "-q", "-O", "^has_journal", str(image)],
            ["mount", "-o", "loop", str(image), str(self.path)],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                self.end()
                pytest.skip(f"this machine gives us no loop device: {done.stderr.strip()}")

    def fail(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def mend(self) -> None:
        self._ballast.unlink()

    def end(self) -> None:
        for path in (self.path, self.below):
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True)


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is missing, which makes the disk that this test lets fail")
    disk = FailingDisk(tmp_path)
    yield disk
    disk.end()


def refused_until_it_fails(subject: InSqlite) -> list[str]:
    """Send until the disk fails, and on: the ids that were accepted."""
    accepted: list[str] = []
    failures = 0
    for index in range(200):
        try:
            append(subject, draft(f"f{index}", body=b"x" * 100_000))
        except StorageFailed as error:
            assert error.retry_after_s == 5.0
            assert "the node can't use its store (disk I/O error)" in error.sentence
            failures += 1
            if failures == 5:
                return accepted
        else:
            assert failures == 0
            accepted.append(f"f{index}")
    raise AssertionError("the disk never failed")


def test_a_failed_fsync_is_no_receipt(failing_disk: FailingDisk) -> None:
    subject = InSqlite(failing_disk.path)
    append(subject, draft("before"))
    failing_disk.fail()
    accepted = refused_until_it_fails(subject)
    high_water = subject.store.high_water
    # Neither the chain nor the store went on.
    assert high_water == len(accepted) + 1
    assert open_ids(subject) == ["before", *accepted]
    with pytest.raises(StorageFailed):
        subject.do(lambda store: store.settle([1], State.DONE, None, 5))
    assert state_of(subject, 1) is State.OPEN
    failing_disk.mend()
    # It works again without a new start, and what was refused can be sent again.
    (again,) = append(subject, draft(f"f{len(accepted)}", body=b"x" * 100_000))
    assert again == Accepted((high_water + 1,), False, high_water + 1)
    subject.do(lambda store: store.settle([1], State.DONE, None, 5))
    assert is_sound(subject)
    subject.reopen()
    assert open_ids(subject) == [*accepted, f"f{len(accepted)}"]
    assert is_sound(subject)
    subject.close()


def test_a_failed_fsync_is_no_receipt_for_anybody_in_the_group(failing_disk: FailingDisk) -> None:
    subject = InSqlite(failing_disk.path)
    append(subject, draft("before"))
    failing_disk.fail()
    refused_until_it_fails(subject)
    before = open_ids(subject)
    answers = [subject.store.append([draft(f"g{index}", body=b"x" * 100_000)], 1) for index in range(20)]
    seen = subject.store.head("agni", (0, 0), 1000)
    for answer in answers:
        with pytest.raises(StorageFailed):
            subject.calls.wait(answer)
    # Who only reads is answered.
    assert [it.id for it in subject.calls.wait(seen)] == before
    failing_disk.mend()
    assert is_sound(subject)
    append(subject, draft("after"))
    assert open_ids(subject) == [*before, "after"]
    subject.close()


def test_after_a_failed_commit_the_end_is_read_from_the_file(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    one(subject, "m1")
    store = subject.store
    loads: list[int] = []
    reload = store._chain.reload

    def counted(connection: sqlite3.Connection) -> None:
        loads.append(1)
        reload(connection)

    store._chain.reload = counted  # type: ignore[method-assign]

    class Failing:
        """The writer's connection, with a disk that fails at the next COMMIT."""

        def __init__(self) -> None:
            self.inner = store._writer._connection

        def execute(self, statement: str, *values: Any) -> object:
            if statement != "COMMIT":
                return self.inner.execute(statement, *values)
            store._writer._connection = self.inner
            self.inner.execute("ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    store._writer._connection = Failing()  # type: ignore[assignment]
    with pytest.raises(StorageFailed):
        append(subject, draft("m2"))
    assert (store.high_water, loads) == (1, [])
    assert one(subject, "m3") == 2
    assert loads == [1]
    assert is_sound(subject)
    subject.close()
