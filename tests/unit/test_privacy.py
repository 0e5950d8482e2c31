"""Who may look into a state directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trishula_router.privacy import NotPrivate, check_directory, close_files


def mode_of(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o720, 0o777])
def test_a_directory_that_others_may_look_into_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, mode: int
) -> None:
    state = tmp_path / "the state"
    state.mkdir()
    (state / "node.sqlite").touch()
    state.chmod(mode)
    with pytest.raises(NotPrivate) as caught:
        check_directory(state)
    sentence = str(caught.value)
    assert f"has mode {mode:04o}" in sentence and "\n" not in sentence
    os.system(sentence.partition("run: ")[2])
    check_directory(state)


def test_one_that_is_its_owners_alone_is_not(tmp_path: Path) -> None:
    (tmp_path / "node.sqlite").touch()
    tmp_path.chmod(0o700)
    check_directory(tmp_path)


def test_one_with_nothing_in_it_is_closed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    check_directory(state)
    assert mode_of(state) == "0o700"


def test_another_users_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to somebody else")
    os.chown(tmp_path, 4711, -1)
    with pytest.raises(NotPrivate, match=r"belongs to another user \(uid 4711\).*chown -R 0 "):
        check_directory(tmp_path)


def test_a_nodes_files_are_closed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "crossbar").mkdir(mode=0o755)
    ours = ["node.sqlite", "node.sqlite-wal", "node.log", "store.lock", "crossbar/key.priv"]
    others = ["agents.json", "certificate.pem"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    (tmp_path / "elsewhere").touch()
    (tmp_path / "elsewhere").chmod(0o644)
    (tmp_path / "node.link").symlink_to(tmp_path / "elsewhere")
    assert sorted(close_files(tmp_path)) == sorted([*ours, "crossbar"])
    assert {mode_of(tmp_path / name) for name in ours} == {"0o600"}
    assert mode_of(tmp_path / "crossbar") == "0o700"
    assert {mode_of(tmp_path / name) for name in (*others, "elsewhere")} == {"0o644"}
    assert close_files(tmp_path) == []


def test_that_crossbar_opens_its_public_key_is_mended_and_not_told(tmp_path: Path) -> None:
    (tmp_path / "crossbar").mkdir(mode=0o700)
    key = tmp_path / "crossbar" / "key.pub"
    key.touch()
    key.chmod(0o644)
    assert close_files(tmp_path) == []
    assert mode_of(key) == "0o600"
