"""The machine of a node: its configuration, port, files, disk, certificate, clock and limits, whether it runs or not.

:func:`check_machine` takes what was found (:class:`Machine`) and says what it means. Policy only: no I/O, no clock.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trishula.contract.units import show_bytes, show_duration
from trishula.doctor.agent_checks import CERTIFICATE_WARNS_S
from trishula.doctor.findings import Finding, fault, ok, skipped, warning

__all__ = ["Machine", "check_machine"]

#: Locks, shared memory and fsync are not what a store needs there: other machines can change it, and a cut network ends
#: the node.
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "afs", "lustre"})
_VOLATILE = frozenset({"tmpfs", "ramfs"})
#: What a store keeps back for acks, and then some.
_DISK_LEAST_BYTES = 256 * 1024 * 1024
_INODES_LEAST = 1000
#: Connections of agents, scripts and strangers, and a node's own files.
_FILES_LEAST = 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found on the machine; ``None``: it was not found out.

    Attributes:
        state_dir: the node's state directory.
        state_fault: why it can't be used.
        config: the configuration that was looked at.
        config_faults: what is wrong in it.
        runs_as: who holds the state directory, in words; ``None`` if nobody does.
        port: on which it listens.
        port_taken_by: the program that listens there while no node runs here; "another program" if its name is hidden.
        port_forbidden: whether this user may not listen there.
        is_answering: whether the port takes connections while a node runs.
        open_files: files of which others can read the secrets, each with its mode.
        closed_files: files that this user can't read and a node must.
        file_system: the type of the file system below the state directory.
        free_bytes, free_inodes: what the disk has left.
        wanted_bytes: how much further the store may grow by ``limits.store``.
        schema, newest_schema: the version of the store's file, and the newest one that this program knows.
        most_files: how many files a process may open.
        certificate: the file of the node's certificate.
        certificate_left_s: for how long it is valid.
        certificate_fault: why it can't be read.
        is_synchronised: whether something sets this machine's clock, as the kernel knows.
    """

    state_dir: Path
    state_fault: str | None = None
    config: Path | None = None
    config_faults: tuple[str, ...] | None = None
    runs_as: str | None = None
    port: int | None = None
    port_taken_by: str | None = None
    port_forbidden: bool = False
    is_answering: bool | None = None
    open_files: dict[Path, int] = field(default_factory=dict)
    closed_files: tuple[Path, ...] = ()
    file_system: str | None = None
    free_bytes: int | None = None
    free_inodes: int | None = None
    wanted_bytes: int | None = None
    schema: int | None = None
    newest_schema: int = 0
    most_files: int | None = None
    certificate: Path | None = None
    certificate_left_s: float | None = None
    certificate_fault: str | None = None
    is_synchronised: bool | None = None


def check_machine(machine: Machine) -> list[Finding]:
    """Everything about the machine that can be said without asking a node."""
    steps = (_running, _config, _state, _port, _files, _file_system, _disk, _schema, _limits, _certificate, _clock)
    return [finding for step in steps for finding in step(machine)]


def _running(machine: Machine) -> Iterator[Finding]:
    if machine.runs_as is not None:
        yield ok("node", f"a node runs on {machine.state_dir}: {machine.runs_as}")
    else:
        yield warning(
            "node",
            f"no node runs on {machine.state_dir}",
            f"trishula node start --state {shlex.quote(str(machine.state_dir))}, or systemctl start its unit",
        )


def _config(machine: Machine) -> Iterator[Finding]:
    if machine.config_faults is None:
        yield skipped("configuration", "no configuration was named, and no node has left one: --config FILE")
    elif machine.config_faults:
        for sentence in machine.config_faults:
            yield fault("configuration", f"{machine.config}: {sentence}", f"trishula node check {machine.config}")
    else:
        yield ok("configuration", f"{machine.config} is good")


def _state(machine: Machine) -> Iterator[Finding]:
    if machine.state_fault is not None:
        yield fault("state directory", machine.state_fault, "do what it says")


def _port(machine: Machine) -> Iterator[Finding]:
    if machine.port is None:
        return
    if machine.runs_as is not None:
        if machine.is_answering is False:
            yield fault(
                "port",
                f"a node runs, and its port {machine.port} takes no connection",
                "it starts, hangs or is frozen: look at node.log, and restart it if it stays so",
            )
        elif machine.is_answering:
            yield ok("port", f"the node's port {machine.port} takes connections")
    elif machine.port_taken_by is not None:
        yield fault(
            "port",
            f"the port {machine.port} is taken by {machine.port_taken_by}",
            "end that program, or give the node another port: --port, or transports[0].endpoint.port",
        )
    elif machine.port_forbidden:
        yield fault(
            "port",
            f"this user may not listen on port {machine.port}",
            "take a port from 1024 on and nginx before it, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE",
        )
    else:
        yield ok("port", f"the port {machine.port} is free")


