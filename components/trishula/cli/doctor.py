"""``trishula doctor``: find out what is wrong with this machine's node, or with an agent's way to one."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trishula.cli.doctor_bundle import write_bundle
from trishula.cli.doctor_contact import try_contact
from trishula.cli.state import State, json_option
from trishula.cli.words import plain
from trishula.doctor.agent_checks import check_contact
from trishula.doctor.examination import PARTS, Asked, Examined
from trishula.doctor.findings import Finding, Level, exit_code, fault, skipped
from trishula.errors import TokenMissing
from trishula.settings import Settings, SettingsInvalid, load, parse_urls

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trishula.sync import Bus

__all__ = ["doctor"]

_ORDER = (Level.FAULT, Level.WARNING, Level.OK, Level.SKIPPED)


@click.command()
@click.option("--state", "state_dir", type=click.Path(path_type=Path), help="A node's state directory on this machine.")
@click.option(
    "--config", "configs", multiple=True, type=click.Path(path_type=Path),
    help="A node's configuration; give those of all linked nodes, and they are compared.",
)  # fmt: skip
@click.option("--bundle", type=click.Path(path_type=Path), help="Write a support bundle without secrets too.")
@json_option
@click.pass_obj
@click.pass_context
def doctor(
    ctx: click.Context, state: State, state_dir: Path | None, configs: tuple[Path, ...], bundle: Path | None
) -> None:
    """Find out what is wrong on this machine, and say what to do.

    Of a node (its state directory, or --state, --config) the files, port, disk, certificate and clock are looked at,
    and with an operator's token or key what it tells of itself and its peers. Of an agent's way to its nodes
    (TRISHULA_URL or a profile) each step is tried: name, proxy, port, TLS, WebSocket, clock, token or key. It changes
    nothing.

    It ends with 0 if nothing is wrong, with 1 if there are warnings, and with 2 if there are faults. The bundle has
    configurations, findings, status and the end of the log; tokens, keys, passwords and payloads are not in it. Look
    through it before you give it away all the same.

    \b
    Examples:
      trishula doctor
      trishula doctor --state /var/lib/trishula --bundle support.tar.gz
      trishula doctor --config primary.json --config failover.json --json
    """
    findings: list[Finding] = []
    settings, urls = _settings(state, findings)
    contacts = [try_contact(url, settings, state) for url in urls]
    for contact in contacts:
        findings += check_contact(contact)
    joined = tuple(contact.url for contact in contacts if contact.agent is not None and contact.join_error is None)

    @contextmanager
    def bus(url: str) -> Iterator[Bus]:
        with State(url, state.profile, connect=state.connect).bus(looks_only=True) as opened:
            yield opened

    asked = Asked(state_dir, configs, joined, settings is not None, bus)
    examined = [_examine(point, asked, findings) for point in importlib.metadata.entry_points(group=PARTS)]
    for part in examined:
        findings += part.findings
    findings.sort(key=lambda finding: _ORDER.index(finding.level))
    if bundle is not None:
        write_bundle(bundle, findings, contacts, settings, examined)
    state.show([finding.as_map() for finding in findings], lambda: _shown(findings))
    state.note(_summary(findings), style="none")
    if bundle is not None:
        state.note(f"the bundle is in {bundle}; look through it before you give it away", style="none")
    ctx.exit(exit_code(findings))


def _settings(state: State, findings: list[Finding]) -> tuple[Settings | None, tuple[str, ...]]:
    """How an agent on this machine joins; without settings, the URLs alone if any are named."""
    try:
        settings = load(url=state.url, profile=state.profile)
        return settings, settings.urls
    except TokenMissing as error:
        named, source = (state.url, "--url") if state.url else (os.environ.get("TRISHULA_URL"), "TRISHULA_URL")
        if not named:
            findings.append(
                skipped("agent", "there is neither a token, a key nor a URL here, so no way to a node was tried")
            )
            return None, ()
        findings.append(skipped("token", error.sentence))
        try:
            return None, parse_urls(named, source)
        except SettingsInvalid as fault_:
            wrong = fault_
    except SettingsInvalid as error:
        wrong = error
    findings.append(fault("settings", wrong.sentence, "correct it, and run the doctor again"))
    return None, ()


def _examine(point: importlib.metadata.EntryPoint, asked: Asked, findings: list[Finding]) -> Examined:
    try:
        examine = point.load()
    except ImportError as error:
        findings.append(skipped(point.name, f"this part of the doctor can't be loaded: {error}"))
        return Examined()
    examined: Examined = examine(asked)
    return examined


def _shown(findings: list[Finding]) -> RenderableType:
    from rich.text import Text

    from trishula.cli.tables import Fields

    def value(finding: Finding) -> Text:
        text = Text(f"{plain(finding.check)}: {plain(finding.sentence)}")
        return text.append(f"\n→ {plain(finding.to_do)}", style="bold") if finding.to_do else text

    return Fields((str(finding.level), value(finding)) for finding in findings)


def _summary(findings: list[Finding]) -> str:
    counts = [(sum(finding.level is level for finding in findings), level) for level in _ORDER]
    words = {Level.FAULT: "fault", Level.WARNING: "warning", Level.OK: "ok", Level.SKIPPED: "skipped"}
    return ", ".join(
        f"{count} {words[level]}{'s' if count != 1 and level in (Level.FAULT, Level.WARNING) else ''}"
        for count, level in counts
    )
