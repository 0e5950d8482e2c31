"""The image and the compose file, as far as they can be judged without Docker: by their text and by the specification.

``tests/support/compose_spec`` holds the schema of the Compose Specification, as its repository had it in June 2026.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from trishula_router.templates import SAMPLE

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SCHEMA = json.loads((ROOT / "tests" / "support" / "compose_spec" / "compose-spec.json").read_text(encoding="utf-8"))


# -- the image ---------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """(instruction, its arguments) of the Dockerfile, each on one line, without comments."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole.splitlines() if line.strip()]


def last(name: str) -> str:
    return [arguments for instruction, arguments in instructions() if instruction == name][-1]


def test_the_image_runs_as_nobody_of_note_and_says_how_it_is() -> None:
    uid, _, gid = last("USER").partition(":")
    assert int(uid) >= 10_000 and int(gid) >= 10_000
    assert last("STOPSIGNAL") == "SIGTERM"
    assert "healthy.py" in last("HEALTHCHECK")
    assert json.loads(last("ENTRYPOINT")) == ["trishula"]
    assert json.loads(last("CMD")) == ["node", "start", "--config", SAMPLE["config"], "--state", SAMPLE["state"]]
    assert json.loads(last("VOLUME")) == [SAMPLE["state"]]


def test_the_base_is_a_release_and_all_packages_of_python_come_by_their_hash() -> None:
    assert re.fullmatch(r"DEBIAN_TAG=\d+\.\d+-slim", dict(instructions_of("ARG"))["DEBIAN_TAG"])
    runs = " && ".join(arguments for instruction, arguments in instructions() if instruction == "RUN")
    installs = [part for part in runs.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert all("--no-deps" in part for part in installs)
    assert "--require-hashes --requirement /tmp/router.txt" in " ".join(installs[0].split())
    assert installs[1].split()[-1] == "/src"


def instructions_of(name: str) -> list[tuple[str, str]]:
    """(what stands before the ``=``, all of it) of the instructions of that name."""
    return [(text.partition("=")[0], text) for instruction, text in instructions() if instruction == name]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    copied = [shlex.split(arguments) for instruction, arguments in instructions() if instruction == "COPY"]
    sources = [source for words in copied if not words[0].startswith("--from") for source in words[:-1]]
    assert len(sources) >= 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), f"{source} is ignored by Dockerfile.dockerignore"


# -- the compose file --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The sample, which is what the template renders."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


def test_the_compose_file_is_one(compose: dict[str, Any]) -> None:
    faults = [
        f"{list(fault.path)}: {fault.message}" for fault in jsonschema.Draft7Validator(SCHEMA).iter_errors(compose)
    ]
    assert faults == []


def test_the_schema_would_find_a_fault(compose: dict[str, Any]) -> None:
    wrong = json.loads(json.dumps(compose))
    wrong["services"]["nginx"]["depends_on"]["primary"]["condition"] = "service_well"
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(wrong))


def test_the_services_are_those_of_a_whole_bus(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"primary", "failover", "nginx", "prometheus", "grafana", "redis"}


def test_only_nginx_is_reached_from_outside(compose: dict[str, Any]) -> None:
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["nginx"]
    inside = {name for name, network in compose["networks"].items() if network.get("internal")}
    for name, service in compose["services"].items():
        assert name == "nginx" or set(service["networks"]) <= inside, f"{name} is on a network with a way out"


def test_each_service_is_pinned_hardened_and_watched(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        tag = service["image"].rpartition(":")[2].rpartition("-")[2].rstrip("}")
        assert re.search(r"\d", tag) or re.search(r":v?\d+\.\d+\.\d+", service["image"]), f"{name} is not pinned"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
        # The nodes' is in their image.
        assert "healthcheck" in service or service["image"].startswith("trishula:")


def test_prometheus_takes_its_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    file = ROOT / "deploy" / "docker" / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", "--syntax-only", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_mounted_and_depended_on_is_declared(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source = re.sub(r"\$\{[^}]*\}", ".", mount).partition(":")[0]
            assert source.startswith((".", "/")) or source in compose["volumes"], f"{name}: {mount}"
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"]
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert set(service["networks"]) <= set(compose["networks"])
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
