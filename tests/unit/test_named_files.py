"""What a user names and is no file is refused, by every command that opens it, and waits for nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trishula import named_files
from trishula.cli.main import run
from trishula.cli.values import parse_json
from trishula.known_keys import KnownKeys
from trishula.named_files import open_file, open_stream
from trishula.profile_file import read_profile
from trishula.settings import SettingsInvalid
from trishula.token_file import read_token
from trishula_router.agents.file import read_agents


def a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(path))


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


KINDS = (a_pipe, a_device, a_folder)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_files, "_PATIENCE_S", 0.05)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("open_named", [open_file, open_stream])
def test_what_is_no_file_is_named_as_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], open_named: Callable[[Path], object]
) -> None:
    make(tmp_path / "it")
    with pytest.raises(OSError, match=make.__name__.replace("_", " ")) as refused:
        open_named(tmp_path / "it")
    assert refused.value.filename == str(tmp_path / "it")


def test_a_socket_cannot_be_opened(tmp_path: Path) -> None:
    a_socket(tmp_path / "it")
    with pytest.raises(OSError):
        open_file(tmp_path / "it")


def test_a_file_is_read_by_both(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"x" * 100_000)
    for open_named in (open_file, open_stream):
        with open_named(tmp_path / "it") as file:
            assert file.read() == b"x" * 100_000


def test_a_pipe_that_somebody_writes_into_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_files, "_PATIENCE_S", 60.0)
    a_pipe(tmp_path / "it")
    writer = threading.Thread(target=lambda: (tmp_path / "it").write_bytes(b"x" * 200_000))
    writer.start()
    with open_stream(tmp_path / "it") as file:
        assert file.read() == b"x" * 200_000
    writer.join(60.0)


COMMANDS = {
    "audit verify": ("audit", "verify", "{}"),
    "audit verify --key": ("audit", "verify", __file__, "--key", "{}"),
    "journal verify": ("journal", "verify", "{folder}"),
    "journal find": ("journal", "find", "m1", "{folder}"),
    "node check": ("node", "check", "{}"),
    "files history": ("files", "history", "--into", "{}"),
    "key show": ("key", "show", "{}"),
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_waits_for_what_is_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, make: Callable[[Path], None]
) -> None:
    name = tmp_path / "0000000000000001-0000000000000009.jsonl.gz"
    make(name)
    args = [arg.format(name, folder=tmp_path) for arg in COMMANDS[command]]
    assert run(args) not in (0, None)
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert said.strip() and "Traceback" not in said
    if make is not a_folder:
        assert make.__name__.replace("_", " ") in said


READERS: dict[str, Callable[[Path], object]] = {
    "a token": read_token,
    "a profile": lambda path: read_profile(path, "--profile"),
    "agents": read_agents,
    "known keys": lambda path: KnownKeys(path, SettingsInvalid, "trishula key trust").of("agni"),
    "a payload": lambda path: parse_json(f"@{path}", "--payload"),
}


@pytest.mark.parametrize("make", [a_pipe, a_device])
@pytest.mark.parametrize("reader", READERS)
def test_no_setting_waits_for_what_is_no_file(tmp_path: Path, reader: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / "it")
    with pytest.raises(Exception, match=make.__name__.replace("_", " ")):
        READERS[reader](tmp_path / "it")
