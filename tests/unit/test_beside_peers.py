"""What the comparison with other systems makes of its samples, and what it says when one of them isn't there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.nodes import entry

from tests.benchmarks import beside_peers
from tests.benchmarks.peers.figures import Figures, milliseconds, rows_of, rst, table, typical
from tests.benchmarks.peers.servers import SYSTEMS, CantStart
from tests.benchmarks.peers.worker import SIDES

FIGURES = Figures(
    busy_p50_ms=0.424,
    busy_p99_ms=12.34,
    quiet_p50_ms=1.5,
    quiet_p99_ms=345.6,
    per_s=42_649.0,
    server_us=7.4,
    sender_us=16.0,
    receiver_us=9.6,
    ask_p50_ms=0.8,
    asks_per_s=9_012.0,
)
WIDE = replace(FIGURES, busy_p50_ms=98_765.4, busy_p99_ms=98_765.4, quiet_p50_ms=9876.5, quiet_p99_ms=98_765.4)
WIDE = replace(WIDE, per_s=123_456.0, server_us=999.0, sender_us=999.0, ask_p50_ms=9876.5, asks_per_s=123_456.0)


def test_a_percentile_is_a_sample_in_ms() -> None:
    samples_ns = [number * 1_000_000 for number in range(100, 0, -1)]
    assert milliseconds(samples_ns, 0.5) == 50
    assert milliseconds(samples_ns, 0.99) == 99
    assert milliseconds([3_000_000], 0.99) == 3
    assert math.isnan(milliseconds([], 0.5))


def test_runs_give_medians_and_the_sum_of_what_went_wrong() -> None:
    runs = [replace(FIGURES, per_s=float(n), ask_p50_ms=float(9 - n), lost=n, doubled=2 * n) for n in (1, 7, 2)]
    found = typical(runs)
    assert (found.per_s, found.ask_p50_ms, found.lost, found.doubled) == (2, 7, 10, 20)
    assert found.busy_p50_ms == FIGURES.busy_p50_ms


def test_cells_have_three_digits_that_count() -> None:
    assert rows_of(FIGURES) == ["0.42/12.3", "1.50/346", "42,600", "7/16/10", "0.80", "9,010"]
    assert rows_of(replace(FIGURES, per_s=0.0, ask_p50_ms=math.nan))[2:5:2] == ["–", "–"]


def test_the_table_fits_a_terminal_and_keeps_its_columns_apart() -> None:
    longest = max((system.name for system in SYSTEMS.values()), key=len)
    lines = table({longest: WIDE, "TRISHULA": FIGURES}).splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert lines[2].startswith(f"{longest} ")
    assert lines[2].removeprefix(longest).split() == rows_of(WIDE)
    assert lines[3].split() == ["TRISHULA", *rows_of(FIGURES)]


def test_the_table_for_the_docs_is_one() -> None:
    text = rst(
        {"TRISHULA": FIGURES, "Redis Streams": WIDE},
        {"TRISHULA": "TRISHULA 2", "Redis Streams": "Redis 7"},
        {"TRISHULA": "fsynced", "Redis Streams": "fsynced as well"},
    )
    tree = publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 5})
    cells = [node.astext() for node in tree.findall(entry)]
    assert len(cells) == 3 * 8
    assert cells[8:10] == ["TRISHULA 2", "0.42 / 12.3"]
    assert cells[-1] == "fsynced as well"


def test_each_system_has_a_client() -> None:
    assert set(SIDES) == set(SYSTEMS)


def test_what_is_not_installed_is_left_out_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(beside_peers.installed(["redis", "nats", "trishula"])) == ["trishula"]
    said = capsys.readouterr().err
    assert said == (
        "Redis Streams is left out: redis-server is not installed\n"
        "NATS JetStream is left out: nats-server is not installed\n"
    )


def test_what_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.write_text("#!/bin/sh\necho no room; exit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(CantStart, match=r"^nats-server ended: no room$"):
        beside_peers.measure("nats", "python", 0.1)


def test_another_checkout_takes_turns_with_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns: list[str] = []

    def measured(system: str, python: object, seconds: float) -> Figures:
        turns.append(f"{system} {'before' if python == tmp_path else 'now'}")
        return FIGURES

    monkeypatch.setattr(beside_peers, "measure", measured)
    monkeypatch.setattr(beside_peers, "measure_before", measured)
    found = beside_peers.compare({"redis": "7", "trishula-2": "2"}, "python", tmp_path, 2, 0.1)
    assert turns == ["redis now", "trishula-2 now", "trishula-2 before"] * 2
    assert list(found) == ["Redis Streams", "TRISHULA, 2 copies", "before, 2 copies"]


def test_a_checkout_without_an_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["beside_peers", "--before", str(tmp_path)])
    with pytest.raises(SystemExit):
        beside_peers.main()
    assert "python is not there: make that checkout's environment first (make venv)" in capsys.readouterr().err
