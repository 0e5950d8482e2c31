"""``trishula init``: the working directory of a bus, with all that each of its machines and agents needs.

The command makes what is missing and changes nothing that is there: no key, no token, no file that somebody edited. The
one exception is asked for by name: ``--renew`` gives the nodes new certificates, with the keys that they have.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.errors import FolderUnusable
from trishula.exit_codes import Exit
from trishula_router.agents.file import KEPT_FILE, AgentEntry, AgentsFileError, read_agents, update_agents
from trishula_router.agents.text import ANYBODY
from trishula_router.agents.tokens import TokenEntry, digest_of, new_token
from trishula_router.cluster.authority import Pair, issue, new_authority
from trishula_router.cluster.file_keys import add_file_keys
from trishula_router.cluster.next_steps import Step, readme, steps
from trishula_router.cluster.plan import (
    Asked,
    Machine,
    Plan,
    PlanFault,
    parse_agents,
    parse_machine,
    parse_plan,
    plan_of,
    refuse_changes,
)
from trishula_router.cluster.working_files import (
    WorkingFile,
    agent_files,
    certificate_hosts,
    machine_files,
    node_configs,
    place_of,
    shares_agents,
)
from trishula_router.commands.state_dir import CommandFailed, agents_file_of, require_crossbar, speaks_json
from trishula_router.settings.node_key import KeyUnusable, public_key_of, read_public_key
from trishula_router.settings.proxy_socket import MOST_PROXY_WORKERS

__all__ = ["init"]

_DEFAULT_DIR = "trishula-bus"
_PLAN_FILE = "bus.json"
#: The agents that ship with TRISHULA: `trishula agent run dc` works at once.
_DEFAULT_AGENTS = "dc,agni,rushabdev"


@click.command()
@click.argument("words", metavar="[DIR]", nargs=-1)
@click.option(
    "--cluster",
    "first",
    metavar="NODE=HOST[:PORT]...",
    multiple=True,
    help="The nodes and their machines, in the agents' order of preference (default: one node, on this machine).",
)
@click.option(
    "--agents",
    metavar="NAME,NAME…",
    help=f"Who may join, with commas between (default: {_DEFAULT_AGENTS}); in a directory that is there, further ones.",
)
@click.option("--operator", metavar="NAME", help="The agent that may ask for everything (default: operator).")
@click.option(
    "--tls",
    type=click.Choice(["own-ca", "off"]),
    help="Whether nodes speak TLS, with certificates of an authority that is made for this bus (default: own-ca for a "
    "cluster, off for one node on this machine).",
)
@click.option("--behind-nginx", is_flag=True, help="Agents come in at nginx, and not at the nodes' own ports.")
@click.option(
    "--http-port", type=click.IntRange(1, 65534), help="nginx's port for http (default: 80; 8080 on loopback)."
)
@click.option(
    "--https-port", type=click.IntRange(1, 65534), help="nginx's port for https (default: 443; 8443 on loopback)."
)
@click.option(
    "--proxies",
    type=click.IntRange(0, MOST_PROXY_WORKERS),
    help="How many processes of each node do the work of TLS, on cores of their own (default: 0). On one or two cores "
    "they cost more than they give.",
)
@click.option("--renew", is_flag=True, help="Give the nodes of a directory that is there new certificates.")
@json_option
@click.pass_context
def init(
    ctx: click.Context,
    words: tuple[str, ...],
    first: tuple[str, ...],
    agents: str | None,
    operator: str | None,
    tls: str | None,
    behind_nginx: bool,
    http_port: int | None,
    https_port: int | None,
    proxies: int | None,
    renew: bool,
) -> None:
    """Make a directory with all that a bus needs: one node, or several that are linked.

    DIR (trishula-bus if it isn't named) gets a directory for each node, to be copied to its machine: configuration,
    keys, file of agents, certificates, nginx's site, systemd's units. Each agent gets one with its profile, its token,
    and files/keys.json, by which it knows the others' signatures on files. README.txt there has the next commands.

    What is there already stays as it is (files/keys.json gets what is new), so that the command can run again: to add
    agents, with --agents, or to make anew what was deleted, but for keys. With --json: an object with directory, made,
    kept and steps.

    \b
    Examples:
      trishula init
      trishula init bus --cluster agni=10.0.0.5 rushabdev=10.0.0.6 --agents dc,agni
      trishula init bus --agents scout
      trishula init bus --renew
    """
    require_crossbar()
    named = [word for word in words if "=" not in word]
    if len(named) > 1:
        raise CommandFailed(f"there must be one directory, and {' and '.join(map(repr, named))} are two", Exit.USAGE)
    directory = Path(named[0] if named else _DEFAULT_DIR)
    try:
        machines = [parse_machine(text) for text in (*first, *(word for word in words if "=" in word))]
        known = _known_plan(directory)
        if known is None:
            if renew:
                raise PlanFault(f"--renew needs a directory that trishula init has made, and {directory} is none")
            plan = plan_of(
                machines,
                parse_agents(_DEFAULT_AGENTS if agents is None else agents, operator or "operator"),
                operator or "operator",
                tls=bool(machines) if tls is None else tls == "own-ca",
                behind_nginx=behind_nginx,
                http_port=http_port,
                https_port=https_port,
                proxy_workers=proxies or 0,
            )
        else:
            asked = Asked(operator, tls, behind_nginx, http_port, https_port, proxies)
            refuse_changes(directory, known, machines, asked)
            more = parse_agents(agents or "", known.operator)
            plan = dataclasses.replace(known, agents=tuple(dict.fromkeys((*known.agents, *more))))
    except PlanFault as error:
        raise CommandFailed(str(error), Exit.USAGE) from None
    work = _Work(directory, plan, is_new=known is None)
    try:
        work.run(renew=renew)
    except OSError as error:
        raise CommandFailed(f"{error.filename or directory} can't be written: {error.strerror}", Exit.CONFIG) from None
    except (AgentsFileError, FolderUnusable, KeyUnusable) as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    _tell(ctx, work, known, renew=renew)


def _known_plan(directory: Path) -> Plan | None:
    """What was made in a directory before; ``None`` if it is empty, or not there."""
    file = directory / _PLAN_FILE
    try:
        if file.exists():
            return parse_plan(file.read_text(encoding="utf-8"))
        if directory.exists() and any(directory.iterdir()):
            raise CommandFailed(
                f"{directory} is not empty, and has no {_PLAN_FILE} of an earlier trishula init: name a directory that "
                "isn't there yet",
                Exit.CONFIG,
            )
    except PlanFault as error:
        raise CommandFailed(f"{file} can't be used: {error}", Exit.CONFIG) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandFailed(f"{directory} can't be used: {why}", Exit.CONFIG) from None
    return None


class _Work:
    """One run, and what it made.

    Attributes:
        made: the paths of new files.
        kept: of those that were there.
        added: agents that are new in a directory that was there.
        told_keys: agents of a directory that was there who know further keys of files now.
    """

    def __init__(self, directory: Path, plan: Plan, *, is_new: bool) -> None:
        self.directory, self.plan, self._is_new = directory, plan, is_new
        self.made: list[str] = []
        self.kept: list[str] = []
        self.added: list[str] = []
        self.told_keys: list[str] = []

    def run(self, *, renew: bool) -> None:
        """Make what is missing. The plan comes last: a directory that has it is whole."""
        plan, now = self.plan, datetime.fromtimestamp(time.time(), UTC)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = {machine.node: self._node_key(machine) for machine in plan.machines}
        authority = self._authority(now) if plan.tls else None
        ca = "" if authority is None else authority.certificate
        configs = node_configs(plan, keys)
        program = Path(shutil.which("trishula") or Path(sys.executable).with_name("trishula"))
        for machine in plan.machines:
            pair = None if authority is None else self._certificate(machine, authority, now, renew=renew)
            place = place_of(plan, machine, self.directory.absolute(), program)
            for file in machine_files(plan, machine, configs[machine.node], place, pair, ca):
                self._write(file)
        for agent in (*plan.agents, plan.operator):
            self._agent(agent, ca)
        for path, is_changed in add_file_keys(self.directory, (*plan.agents, plan.operator)).items():
            (self.made if is_changed else self.kept).append(path)
            agent = Path(path).parts[1]
            if is_changed and not self._is_new and agent not in self.added:
                self.told_keys.append(agent)
        self._write(WorkingFile("README.txt", readme(plan, self.directory)))
        if self._is_new or self.added:
            _write_file(self.directory / _PLAN_FILE, plan.render(), 0o644)

    def _state(self, machine: Machine) -> Path:
        return self.directory / "nodes" / machine.node / "state"

    def _node_key(self, machine: Machine) -> str:
        crossbar_dir = self._state(machine) / "crossbar"
        known = read_public_key(crossbar_dir)
        if known is not None:
            self.kept.append(f"nodes/{machine.node}/state/crossbar/key.priv")
            return known
        self._refuse_another(crossbar_dir / "key.pub", "key", machine)
        self._state(machine).mkdir(mode=0o700, parents=True, exist_ok=True)
        key = public_key_of(crossbar_dir)
        self.made.append(f"nodes/{machine.node}/state/crossbar/key.priv")
        return key

    def _refuse_another(self, file: Path, what: str, machine: Machine) -> None:
        if not self._is_new:
            raise CommandFailed(
                f"{file} is gone, and another {what} of {machine.node} would not fit what is on the machines: put it "
                "back from there, or make another directory",
                Exit.CONFIG,
            )

    def _authority(self, now: datetime) -> Pair | None:
        certificate, key = self.directory / "ca" / "ca.crt", self.directory / "ca" / "ca.key"
        if certificate.exists():
            # The key may be kept elsewhere: it is needed only where something is issued.
            pair = Pair(certificate.read_text(), key.read_text() if key.exists() else "")
        else:
            self._refuse_another(certificate, "authority", self.plan.machines[0])
            names = " and ".join(machine.node for machine in self.plan.machines)
            pair = new_authority(f"TRISHULA authority of {names}"[:64], now)
        self._write(WorkingFile("ca/ca.crt", pair.certificate))
        if pair.key:
            self._write(WorkingFile("ca/ca.key", pair.key, is_secret=True))
        return pair

    def _certificate(self, machine: Machine, authority: Pair, now: datetime, *, renew: bool) -> Pair:
        directory = self.directory / "nodes" / machine.node / "tls"
        certificate, key = directory / "node.crt", directory / "node.key"
        if certificate.exists() and key.exists() and not renew:
            return Pair(certificate.read_text(), key.read_text())
        if not key.exists():
            self._refuse_another(key, "TLS key", machine)
        if not authority.key:
            raise CommandFailed(
                f"{self.directory / 'ca' / 'ca.key'} is gone, and a certificate for {machine.node} is to be issued: "
                "put it back for that",
                Exit.CONFIG,
            )
        try:
            own = key.read_text() if key.exists() else None
            pair = issue(authority, machine.node, certificate_hosts(machine), now, key=own)
        except ValueError as error:
            raise CommandFailed(f"no certificate for {machine.node} can be issued: {error}", Exit.CONFIG) from None
        if certificate.exists():
            _write_file(certificate, pair.certificate, 0o644)
            self.made.append(str(certificate.relative_to(self.directory)))
        return pair

    def _agent(self, agent: str, ca: str) -> None:
        """Its files, and its record at each node; one that is known and whose token is gone has it elsewhere."""
        file = self.directory / "agents" / agent / f"{agent}.token"
        records = {machine: read_agents(agents_file_of(self._state(machine))) for machine in self.plan.machines}
        lacking = [machine for machine, known in records.items() if agent not in known]
        if not lacking and not file.exists():
            return
        token = file.read_text().strip() if file.exists() else new_token(agent, secrets.token_urlsafe)
        now_s = time.time()
        record = AgentEntry(
            serve=(ANYBODY,),
            operator=agent == self.plan.operator,
            tokens=(TokenEntry(digest_of(token), now_s, None, None),),
        )
        # One that another node knows keeps what is known of it there.
        record = next((known[agent] for known in records.values() if agent in known), record)
        for one in agent_files(self.plan, agent, token, ca):
            self._write(one)
        for state in map(self._state, lacking):
            with update_agents(agents_file_of(state), state / KEPT_FILE) as agents:
                agents[agent] = record
        if lacking and not self._is_new:
            self.added.append(agent)

    def _write(self, file: WorkingFile) -> None:
        path = self.directory / file.path
        if path.exists():
            if file.path not in self.made:
                self.kept.append(file.path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, file.text, 0o600 if file.is_secret else 0o644)
        self.made.append(file.path)


def _write_file(path: Path, text: str, mode: int) -> None:
    """A file, whole or not at all, whose mode is its own from the first byte on."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _tell(ctx: click.Context, work: _Work, known: Plan | None, *, renew: bool) -> None:
    plan, directory = work.plan, work.directory
    then = steps(plan, directory) if known is None else _steps_after(work, renew=renew)
    if speaks_json(ctx):
        told = {"directory": str(directory), "made": work.made, "kept": work.kept}
        click.echo(json.dumps({**told, "steps": [dataclasses.asdict(step) for step in then]}))
        return
    if known is None:
        click.echo(f"Made {directory}, {len(work.made)} files; keys and tokens are yours alone (0600):")
        for machine in plan.machines:
            click.echo(f"  node {machine.node} on {machine.shown_host}:{machine.port}")
        for agent in plan.agents:
            click.echo(f"  agent {agent}")
        click.echo(f"  operator {plan.operator}")
        click.echo("  TLS by the bus's own authority" if plan.tls else "  no TLS")
    else:
        click.echo(f"{directory} is there: {len(work.kept)} files stay as they are.")
        for path in work.made:
            click.echo(f"  made {path}")
    for step in then:
        click.echo(f"\n{step.title}")
        for command in step.commands:
            click.echo(f"  {command}")
    click.echo(f"\nServices, other machines, further agents: {directory / 'README.txt'}")


def _steps_after(work: _Work, *, renew: bool) -> list[Step]:
    """What is to be done with what a further run made."""
    found = []
    nodes = shlex.quote(str(work.directory / "nodes"))
    for what, path, is_made, instead in (
        ("who may join", "state/agents.json", bool(work.added), ", in place of what trishula token made there"),
        ("its new certificate", "tls/node.crt", renew, ""),
    ):
        is_told = path.endswith("agents.json") and shares_agents(work.directory, work.plan)
        if is_made and not work.plan.is_local:
            found += [
                Step(
                    f"To {machine.node}, {what}{instead} (change the path, if it runs as a service):",
                    (f"scp -p {nodes}/{machine.node}/{path} {machine.shown_host}:trishula/{path}",),
                )
                for machine in work.plan.machines[: 1 if is_told else None]
            ]
        elif is_made:
            found.append(Step(f"The nodes notice by themselves {what}.", ()))
    if work.told_keys and not work.plan.is_local:
        agents = shlex.quote(str(work.directory / "agents"))
        found.append(
            Step(
                "To the machines of these agents, if they have a folder for files, whose files count:",
                tuple(f"scp -p {agents}/{one}/files/keys.json MACHINE:trishula-{one}/files/" for one in work.told_keys),
            )
        )
    return found
