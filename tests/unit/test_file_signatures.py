"""Signatures of files: only the owner of the token makes one, and nothing in the file can be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trishula.cli.main import run
from trishula.errors import FolderUnusable
from trishula.files.signature import FileKey, KnownKeys, is_key, verify

DC = FileKey.from_token("dc.one-secret")
AGNI = FileKey.from_token("agni.another")
FOUND = {"id": "1", "from": "dc", "to": "agni", "type": "task", "body": {"text": "grüße", "n": [1, 2.5, None, True]}}


def test_a_token_makes_the_same_key_each_time() -> None:
    assert FileKey.from_token("dc.one-secret").public == DC.public != FileKey.from_token("dc.one-secreT").public
    # A contract with the files that lie there: it must not change with a release.
    assert DC.public.hex() == "247f672098801d8329549a63c8099540bd008b147d0e5c61bd3c31fc017c7167"


def test_what_was_signed_is_verified_also_when_it_was_written_otherwise() -> None:
    signed = DC.sign(FOUND)
    assert verify(signed, [AGNI.public, DC.public])
    assert verify(json.loads(json.dumps(dict(reversed(signed.items())), indent=3, ensure_ascii=False)), [DC.public])


@pytest.mark.parametrize(
    "change",
    [
        {"from": "agni"}, {"to": "dc"}, {"body": {"text": "grüße", "n": [1, 2.5, None, 1]}}, {"more": None},
        {"signature": None}, {"signature": "00"}, {"signature": "zz"}, {"signature": 7},
    ],
)  # fmt: skip
def test_nothing_can_be_changed(change: dict[str, Any]) -> None:
    assert not verify({**DC.sign(FOUND), **change}, [DC.public])


def test_a_missing_key_and_anothers_key_verify_nothing() -> None:
    signed = DC.sign(FOUND)
    assert not verify(signed, []) and not verify(signed, [AGNI.public]) and not verify(signed, [b"short"])
    assert not verify({key: value for key, value in signed.items() if key != "to"}, [DC.public])


def test_known_keys_are_written_and_read_again_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    known, other = KnownKeys(path), KnownKeys(path)
    assert known.of("dc") == []
    assert known.trust("dc", DC.public) and not known.trust("dc", DC.public)
    assert other.of("dc") == [DC.public]
    # A rotated token is a second key.
    newer = FileKey.from_token("dc.newer").public
    assert known.trust("dc", newer) and other.of("dc") == [DC.public, newer]
    assert other.agents() == {"dc": [DC.public, newer]}
    path.unlink()
    assert other.of("dc") == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["[", "[]", '{"dc": "x"}', '{"dc": ["00"]}', '{"Not a name": []}'])
def test_a_spoilt_file_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(FolderUnusable, match="trishula files trust"):
        KnownKeys(tmp_path / "keys.json").of("dc")


def test_a_folder_that_is_gone_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="can't be written"):
        KnownKeys(tmp_path / "gone" / "keys.json").trust("dc", DC.public)


def test_the_form_of_keys() -> None:
    assert is_key(DC.public.hex())
    assert not any(map(is_key, ["", "00", DC.public.hex() + "0", "zz" * 32, 7, None, " " * 64]))


def test_a_key_is_printed_and_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "dc.one-secret")
    assert run(["files", "key"]) == 0
    agent, public = capsys.readouterr().out.split()
    assert (agent, public) == ("dc", DC.public.hex())
    for said in ("dc's files count here\n", "dc's files count here, as before\n"):
        assert run(["files", "trust", str(tmp_path), agent, public.upper()]) == 0
        assert capsys.readouterr().out == said
    assert KnownKeys(tmp_path / "keys.json").of("dc") == [DC.public]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trust", ".", "DC", "00" * 32], "AGENT is 'DC'"),
        (["trust", ".", "dc", "00"], "KEY is '00'; it must be 64 hexadecimal digits"),
        (["trust", "/no/such/folder", "dc", "00" * 32], "keys.json can't be written"),
    ],
)
def test_a_wrong_key_is_told(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["files", *arguments]) != 0
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
