"""Reports: what records of journals come to, and what of others' texts reaches a page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trishula.cli.main import run
from trishula.cli.state import State
from trishula.reports import plots, words
from trishula.reports.page import as_html, as_markdown
from trishula.reports.reading import records_since
from trishula.reports.summary import Report, Summary, step_for
from trishula.watching.availability import NodeTime
from trishula.watching.canary_roads import canary_roads
from trishula.watching.outages import common, length_ms, united, within
from trishula.watching.quantiles import spread_of
from trishula.watching.totals import Totals

HOUR = 3_600_000
SINCE, UNTIL = 1_000 * HOUR, 1_010 * HOUR
STATUS = {
    "node": "agni",
    "version": "2.0",
    "high_water": 900,
    "store": {"size_bytes": 1 << 20, "used_bytes": 300_000, "limit_bytes": 1 << 30, "room_bytes": 1_000_000},
}


def record(kind: str, hour: float, seq: int = 1, node: str = "agni", **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "at": SINCE + round(hour * HOUR), "seq": seq, "node": node, **facts}


def accepted(hour: float, seq: int, to: str = "dc", **facts: Any) -> dict[str, Any]:
    return record("accepted", hour, seq, **{"from": "agni/7f3a", "to": to, "id": str(seq), **facts})


def report_of(*records: dict[str, Any]) -> Report:
    summary = Summary(SINCE, UNTIL)
    for one in records:
        summary.add(one)
    peers = {one["node"] for one in records} - {"agni"}
    return summary.report({**STATUS, "peers": [{"node": name, "state": "up"} for name in peers]}, UNTIL)


# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_are_counted_by_how_they_stand() -> None:
    report = report_of(
        *(accepted(1, seq) for seq in range(1, 7)),
        record("done", 1.001, 10, messages=[1, 2]),
        record("dead", 2, 11, messages=[3], reason="no"),
        record("expired", 2, 12, messages=[4]),
        record("cancelled", 2, 13, messages=[5]),
        record("returned", 2, 14, messages=[[6, 1, 0]], reason="again"),
    )
    assert report["messages"] == {
        "accepted": 6, "done": 2, "dead": 1, "expired": 1, "cancelled": 1, "open": 1, "redeliveries": 1,
    }  # fmt: skip
    assert (report["latency"]["messages"], report["latency"]["max_ms"]) == (2, 3600)
    [pair] = report["pairs"]
    assert (pair["from"], pair["to"], pair["accepted"], pair["p50_ms"]) == ("agni", "dc", 6, 3600)


def test_a_message_belongs_to_when_it_was_accepted_and_may_end_later() -> None:
    report = report_of(accepted(-1, 1), accepted(9.9, 2), accepted(10, 3), record("done", 11, 4, messages=[1, 2, 3]))
    assert (report["messages"]["accepted"], report["messages"]["done"]) == (1, 1)


def test_an_end_that_is_told_before_the_acceptance_counts() -> None:
    # Journals are read one after the other.
    position = (1 << 48) | 7
    report = report_of(
        record("done", 1, 5, messages=[position]),
        accepted(0.9, 7, node="rushabdev", position=position, id="another"),
        accepted(0.9, 7),
    )
    assert (report["messages"]["accepted"], report["messages"]["done"], report["messages"]["open"]) == (2, 1, 1)


@pytest.mark.parametrize("first", [0, 1])
def test_a_message_that_two_nodes_accepted_is_one(first: int) -> None:
    position = (1 << 48) | 7
    acceptances = [accepted(1, 3, id="a"), accepted(9, 7, node="rushabdev", position=position, id="a")]
    # Which journal is read first, and which node ended it, changes nothing.
    for ended in (3, position):
        report = report_of(acceptances[first], acceptances[1 - first], record("done", 9.5, 9, messages=[ended]))
        assert (report["messages"]["accepted"], report["messages"]["done"], report["messages"]["open"]) == (1, 1, 0)
        assert report["latency"]["max_ms"] == 8.5 * HOUR
    # Under an id that was forgotten and used again, to another recipient, from another agent it is another one.
    others: list[dict[str, Any]] = [{"use": 1}, {"to": "mallory"}, {"from": "dc"}]
    report = report_of(
        accepted(1, 1, id="a"), *(accepted(2, 2 + n, **{"id": "a", **one}) for n, one in enumerate(others))
    )
    assert report["messages"]["accepted"] == 4


def test_done_wins_and_a_replayed_letter_has_no_end() -> None:
    report = report_of(
        accepted(1, 1),
        accepted(1, 2),
        record("dead", 2, 3, messages=[1, 2]),
        record("done", 3, 4, node="rushabdev", messages=[1]),
        record("replayed", 4, 5, messages=[2]),
    )
    assert (report["messages"]["done"], report["messages"]["dead"], report["messages"]["open"]) == (1, 0, 1)
    # Also where the other node's journal is read first.
    report = report_of(accepted(1, 1), record("done", 3, 4, messages=[1]), record("dead", 2, 3, messages=[1]))
    assert (report["messages"]["done"], report["messages"]["dead"]) == (1, 0)


def test_instants_are_by_the_clock_of_who_is_asked() -> None:
    report = report_of(accepted(1, 1), record("done", 2, 2, node="rushabdev", messages=[1], clock_ahead_ms=HOUR - 5))
    assert report["latency"]["max_ms"] == 5


@pytest.mark.parametrize(
    ("values", "p50", "p90", "p99"),
    [([], None, None, None), ([7], 7, 7, 7), (range(1, 101), 50, 90, 99), (range(1, 1001), 500, 900, 990)],
)
def test_quantiles_are_exact(values: Any, p50: int | None, p90: int | None, p99: int | None) -> None:
    spread = spread_of(values)
    assert (spread["p50_ms"], spread["p90_ms"], spread["p99_ms"]) == (p50, p90, p99)


def test_a_series_has_steps_that_make_a_picture() -> None:
    assert [step_for(span) // 1000 for span in (60_000, HOUR, 24 * HOUR, 7 * 24 * HOUR, 91 * 24 * HOUR)] == [
        1, 60, 900, 3600, 86_400,
    ]  # fmt: skip
    series = report_of(accepted(0, 1), accepted(0.01, 2), accepted(9, 3))["series"]
    assert [step["accepted"] for step in series] == [2, 1]
    assert series[1]["at"] == SINCE + 9 * HOUR


# -- presence ----------------------------------------------------------------------------------------------------------


def test_a_node_that_was_killed_was_down_from_its_last_record_on() -> None:
    report = report_of(
        record("node_started", 1, 5),
        record("joined", 2, 6, agent="dc", session=1, role="agent"),
        record("node_started", 3, 7),
        record("node_stopped", 5, 8),
        record("node_started", 6, 9),
        record("node_stopped", 9, 10),
    )
    [node] = report["nodes"]
    hours = [((begin - SINCE) / HOUR, (end - SINCE) / HOUR) for begin, end in node["down"]]
    # Of what was before its first record here: it had started before, so it has been down since then.
    assert hours == [(0, 1), (2, 3), (5, 6), (9, 10)]
    assert (node["crashes"], node["availability"]) == (1, 0.6)
    [dc] = report["agents"]
    assert dc["away_s"] == 8 * 3600


def test_a_bus_is_down_when_all_of_its_nodes_are() -> None:
    report = report_of(
        record("node_stopped", 1), record("node_started", 4, 2),
        record("node_stopped", 3, 1, "rushabdev"), record("node_started", 6, 2, "rushabdev"),
    )  # fmt: skip
    assert report["bus"] == {
        "availability": 0.9, "down_s": 3600.0, "down": [[SINCE + 3 * HOUR, SINCE + 4 * HOUR]],
        "planned_s": 0.0, "planned": [],
    }  # fmt: skip


def test_what_a_node_says_of_its_time_counts_more_than_its_journal() -> None:
    records = [
        record("node_started", 1),
        # Killed at 2.5: its last look, and no record.
        record("node_started", 3, 2),
        record("node_stopped", 5, 3),
        record("node_started", 6, 4),
    ]
    told = NodeTime(
        SINCE + HOUR,
        [(SINCE + round(a * HOUR), SINCE + round(b * HOUR)) for a, b in ((2.5, 3), (5, 6), (8, 8.5))],
        [(SINCE + 5 * HOUR, SINCE + round(5.5 * HOUR))],
    )
    summary = Summary(SINCE, UNTIL, {"agni": told})
    for one in records:
        summary.add(one)
    report = summary.report(STATUS, UNTIL)
    [node] = report["nodes"]
    assert (node["told_by"], node["planned_s"], node["down_s"]) == ("node", 1800, 1.5 * 3600)
    assert node["availability"] == pytest.approx(1 - 1.5 / 8.5)
    incidents = [(one["kind"], (one["from"] - SINCE) / HOUR) for one in report["incidents"]]
    assert incidents == [("node down", 2.5), ("maintenance", 5), ("node down", 5.5), ("node down", 8)]
    assert words.caveats(report) == []

    # Of time that it doesn't know any more the journal tells.
    summary = Summary(SINCE, UNTIL, {"agni": replace(told, since=SINCE + 4 * HOUR)})
    for one in records:
        summary.add(one)
    report = summary.report(STATUS, UNTIL)
    assert report["nodes"][0]["down_s"] == (2 + 1) * 3600
    [sentence] = words.caveats(report)
    assert "it is known from journals alone when they were down: agni" in sentence


def test_a_node_that_was_not_asked_is_named() -> None:
    report = report_of(record("node_started", 1), record("node_started", 3, 2, "rushabdev"))
    assert [one["told_by"] for one in report["nodes"]] == ["journal"] * 2
    [sentence] = words.caveats(report)
    assert sentence.startswith("Not asked when they were down: agni, rushabdev. ")
    assert "Not asked when they were down: agni, rushabdev" in as_markdown(report)


def link(event: str, hour: float, seq: int, peer: str = "rushabdev", node: str = "agni") -> dict[str, Any]:
    return record("link", hour, seq, node, peer=peer, event=event, detail="")


def down_report(*more: dict[str, Any], status: dict[str, Any] = STATUS) -> Report:
    """Of agni, which was asked and down for the sixth hour, and of what else the journals tell."""
    down = NodeTime(SINCE - HOUR, [(SINCE + 6 * HOUR, SINCE + 7 * HOUR)])
    summary = Summary(SINCE, UNTIL, {"agni": down})
    for one in more:
        summary.add(one)
    return summary.report(status, UNTIL)


def test_a_node_that_nobody_can_ask_is_known_until_its_last_sign_of_life() -> None:
    report = down_report(
        link("up", 1, 2), link("down", 5, 3),
        record("node_started", 1, 1, "rushabdev"), record("accepted", 2, 2, "rushabdev", id="x"),
        record("joined", 2, 3, "rushabdev", agent="dc", session=1, role="agent"),
    )  # fmt: skip
    [agni, rushabdev] = report["nodes"]
    # It wrote nothing in the last three hours that it is known to have been there for: its link to agni tells of them.
    assert rushabdev["unknown"] == [[SINCE + 5 * HOUR, UNTIL]] and rushabdev["unknown_s"] == 5 * 3600
    assert (rushabdev["availability"], rushabdev["down"], rushabdev["crashes"]) == (1.0, [], 0)
    assert (agni["availability"], agni["unknown"]) == (0.9, [])
    # Nobody is known to have served anybody while agni was down.
    assert report["bus"]["down"] == [[SINCE + 6 * HOUR, SINCE + 7 * HOUR]]
    [dc] = report["agents"]
    assert dc["away"] == [[SINCE + 5 * HOUR, UNTIL]]
    assert ("node not known", "rushabdev", SINCE + 5 * HOUR, None) in [
        (one["kind"], one["about"], one["from"], one["until"]) for one in report["incidents"]
    ]
    shown = as_markdown(report)
    assert "Nothing is known of rushabdev after" in shown and "5 h 0 min" in shown


def test_a_node_of_which_nothing_is_known_has_no_availability() -> None:
    report = down_report(status={**STATUS, "peers": [{"node": "rushabdev", "state": "down"}]})
    rushabdev = report["nodes"][1]
    assert rushabdev["node"] == "rushabdev" and rushabdev["availability"] is None
    assert rushabdev["unknown"] == [[SINCE, UNTIL]] and report["bus"]["down_s"] == 3600
    assert "| rushabdev | unknown | 0 s | 0 s | 10 h 0 min | 0 |" in as_markdown(report)
    assert "unknown" in as_html(report, {})


@pytest.mark.parametrize("sign", ["its link is up", "it wrote later", "another node's link is up"])
def test_a_node_that_was_not_asked_and_is_there_is_known(sign: str) -> None:
    begun = record("node_started", 1, 1, "rushabdev")
    if sign == "its link is up":
        report = down_report(begun, status={**STATUS, "peers": [{"node": "rushabdev", "state": "up"}]})
    elif sign == "it wrote later":
        report = down_report(begun, record("accepted", 11, 2, "rushabdev", id="x"))
    else:
        report = down_report(begun, link("up", 2, 1, node="dc"), record("accepted", 11, 2, "dc", id="x"))
    rushabdev = next(one for one in report["nodes"] if one["node"] == "rushabdev")
    assert (rushabdev["unknown"], rushabdev["availability"]) == ([], 1.0)
    assert report["bus"]["down"] == []


def test_a_node_that_was_killed_and_started_behind_the_span_was_down() -> None:
    report = down_report(link("up", 1, 2), link("down", 5, 3), record("node_started", 1, 1, "rushabdev"),
                         record("node_started", 12, 2, "rushabdev"))  # fmt: skip
    rushabdev = report["nodes"][1]
    # Not from its last record on: its link carried for four hours more.
    assert (rushabdev["down"], rushabdev["unknown"]) == ([[SINCE + 5 * HOUR, UNTIL]], [])
    assert report["bus"]["down_s"] == 3600


def test_a_node_that_stopped_in_order_is_down_and_not_unknown() -> None:
    report = down_report(record("node_started", 1, 1, "rushabdev"), record("node_stopped", 5, 2, "rushabdev"))
    assert (report["nodes"][1]["down_s"], report["nodes"][1]["unknown"]) == (5 * 3600, [])


def test_who_is_back_soon_has_connected_anew_and_elsewhere_has_failed_over() -> None:
    joined = {"agent": "dc", "role": "agent"}
    report = report_of(
        record("joined", 1, 1, session=1, **joined),
        record("left", 2, 2, session=1, agent="dc"),
        record("joined", 2.01, 1, "rushabdev", session=2, **joined),
        # A second session changes nothing while the first one is there.
        record("joined", 2.5, 2, "rushabdev", session=3, **joined),
        record("left", 2.6, 3, "rushabdev", session=3, agent="dc"),
        record("left", 3, 4, "rushabdev", session=2, agent="dc"),
        record("joined", 8, 3, session=4, **joined),
        record("joined", 8, 4, session=5, agent="boss", role="operator"),
        record("left", 9, 5, session=5, agent="boss"),
        record("refused", 9, 6, agent="dc", error="e", detail="d", more=4),
    )
    [dc] = report["agents"]
    assert {name: dc[name] for name in ("agent", "sessions", "reconnects", "failovers", "refusals")} == {
        "agent": "dc", "sessions": 4, "reconnects": 1, "failovers": 1, "refusals": 5,
    }  # fmt: skip
    assert report["failovers"] == [
        {"agent": "dc", "from": "agni", "to": "rushabdev", "at": SINCE + round(2.01 * HOUR), "took_s": 36.0}
    ]
    assert [one["kind"] for one in report["incidents"]] == ["agent away"]


def test_who_is_back_at_its_node_has_not_failed_over() -> None:
    report = report_of(
        record("joined", 1, 1, session=1, agent="dc", role="agent"),
        record("left", 2, 2, session=1, agent="dc"),
        record("joined", 2.01, 3, session=2, agent="dc", role="agent"),
    )
    [dc] = report["agents"]
    assert (dc["reconnects"], dc["failovers"], report["failovers"]) == (1, 0, [])


def test_incidents_have_a_begin_and_an_end() -> None:
    report = report_of(
        record("link", 1, 1, peer="rushabdev", event="down", detail="no answer"),
        record("link", 2, 2, peer="rushabdev", event="up", detail=""),
        record("mode", 3, 3, mode="fallback", sends=True, reason="p99 > 200 ms", by="trigger"),
        record("mode", 4, 3, "rushabdev", mode="live", sends=True, reason="over", by="trigger"),
        record("link", 9, 4, peer="rushabdev", event="down", detail="gone"),
        record("dead", 9.5, 5, messages=[1, 2], reason="attempts used up"),
    )
    told = [
        (one["kind"], (one["from"] - SINCE) / HOUR, one["until"] and (one["until"] - SINCE) / HOUR)
        for one in report["incidents"]
    ]
    assert told == [("link down", 1, 2), ("fallback", 3, 4), ("link down", 9, None), ("dead letters", 9.5, 9.5)]


def test_a_fallback_that_another_node_ended_is_over_whichever_journal_is_read_first() -> None:
    off = record("mode", 4, 3, mode="live", sends=True, reason="over", by="boss")
    on = record("mode", 3, 3, "rushabdev", mode="fallback", sends=False, reason="rollback", by="boss")
    for records in ((off, on), (on, off)):
        [one] = report_of(*records)["incidents"]
        assert ((one["from"] - SINCE) / HOUR, (one["until"] - SINCE) / HOUR) == (3, 4)


def test_no_incident_is_left_out() -> None:
    records = [record("dead", 1, seq, messages=[seq], reason="no") for seq in range(1, 601)]
    assert len(report_of(*records)["incidents"]) == 600


# -- spans -------------------------------------------------------------------------------------------------------------


def test_spans() -> None:
    assert united([(5, 7), (1, 3), (2, 4), (7, 8)]) == [(1, 4), (5, 8)]
    assert within([(0, 10), (20, 30), (11, 12)], 5, 11) == [(5, 10)]
    assert common([[(0, 10)], [(2, 4), (8, 12)]]) == [(2, 4), (8, 10)]
    assert common([]) == [] and length_ms([(0, 5), (3, 6)]) == 6


def test_capacity_is_told_by_the_rate_of_the_span() -> None:
    capacity = report_of(*(accepted(1, seq) for seq in range(1, 101)))["capacity"]
    assert (capacity["per_day"], capacity["bytes_per_message"]) == (240.0, 1000)
    assert capacity["days_left"] == pytest.approx(1_000_000 / 240_000, abs=0.1)
    assert report_of()["capacity"]["days_left"] is None


# -- forms -------------------------------------------------------------------------------------------------------------

HOSTILE = '</td><script>alert(1)</script> | $x^2$ `#` \x1b[2J\u202e"&'


def hostile() -> Report:
    return report_of(
        accepted(1, 1, to="$a_b$"),
        record("done", 1.1, 2, messages=[1]),
        record("link", 1, 3, peer=HOSTILE, event="down", detail=HOSTILE),
    )


def test_texts_of_others_stay_text_in_a_page() -> None:
    report = hostile()
    page = as_html(report, plots.as_svgs(report))
    assert "<script" not in page and "\x1b" not in page
    assert "&lt;/td&gt;&lt;script&gt;alert(1)" in page
    assert page.count("<svg") == len(plots.PLOTS)
    # A name is no formula.
    assert ">$a_b$</text>" in plots.as_svgs(report)["matrix"]


def test_texts_of_others_stay_text_in_markdown() -> None:
    text = as_markdown(hostile())
    line = next(line for line in text.splitlines() if "link down" in line)
    assert "<script" not in text.replace("\\<script", "") and "\x1b" not in text
    assert line.count(" | ") == 4


def test_plots_of_nothing_say_so() -> None:
    report = report_of()
    drawn = plots.as_svgs(report)
    assert "no message was done" in drawn["latency"] and "no agent had to connect anew" in drawn["reconnects"]
    assert plots.as_png(report).startswith(b"\x89PNG")
    # The same figures make the same page.
    assert drawn == plots.as_svgs(report)


def test_a_table_that_is_cut_says_so() -> None:
    report = report_of(*(accepted(1, seq, to=f"a{seq}") for seq in range(1, 60)))
    rows = {title: rows for title, _, rows in words.tables(report)}["Messages by sender and recipient"]
    assert len(rows) == 51 and rows[-1] == ("and 9 more, which the JSON form has",)
    # In a cell of its own over the whole row, and the columns of figures are still such.
    page = as_html(report, {})
    assert '<td class="more" colspan="9">and 9 more, which the JSON form has</td>' in page
    assert '<th scope="col" class="number">accepted</th>' in page


def test_canaries_are_told_by_road_and_none_is_not_measured() -> None:
    totals = Totals(link_canaries=20, link_canaries_lost=3)
    totals.link_canary_ms.add(4.0, 17)
    two = Totals.sum([totals, totals])
    report = {**report_of(), "canaries": [one.as_map() for one in canary_roads(two)]}
    assert report["canaries"][1] == {"road": "link", "canaries": 40, "lost": 6, "p50_ms": 4, "p99_ms": 4}
    rows = {title: rows for title, _, rows in words.tables(report)}["Canaries"]
    assert rows == [
        ("live", "not measured", "–", "–", "–"),
        ("link", "40", "6", "4 ms", "4 ms"),
        ("files", "not measured", "–", "–", "–"),
    ]
    assert "not measured" in as_html(report, {}) and "not measured" in as_markdown(report)


def test_long_names_have_room() -> None:
    """Below each other and not beside each other, smaller, and cut in the middle at last."""
    name = "database_migration_of_the_team_that_coordinates_{:02}_agents"
    report = report_of(*(accepted(1, seq, to=name.format(seq)) for seq in range(1, 30)))
    matrix = plots.as_svgs(report)["matrix"]
    assert matrix.count("database_migration_of_the_team_tha…") == 15
    # Columns have numbers, which rows show too.
    assert ">1</text>" in matrix and ">16</text>" in matrix and "  16</text>" in matrix
    assert ">dc</text>" in plots.as_svgs(report_of(accepted(1, 1)))["matrix"]


@pytest.mark.parametrize(
    ("share", "shown"), [(1, "100 %"), (0.999999, "99.999 %"), (0.5, "50 %"), (0, "0 %"), (0.98765, "98.765 %")]
)
def test_a_share_is_never_rounded_up_to_all(share: float, shown: str) -> None:
    assert words.percent(share) == shown


@pytest.mark.parametrize(
    ("span_s", "shown"),
    [(0.5, "0.5 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)
def test_spans_of_time_are_for_people(span_s: float, shown: str) -> None:
    assert words.seconds(span_s) == shown


# -- reading -----------------------------------------------------------------------------------------------------------


def test_every_journal_is_read_to_its_end() -> None:
    asked: list[dict[str, Any]] = []

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        after = question["after"]
        missing = {"missing": [{"node": "rushabdev", "held": 2, "reason": "away"}]} if "node" in question else {}
        return {
            "records": [{"seq": after + 1, "of": question.get("node")}],
            "more": after < 2,
            "after": after + 1,
            **missing,
        }

    missing: list[dict[str, Any]] = []
    status = {"peers": [{"node": "rushabdev", "copied": 3}, {"node": "new", "copied": 0}]}
    found = list(records_since(ask, status, 42, missing))
    assert [(one["of"], one["seq"]) for one in found] == [
        (None, 1), (None, 2), (None, 3), ("rushabdev", 1), ("rushabdev", 2), ("rushabdev", 3),
    ]  # fmt: skip
    assert all(question["since"] == 42 for question in asked)
    assert [one["node"] for one in missing] == ["rushabdev"]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--since", "yesterday"], "--since is 'yesterday'"),
        (["--since", "1h", "--period", "daily"], "give one of them"),
        (["--since", "1h", "--until", "2h"], "--since is not before --until"),
        (["--out", "report.pdf"], "must end in .html, .md, .json or .png"),
        (["--out", "/no/such/folder/report.md"], "its folder is not there"),
    ],
)
def test_a_wrong_command_line_is_told_before_anybody_is_asked(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", *arguments], State(connect=lambda **_: pytest.fail("the bus was joined"))) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and "Traceback" not in err
