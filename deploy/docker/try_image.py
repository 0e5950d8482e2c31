"""Carry out the Dockerfile without Docker: each step in a chroot on a bare Debian, then the image's command.

::

    debootstrap --variant=minbase bookworm /tmp/base
    python3 deploy/docker/try_image.py /tmp/base /tmp/image        # as root

A base image can't be fetched where no registry can be reached; what debootstrap makes is nearly Debian's own. ``RUN``
happens in the stage's directory by ``chroot``, ``COPY`` takes what ``Dockerfile.dockerignore`` lets through, ``ENV``,
``USER``, ``WORKDIR`` and ``ARG`` hold as they would. How this machine reaches its mirrors (``pip.conf``, ``PIP_CERT``)
holds in the stages too. Not tried by this: layers, what is mounted from the host, the networks of containers.

At the end the node of the image is started with the shipped configuration as docker-compose.yml has it (a read-only
root, no capabilities, no new privileges), asked by the image's own health check, and stopped by the image's signal. It
ends with 0 if all that went well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60.0
_MIRRORS_CA = "etc/mirrors-ca.crt"
#: ROOT WORDS…: run the words there, in a view of the file system of their own.
_READ_ONLY = """
root=$1; shift
mount --bind "$root" "$root"
mount --bind "$root/var/lib/trishula" "$root/var/lib/trishula"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


class Image:
    """The stages of a build, each a directory.

    Args:
        base: what debootstrap made; it stays as it is.
        directory: gets a folder for each stage.
    """

    def __init__(self, base: Path, directory: Path) -> None:
        self._base = base
        self._directory = directory
        self._stages: dict[str, Path] = {}
        self._arguments: dict[str, str] = {}
        self.here = base
        self.environment: dict[str, str] = {}
        self.user = "0:0"
        self.workdir = "/"
        self.said: dict[str, str] = {}

    def carry_out(self, instruction: str, text: str) -> None:
        """Do one instruction, whose arguments are on one line."""
        print(f"--- {instruction} {text[:140]}", flush=True)
        match instruction:
            case "ARG":
                name, _, default = text.partition("=")
                self._arguments.setdefault(name, default)
            case "FROM":
                self._begin(text)
            case "RUN":
                self.run(["/bin/bash", "-o", "pipefail", "-ec", text], env=self._arguments | self.environment)
            case "COPY":
                self._copy(text.split())
            case "ENV":
                self.environment |= dict(re.findall(r'(\w+)="?([^"\s]+)"?', text))
            case "USER":
                self.user = text
            case "WORKDIR":
                self.workdir = text
            case _:
                self.said[instruction] = text

    def run(self, command: list[str], env: dict[str, str] | None = None) -> int:
        """Run it in the stage, as root."""
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(
            ["/usr/sbin/chroot", str(self.here), *command], env=path | (env or {}), check=True
        ).returncode

    def as_user(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start it as the image's user, in its environment and directory; it can write to the volume and to /tmp."""
        uid, _, gid = self.user.partition(":")
        less = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        inside = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *less, "env", "-i", "-C", self.workdir]
        inside += [f"{name}={value}" for name, value in self.environment.items()]
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        words = ["unshare", "--mount", "sh", "-ec", _READ_ONLY, "sh", str(self.here), *inside, *command]
        return subprocess.Popen(words, env=path)

    def _begin(self, text: str) -> None:
        name = text.partition(" AS ")[2] or "last"
        self.here = self._stages[name] = self._directory / name
        subprocess.run(["cp", "-a", str(self._base), str(self.here)], check=True)
        for file in ("etc/resolv.conf", "etc/pip.conf"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(Path("/", file), self.here / file)
        if "PIP_CERT" in os.environ:
            shutil.copy(os.environ["PIP_CERT"], self.here / _MIRRORS_CA)
            self._arguments["PIP_CERT"] = f"/{_MIRRORS_CA}"
        self.environment = {}

    def _copy(self, words: list[str]) -> None:
        source = ROOT
        if words[0].startswith("--from="):
            source = self._stages[words.pop(0).removeprefix("--from=")]
        *names, target = words
        for name in names:
            found = source / name.removeprefix("/")
            if source == ROOT and not any(fnmatch(name, pattern) for pattern in lets_through()):
                raise SystemExit(f"{name} is not let through by Dockerfile.dockerignore")
            to = self.here / target.removeprefix("/")
            if target.endswith("/"):
                to.mkdir(parents=True, exist_ok=True)
                to /= found.name
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, to)


def lets_through() -> list[str]:
    """The patterns of what may be copied out of the checkout."""
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def instructions() -> Iterator[tuple[str, str]]:
    """Each instruction and its arguments, on one line."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, arguments = line.partition(" ")
            yield instruction, " ".join(arguments.split())


def try_to_run(image: Image) -> bool:
    """Start what the image starts, ask the health check, stop; whether all went well."""
    shutil.copy(ROOT / "config" / "single.json", image.here / "etc/trishula/node.json")
    entry = [*json.loads(image.said["ENTRYPOINT"]), *json.loads(image.said["CMD"])]
    check = json.loads(image.said["HEALTHCHECK"].partition("CMD ")[2])
    print(f"--- as {image.user}: {' '.join(entry)}", flush=True)
    node = image.as_user(entry)
    until_s, healthy = time.monotonic() + READY_WITHIN_S, False
    while not healthy and node.poll() is None and time.monotonic() < until_s:
        healthy = image.as_user(check).wait() == 0
        time.sleep(0.5)
    node.send_signal(getattr(signal, image.said["STOPSIGNAL"]))
    code = node.wait(30)
    ill = image.as_user(check).wait() != 0
    print(f"--- healthy while it ran: {healthy}; ended with {code}; unhealthy after that: {ill}")
    return healthy and code == 0 and ill


def main() -> int:
    """Build and try; the exit code."""
    if len(sys.argv) != 3 or os.geteuid() != 0:
        print("usage, as root: try_image.py BASE DIRECTORY", file=sys.stderr)
        return 2
    image = Image(Path(sys.argv[1]), Path(sys.argv[2]))
    for instruction, arguments in instructions():
        image.carry_out(instruction, arguments)
    size = subprocess.run(["du", "-sm", str(image.here)], capture_output=True, text=True, check=True).stdout.split()[0]
    print(f"--- the last stage takes {size} MB on disk")
    return 0 if try_to_run(image) else 1


if __name__ == "__main__":
    sys.exit(main())
