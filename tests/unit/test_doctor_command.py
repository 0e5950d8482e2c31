"""``trishula doctor``: what it looks at, how it ends, and what its bundle has; without a node."""

from __future__ import annotations

import json
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.exit_codes import Exit

TOKEN = "dc.0123456789abcdefghijABCDEFGHIJ0123456789"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRISHULA_URL", "TRISHULA_TOKEN", "TRISHULA_PROFILE", "TRISHULA_STATE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def doctor(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    connect: Any = FakeBus().connect
    code = run(["doctor", *args], State(connect=connect))
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return code, told.out, told.err


def checks(out: str) -> dict[str, str]:
    return {one["check"]: one["level"] for one in json.loads(out)}


def test_where_there_is_nothing_nothing_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = doctor(capsys, "--json")
    assert (code, checks(out)) == (0, dict.fromkeys(("agent", "node", "status"), "skipped"))


def test_a_url_without_a_token_is_tried_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/ws"
    monkeypatch.setenv("TRISHULA_URL", url)
    code, out, err = doctor(capsys)
    assert (code, err) == (2, "1 fault, 0 warnings, 0 ok, 4 skipped\n")
    assert out.splitlines()[:2] == [
        f"fault    {url}: port: {url[5:-3]} can't be reached: Connection refused",
        "         → nobody listens there: is the node started (trishula node status, there), and is it that port?",
    ]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [("TRISHULA_URL", "http://x", "TRISHULA_URL"), ("TRISHULA_TOKEN", "nothing", "TRISHULA_TOKEN")],
)
def test_settings_that_are_wrong_are_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", TOKEN)
    monkeypatch.setenv(name, value)
    code, out, _ = doctor(capsys, "--json")
    (found,) = [one for one in json.loads(out) if one["level"] == "fault"]
    assert (code, found["check"], sentence in found["sentence"]) == (2, "settings", True)


def test_a_state_directory_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = doctor(capsys, "--state", str(tmp_path / "none"), "--json")
    assert (code, checks(out)["state directory"]) == (2, "fault")


def test_configurations_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.support.cluster import Cluster

    Cluster(tmp_path, ["agni", "laptop"])
    files = [str(tmp_path / f"{name}.json") for name in ("agni", "laptop")]
    options = [word for file in files for word in ("--config", file)]
    assert "linked configurations" not in checks(doctor(capsys, *options, "--json")[1])
    agni, laptop = (json.loads(Path(file).read_text()) for file in files)
    (realm,), (other,) = agni["workers"][0]["realms"], laptop["workers"][0]["realms"]
    # Both make the link.
    (link,) = other["rlinks"]
    realm["rlinks"] = [{**link, "id": "laptop"}]
    Path(files[0]).write_text(json.dumps(agni))
    code, out, _ = doctor(capsys, *options, "--json")
    said = [one["sentence"] for one in json.loads(out) if one["check"] == "linked configurations"]
    assert code == 2
    assert any("exactly one of agni and laptop must have a link (rlinks) to the other; 2 have" in one for one in said)
    del realm["rlinks"], other["rlinks"]
    for file, config in zip(files, (agni, laptop), strict=True):
        Path(file).write_text(json.dumps(config))
    said = [one["sentence"] for one in json.loads(doctor(capsys, *options, "--json")[1])]
    assert any("must have a link (rlinks) to the other; 0 have" in one for one in said)


def test_the_bundle_of_an_agents_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"wss://localhost:{taken.getsockname()[1]}/ws"
    monkeypatch.setenv("TRISHULA_URL", url)
    monkeypatch.setenv("TRISHULA_TOKEN", TOKEN)
    monkeypatch.setenv("TRISHULA_PROXY", url.replace("wss://", "http://user:pass-of-a-proxy@").removesuffix("/ws"))
    bundle = tmp_path / "support.tar.gz"
    # One of before, which others may read.
    bundle.write_text("old")
    bundle.chmod(0o644)
    code, _, err = doctor(capsys, "--bundle", str(bundle))
    assert (code, bundle.stat().st_mode & 0o777) == (2, 0o600)
    assert err.endswith(f"the bundle is in {bundle}; look through it before you give it away\n")
    with tarfile.open(bundle) as packed:
        texts = {one.name: packed.extractfile(one).read().decode() for one in packed.getmembers()}  # type: ignore[union-attr]
    assert set(texts) == {f"trishula-support/{name}.json" for name in ("contacts", "findings", "versions")}
    assert all(word not in "".join(texts.values()) for word in (TOKEN, TOKEN[3:], "pass-of-a-proxy", "user:"))
    (contact,) = json.loads(texts["trishula-support/contacts.json"])
    assert (contact["url"], contact["tcp_error"]) == (url, "Connection refused")
    code, _, err = doctor(capsys, "--bundle", str(tmp_path / "none" / "x.tar.gz"))
    assert (code, "can't be written: No such file or directory" in err) == (Exit.USAGE, True)
