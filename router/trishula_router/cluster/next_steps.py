"""What a person does with a working directory: the next commands for each machine, for the terminal and its README."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from trishula_router.cluster.plan import Machine, Plan

__all__ = ["Step", "readme", "steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """Commands that belong together.

    Attributes:
        title: where, and what for.
        commands: one a line, to be copied as they are.
    """

    title: str
    commands: tuple[str, ...]


def steps(plan: Plan, directory: Path) -> list[Step]:
    """The shortest way to a bus that runs.

    Args:
        plan: of the bus.
        directory: the working directory, as the person named it.
    """
    found = [_start(plan, machine, directory) for machine in plan.machines]
    if plan.behind_nginx:
        found += [_nginx(plan, machine, directory) for machine in plan.machines]
    agents = shlex.quote(str(directory / "agents"))
    operator = f"TRISHULA_PROFILE={agents}/{plan.operator}/{plan.operator}.toml"
    found.append(Step("Then see who is there, as the operator:", (f"{operator} trishula agents",)))
    if plan.agents:
        agent = plan.agents[0]
        profile = f"TRISHULA_PROFILE={agents}/{agent}/{agent}.toml"
        command = f"{profile} trishula send {plan.agents[-1]} --text hello"
        found.append(Step(f"And speak as {agent}:", (command,)))
    return found


def _start(plan: Plan, machine: Machine, directory: Path) -> Step:
    own = shlex.quote(str(directory / "nodes" / machine.node))
    if plan.is_local:
        return Step(
            f"The node {machine.node}, in a terminal of its own:", (f"trishula node start --config {own}/node.json",)
        )
    return Step(
        f"The node {machine.node}, on {machine.host}:",
        (
            f"scp -rp {own} {machine.shown_host}:trishula",
            f"ssh -t {machine.host} trishula node start --config trishula/node.json",
        ),
    )


def _nginx(plan: Plan, machine: Machine, directory: Path) -> Step:
    if plan.is_local:
        own = shlex.quote(str(directory.absolute() / "nodes" / machine.node / "nginx"))
        return Step(f"nginx before {machine.node}:", (f"nginx -e error.log -p {own} -c nginx.conf",))
    # Where the site names them, which is where a node has them as a service.
    certificates = ("mkdir -p /etc/trishula && cp -r trishula/tls /etc/trishula/",) if plan.tls else ()
    return Step(
        f"nginx before {machine.node}, as root on {machine.host}:",
        (*certificates, "cp trishula/nginx/trishula.conf /etc/nginx/conf.d/", "nginx -t && nginx -s reload"),
    )


def readme(plan: Plan, directory: Path) -> str:
    """The text of ``README.txt``."""
    name = shlex.quote(directory.name or ".")
    nodes = ", ".join(f"{machine.node} ({machine.host})" for machine in plan.machines)
    parts = [
        f"This is the bus of {nodes}, made by: trishula init",
        _CONTENTS,
        "To run it, beside this directory:",
        *(_shown(step) for step in steps(plan, Path(directory.name))),
    ]
    parts += [
        _AGENTS.format(name=name),
        *([] if plan.is_local else [_service(plan)]),
        _LATER.format(name=name, whose=_whose(plan)),
    ]
    if plan.tls:
        parts.append(_TLS.format(name=name))
    return "\n\n".join(parts) + "\n"


def _whose(plan: Plan) -> str:
    return "one node, which\ntells the others" if len(plan.machines) > 1 else "the node, which\nnotices by itself"


def _shown(step: Step) -> str:
    return "\n".join([step.title, *(f"    {command}" for command in step.commands)])


def _service(plan: Plan) -> str:
    copied, owned = ["trishula/node.json"], ["/var/lib/trishula"]
    if plan.tls:
        copied.append("trishula/tls")
        # Not all of /etc/trishula: the agents' profiles there are another user's.
        owned.insert(0, "/etc/trishula/tls")
    return _SERVICE.format(copied=" ".join(copied), owned=" ".join(owned))


_CONTENTS = """\
nodes/NODE    all that the machine of that node needs: configuration, keys, file of agents, TLS, nginx, systemd
agents/AGENT  all that an agent needs: its profile (AGENT.toml), its token, whom it trusts, whose
              files count (files/keys.json)
ca/           the certificate authority of this bus, if it has TLS. Its key belongs on no server
bus.json      what was asked for; trishula init reads it when it is run again

There are private keys and tokens here. Once they are where they belong, keep this directory where nobody else reads."""

_AGENTS = """\
An agent on another machine needs its own directory and nothing else:
    scp -rp {name}/agents/AGENT MACHINE:trishula-AGENT
    TRISHULA_PROFILE=trishula-AGENT/AGENT.toml trishula agent run ./my_agent.py"""

_SERVICE = """\
As a service, with what deploy/install.sh has installed, on each machine as root:
    mkdir -p /etc/trishula /var/lib/trishula
    cp -r {copied} /etc/trishula/
    cp -r trishula/state/. /var/lib/trishula/
    chown -R trishula: {owned} && chmod 700 /var/lib/trishula
    cp trishula/systemd/trishula-node.service /etc/systemd/system/
    systemctl daemon-reload && systemctl enable --now trishula-node"""

_LATER = """\
A further agent:
    trishula init {name} --agents NAME
and copy nodes/NODE/state/agents.json into the state directory of {whose}.
Tokens that were made at the nodes are not in that file, and end with it: where
there are such, make the agent at a node instead: trishula token new NAME
Every agent here may announce any capability; to restrict one:
    trishula token grant NAME --no-serve "*" --serve CAPABILITY"""

_TLS = """\
Nodes' certificates are good for 825 days. New ones, with the same keys:
    trishula init {name} --renew
and copy nodes/NODE/tls/node.crt to its machine: a node takes it up by itself, nginx with nginx -s reload."""
