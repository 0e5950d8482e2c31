"""The newest records that fit a question, from a node that answers oldest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from trishula.cli.newest import PAGE, end_of, newest, newest_of_all


class Journal:
    """Answers as a node does: behind ``after``, not before ``since``, up to ``limit``, looking only so far."""

    def __init__(self, count: int, *, wanted_every: int = 1, look: int = 3000, apart_ms: int = 10) -> None:
        self.records: list[dict[str, Any]] = [
            {"seq": seq, "at": seq * apart_ms, "kind": "done" if seq % wanted_every == 0 else "other"}
            for seq in range(1, count + 1)
        ]
        self.look = look
        self.asked = 0

    def ask(self, options: Mapping[str, Any]) -> dict[str, Any]:
        self.asked += 1
        found: list[dict[str, Any]] = []
        after = options.get("after", 0)
        for looked, record in enumerate(self.records[after:]):
            if looked == self.look:
                return {"records": found, "more": True, "after": after}
            after = record["seq"]
            if record["at"] < options.get("since", 0) or options.get("kind") not in (None, record["kind"]):
                continue
            found.append(record)
            if len(found) == options["limit"]:
                return {"records": found, "more": True, "after": after}
        return {"records": found, "more": False, "after": after}


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return [record["seq"] for record in records]


@pytest.mark.parametrize("size", [0, 1, 5, 999, 1000, 1001, 12_345])
@pytest.mark.parametrize("count", [1, 100, 2500])
def test_the_newest(size: int, count: int) -> None:
    journal = Journal(size)
    found = newest(journal.ask, {}, count, size)
    assert numbers(found.records) == list(range(1, size + 1))[-count:]
    assert found.more == (size > count)
    assert found.after == size


@pytest.mark.parametrize("every", [2, 700, 9000])
def test_the_newest_that_fit(every: int) -> None:
    size = 20_000
    journal = Journal(size, wanted_every=every)
    found = newest(journal.ask, {"kind": "done"}, 10, size)
    fit = [seq for seq in range(1, size + 1) if seq % every == 0]
    assert numbers(found.records) == fit[-10:]
    assert found.more == (len(fit) > 10)


def test_the_end_of_a_long_journal_takes_few_questions() -> None:
    journal = Journal(200_000)
    newest(journal.ask, {}, 100, 200_000)
    assert journal.asked == 1


def test_what_was_written_meanwhile_is_left_out() -> None:
    """Else a busy node would never come to an end."""
    assert numbers(newest(Journal(50).ask, {}, 10, 40).records) == list(range(31, 41))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 1000, 1023])
def test_the_end_is_found(size: int) -> None:
    assert end_of(Journal(size).ask, "other") == size


@pytest.mark.parametrize("apart_ms", [1, 10, 30_000])
@pytest.mark.parametrize("size", [0, 5, 150, 5000])
def test_the_newest_of_all_nodes(size: int, apart_ms: int) -> None:
    journal = Journal(size, apart_ms=apart_ms, look=100_000)
    now_ms = size * apart_ms
    found = newest_of_all(journal.ask, {"node": "*"}, 100, now_ms)
    assert numbers(found.records) == list(range(1, size + 1))[-100:]
    assert found.more == (size > 100)
    assert journal.asked < 40


def test_a_burst_at_the_end_is_narrowed_down() -> None:
    journal = Journal(PAGE * 9, apart_ms=0, look=100_000)
    for record in journal.records:
        record["at"] = 1_000_000 + record["seq"] // 4
    now_ms = 1_000_000 + PAGE * 9 // 4
    found = newest_of_all(journal.ask, {"node": "*"}, 100, now_ms)
    assert numbers(found.records) == list(range(PAGE * 9 - 99, PAGE * 9 + 1))
    assert found.more