def _files(machine: Machine) -> Iterator[Finding]:
    for path, mode in machine.open_files.items():
        yield fault(
            "permissions",
            f"{path} has mode {mode:04o}: others on this machine can read the secrets in it",
            f"chmod go-rwx {shlex.quote(str(path))}; if others could log in here, also make new tokens and keys",
        )
    for path in machine.closed_files:
        yield fault(
            "permissions",
            f"this user can't read {path}, and a node must",
            f"run the doctor and the node as the file's owner, or chown it: ls -l {shlex.quote(str(path))}",
        )
    if not machine.open_files and not machine.closed_files and machine.state_fault is None:
        yield ok("permissions", "keys, tokens and the store are their owner's alone")


def _file_system(machine: Machine) -> Iterator[Finding]:
    kind = machine.file_system
    if kind is None:
        yield skipped("file system", "this system doesn't tell of what kind it is")
    elif kind in _NETWORK:
        yield fault(
            "file system",
            f"the state directory is on a network file system ({kind}), where neither locks nor fsync can be trusted",
            "move it to a disk of this machine: stop the node, copy the directory, name it with --state",
        )
    elif kind in _VOLATILE:
        yield warning(
            "file system",
            f"the state directory is in memory ({kind}): a reboot loses every message that no peer has",
            "move it to a disk, such as /var/lib/trishula",
        )
    elif kind == "overlay":
        yield warning(
            "file system",
            "the state directory is in a container's own layer, and goes with the container",
            "mount a volume there (compose file: volumes)",
        )
    else:
        yield ok("file system", f"the state directory is on {kind}")


def _disk(machine: Machine) -> Iterator[Finding]:
    free, wanted = machine.free_bytes, machine.wanted_bytes
    if free is None:
        yield skipped("disk", "how much it has left is not known")
    elif free < _DISK_LEAST_BYTES:
        yield fault(
            "disk",
            f"the disk has {show_bytes(free)} left: sends are refused, or soon will be",
            "delete what isn't the node's (never node.ballast), or give it a larger disk; runbook: A store is full",
        )
    elif wanted is not None and free < wanted:
        yield warning(
            "disk",
            f"the disk has {show_bytes(free)} left, and by limits.store the store may grow by {show_bytes(wanted)}",
            "make room, or lower limits.store so that senders are told in time",
        )
    else:
        yield ok("disk", f"the disk has {show_bytes(free)} left")
    if machine.free_inodes is not None and machine.free_inodes < _INODES_LEAST:
        yield fault(
            "inodes",
            f"the disk has {machine.free_inodes} inodes left: no file can be made, however many bytes are free",
            "find the directory with the many small files, and delete them: du --inodes -x / | sort -n | tail",
        )


def _schema(machine: Machine) -> Iterator[Finding]:
    schema, newest = machine.schema, machine.newest_schema
    if schema is None:
        yield skipped("schema", "there is no store yet, or it can't be read")
    elif schema > newest:
        yield fault(
            "schema",
            f"the store has schema version {schema}, and this program knows versions up to {newest}",
            "start it with the TRISHULA that wrote it, or a newer one: pip install --upgrade trishula-bus",
        )
    elif schema < newest:
        yield warning(
            "schema",
            f"the store has schema version {schema}, and this program brings it to {newest} at its next start",
            "a copy of the file is kept beside it; to go back, put that in place with: trishula node restore FILE",
        )
    else:
        yield ok("schema", f"the store has the newest schema, version {schema}")


def _limits(machine: Machine) -> Iterator[Finding]:
    most = machine.most_files
    if most is None:
        yield skipped("open files", "how many files a process may open is not known")
    elif most < _FILES_LEAST:
        yield warning(
            "open files",
            f"a process may open {most} files, and each connection takes one: {_FILES_LEAST} are little already",
            "raise the hard limit: LimitNOFILE=65536 in the unit, or ulimit -Hn",
        )
    else:
        yield ok("open files", f"a process may open {most} files")


def _certificate(machine: Machine) -> Iterator[Finding]:
    if machine.certificate is None:
        return
    left_s = machine.certificate_left_s
    if machine.certificate_fault is not None:
        yield fault(
            "certificate",
            f"{machine.certificate} can't be used: {machine.certificate_fault}",
            "name the right file in endpoint.tls.certificate, or make it readable for the node's user",
        )
    elif left_s is None:
        yield skipped("certificate", f"how long {machine.certificate} is valid is not known")
    elif left_s <= 0:
        yield fault(
            "certificate",
            f"{machine.certificate} is over since {show_duration(-left_s)}: no client that verifies gets in",
            "renew it (certbot renew); the node takes it up by itself, nginx by nginx -s reload",
        )
    elif left_s < CERTIFICATE_WARNS_S:
        yield warning(
            "certificate",
            f"{machine.certificate} is over in {show_duration(left_s)}",
            "renew it; that it isn't renewed by itself is the fault to look for (certbot renew)",
        )
    else:
        yield ok("certificate", f"{machine.certificate} is valid for {show_duration(left_s)}")


def _clock(machine: Machine) -> Iterator[Finding]:
    if machine.is_synchronised is None:
        yield skipped("NTP", "this system doesn't tell whether something sets its clock")
    elif machine.is_synchronised:
        yield ok("NTP", "this machine's clock is synchronised")
    else:
        yield warning(
            "NTP",
            "nothing synchronises this machine's clock, as far as the kernel knows",
            "timedatectl set-ntp true, or install chrony (in a container the host's clock counts)",
        )
