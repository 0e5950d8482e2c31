"""Alerts, runbooks and the dashboard fit each other, the metrics that there are, and the commands that there are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from tests.support.alerts import DEPLOY, alert_sections, alerts, commands, expressions, names_in, panels
from tests.support.prometheus import PROMTOOL, needs_promtool
from trishula.cli.main import cli
from trishula_router.metrics.families import FAMILIES

NAMES = [rule["alert"] for rule in alerts()]
#: Of Prometheus itself, and of what prometheus_client tells of a process.
OTHERS = {"up", "process_resident_memory_bytes"}
TESTS = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text(encoding="utf-8"))["tests"]


def promtool(*args: str, at: Path) -> None:
    done = subprocess.run([PROMTOOL, *args], cwd=at, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_the_rules_right_and_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    copied = shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    (copied / "trishula.token").write_text("prometheus.secret\n")
    promtool("check", "config", "prometheus.yml", at=copied)
    promtool("test", "rules", "rules_test.yml", at=copied)


@needs_promtool
def test_what_the_dashboard_asks_can_be_asked(tmp_path: Path) -> None:
    rules = [{"record": f"asked:{number}", "expr": one} for number, one in enumerate(expressions())]
    for rule in rules:
        rule["record"] = rule["record"].replace(":", "_")
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    promtool("check", "rules", "asked.yml", at=tmp_path)


@pytest.mark.parametrize("alert", NAMES)
def test_each_alert_is_tested_both_ways(alert: str) -> None:
    outcomes = [
        bool(asked["exp_samples"])
        for test in TESTS
        for asked in test["promql_expr_test"]
        if f'alertname="{alert}"' in asked["expr"]
    ]
    assert sorted(outcomes) == [False, True]


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_each_alert_says_what_happened_and_where_to_read_on(rule: dict[str, dict[str, str]]) -> None:
    told = rule["annotations"]
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert told["description"].endswith(".")
    assert told["summary"] != told["description"]
    assert told["runbook_url"].endswith(f"/howto/runbooks.html#{str(rule['alert']).lower()}")


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert list(alert_sections()) == NAMES


@pytest.mark.parametrize("alert", NAMES)
def test_each_section_says_how_to_look_what_to_do_and_how_to_know_that_it_worked(alert: str) -> None:
    section = alert_sections()[alert]
    assert [part for part in ("How to look::", "What to do:", "It worked when:") if part not in section] == []
    assert "\n    trishula " in section


@pytest.mark.parametrize("expression", expressions())
def test_only_metrics_that_there_are_are_asked_for(expression: str) -> None:
    there = {series for family in FAMILIES.values() for series in family.series} | OTHERS
    asked = names_in(expression)
    assert asked
    assert asked - there == set()


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_each_command_of_the_runbooks_is_there_with_its_options(words: list[str]) -> None:
    command: click.Command = cli
    context = click.Context(cli)
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None and command.invoke_without_command:
            break
        assert found is not None, f"there is no {rest[0]}"
        command, rest = found, rest[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert asked - known - {"--help"} == set()


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_panels_are_told_apart_and_each_leads_to_a_page() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    shown = [panel for panel in panels() if panel["type"] != "row"]
    assert len(shown) > 20
    sections = {name.lower() for name in alert_sections()}
    for panel in shown:
        (link,) = panel["links"]
        page, _, section = link["url"].partition("#")
        assert page.endswith(("/howto/runbooks.html", "/reference/metrics.html"))
        assert not section or section in sections
        assert panel["datasource"]["uid"] == "trishula"


def test_a_strip_of_health_stands_first() -> None:
    first, *strip = panels()[:9]
    assert (first["type"], first["title"]) == ("row", "Health")
    assert {panel["type"] for panel in strip} == {"stat"}
    assert all(len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) > 1 for panel in strip)


def test_grafana_is_given_the_source_that_the_panels_name() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "trishula.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards" / "trishula.yml").read_text())["providers"]
    assert (source["uid"], source["type"]) == ("trishula", "prometheus")
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"
