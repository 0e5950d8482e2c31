"""The node's key: made once, for its owner's eyes alone, and printed so that it can be pasted."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trishula.cli.main import cli
from trishula.evidence.signing import is_signed
from trishula.exit_codes import Exit
from trishula_router.privacy import close_files
from trishula_router.settings.crossbar_import import importing_crossbar
from trishula_router.settings.node_key import (
    KeyUnusable,
    is_public_key,
    public_key_of,
    read_public_key,
    read_signing_key,
)


def keys(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["node", "keys", *map(str, arguments)])


def test_the_key_is_made_once_where_crossbar_looks_for_it(tmp_path: Path) -> None:
    assert read_public_key(tmp_path / "crossbar") is None
    key = public_key_of(tmp_path / "crossbar")
    assert is_public_key(key)
    assert public_key_of(tmp_path / "crossbar") == key == read_public_key(tmp_path / "crossbar")
    for name in ("key.priv", "key.pub"):
        assert stat.S_IMODE((tmp_path / "crossbar" / name).stat().st_mode) == 0o600
    assert close_files(tmp_path) == [], "the next start would tell the operator of a file that we made"


def test_crossbar_is_imported_without_a_terminal_and_leaves_no_trace() -> None:
    """It would write an empty line there, and let Python recurse until the stack is full."""
    before = os.path.exists, sys.getrecursionlimit()
    with pytest.raises(LookupError), importing_crossbar():
        assert (os.path.exists("/dev/tty"), os.path.exists("/dev/null")) == (False, True)
        sys.setrecursionlimit(100_000)
        raise LookupError
    assert (os.path.exists, sys.getrecursionlimit()) == before


def test_a_damaged_key_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "key.priv").write_text("nonsense")
    with pytest.raises(KeyUnusable, match=r"is damaged .*; put the two files key.priv and key.pub back"):
        public_key_of(tmp_path)


@pytest.mark.parametrize("value", [None, 7, "", "a" * 63, "A" * 64, "g" * 64, ["a" * 64]])
def test_what_is_no_public_key(value: object) -> None:
    assert not is_public_key(value)


def test_node_keys_prints_what_a_peer_is_given(tmp_path: Path) -> None:
    done = keys("--state", tmp_path)
    key = public_key_of(tmp_path / "crossbar")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"the public key of single: {key}",
        "in the configuration of each peer, in the path peer, below auth.cryptosign.principals:",
        f'    "single": {{"realm": "trishula", "role": "rlink", "authorized_keys": ["{key}"]}}',
    ]
    assert json.loads(keys("--state", tmp_path, "--json").stdout) == {
        "node": "single",
        "public_key": key,
        "file": str(tmp_path / "crossbar" / "key.pub"),
        "principal": {"single": {"realm": "trishula", "role": "rlink", "authorized_keys": [key]}},
    }


def test_node_keys_makes_no_key_where_nobody_would_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("TRISHULA_STATE", raising=False)
    done = keys()
    state = tmp_path / ".local/state/trishula"
    assert (done.exit_code, done.stdout) == (Exit.CONFIG, "")
    assert f"the node has no key yet in {state}, " in done.stderr
    assert list(tmp_path.iterdir()) == []
    made = keys("--state", state)
    assert made.stderr == f"a new pair of keys was made: key.priv and key.pub in {state}/crossbar\n"
    # There it is now, as after a first start.
    again = keys()
    assert (again.stdout, again.stderr) == (made.stdout, "")


def test_node_keys_makes_it_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISHULA_STATE", str(tmp_path / "state"))
    assert keys().exit_code == 0
    assert read_public_key(tmp_path / "state" / "crossbar") is not None


def test_node_keys_takes_the_state_of_the_configuration(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "config" / "failover.json"
    (tmp_path / "node.json").write_text(shipped.read_text().replace("trishula-state", "here"))
    done = keys("--config", tmp_path / "node.json", "--json")
    assert json.loads(done.stdout)["node"] == "rushabdev"
    assert (tmp_path / "here" / "crossbar" / "key.pub").exists()


def test_node_keys_of_a_bad_configuration_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text('{"workers": []}')
    done = keys("--config", tmp_path / "node.json")
    assert done.exit_code == Exit.CONFIG
    assert done.stderr == "Error: the configuration has no component with options\n"


def test_the_node_signs_with_the_key_that_its_peers_know(tmp_path: Path) -> None:
    public = public_key_of(tmp_path)
    key = read_signing_key(tmp_path)
    assert key.public == public
    assert is_signed(public, b"text", key.sign(b"text"))
    assert not is_signed(public, b"other", key.sign(b"text"))


def test_the_private_key_is_in_no_text_about_it(tmp_path: Path) -> None:
    public_key_of(tmp_path)
    file = (tmp_path / "key.priv").read_text()
    secret = next(line.split()[-1] for line in file.splitlines() if line.startswith("private-key-ed25519"))
    key = read_signing_key(tmp_path)
    assert secret not in f"{key!r} {key} {vars(key)}"
    (tmp_path / "key.priv").write_text(file.replace(secret, secret[:-1]))
    with pytest.raises(KeyUnusable, match="is damaged; put the file back") as caught:
        read_signing_key(tmp_path)
    assert secret[:-1] not in str(caught.value)


def test_no_private_key_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="can't be read: No such file"):
        read_signing_key(tmp_path)
