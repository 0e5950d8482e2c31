"""``trishula key``: a key is made and shown, and others' keys are trusted and distrusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trishula.cli.main import run
from trishula.cli.why import timeline
from trishula.settings import SettingsInvalid, load

KEY = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["key", *arguments]) == 0
    return capsys.readouterr().out.strip()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["key", *arguments]) != 0
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


def test_a_key_is_made_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "dc.key")
    public = said(capsys, "new", path)
    assert said(capsys, "show", path) == public
    assert json.loads(said(capsys, "show", path, "--json")) == {"file": path, "key": public}
    assert "is there already, and a key is never replaced" in refused(capsys, "new", path)


def test_keys_are_trusted_until_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "agni.secret")
    monkeypatch.setenv("TRISHULA_TRUSTED_KEYS", str(tmp_path / "trusted.json"))
    assert said(capsys, "list") == ""
    assert said(capsys, "trust", "dc", KEY.upper()) == "what dc signs by that key counts here"
    assert said(capsys, "trust", "dc", KEY) == "what dc signs by that key counts here, as before"
    said(capsys, "trust", "dc", "00" * 32)
    assert said(capsys, "list") == f"dc {KEY}\ndc {'00' * 32}"
    assert said(capsys, "distrust", "dc", "00" * 32) == "what dc signs by that key counts here no more"
    assert json.loads(said(capsys, "list", "--json")) == [{"agent": "dc", "key": KEY}]
    assert "has no such key of dc" in refused(capsys, "distrust", "dc", "00" * 32)


def test_what_is_no_key_and_where_none_can_be_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "agni.secret")
    told = refused(capsys, "trust", "dc", "07")
    assert "KEY is '07'; it must be 64 hexadecimal digits, as 'trishula key show' prints them" in told
    assert "AGENT is 'DC'" in refused(capsys, "trust", "DC", KEY)
    assert "neither your profile has trusted_keys nor TRISHULA_TRUSTED_KEYS is set" in refused(capsys, "list")
    assert "neither your profile has key_file nor TRISHULA_KEY_FILE is set" in refused(capsys, "show")


def test_the_profile_names_keys_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "new", str(tmp_path / "dc.key"))
    profile = tmp_path / "dc.toml"
    profile.write_text(
        'token = "dc.secret"\nkey_file = "dc.key"\ntrusted_keys = "trusted.json"\nrequire_signature = ["COMMAND"]\n'
    )
    keys = load(profile=str(profile), environ={}).keys
    assert (keys.key_files, keys.trusted_keys) == ((tmp_path / "dc.key",), tmp_path / "trusted.json")
    assert keys.require_signature == {"COMMAND"}
    environ = {"TRISHULA_REQUIRE_SIGNATURE": "off", "TRISHULA_KEY_FILE": ""}
    assert load(profile=str(profile), environ=environ).keys.require_signature == frozenset()
    assert load(profile=str(profile), environ={}, require_signature=True).keys.require_signature == {
        "COMMAND", "STATUS", "RESULT", "ERROR",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"TRISHULA_REQUIRE_SIGNATURE": "true"},
            "TRISHULA_REQUIRE_SIGNATURE asks for signatures, and nothing says",
        ),
        ({"TRISHULA_REQUIRE_SIGNATURE": "HEARTBEAT"}, "TRISHULA_REQUIRE_SIGNATURE is 'HEARTBEAT'; it must be true or "),
        ({"TRISHULA_KEY_FILE": "/no/such.key"}, "TRISHULA_KEY_FILE can't be used: /no/such.key can't be read"),
        ({"TRISHULA_KEY_FILE": "~nobody7/x"}, "TRISHULA_KEY_FILE can't be used: '~nobody7/x' begins with"),
    ],
)
def test_settings_that_cannot_be_used_are_told(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(token="dc.secret", environ=environ, home=Path("/"))
    assert sentence in str(caught.value)


def test_why_says_by_which_key_a_message_is_signed() -> None:
    from rich.console import Console

    event = {"kind": "accepted", "seq": 1, "at": 1, "signature": f"1.{KEY[:16]}.-.{'A' * 86}"}
    told = {"messages": [{"id": "m", "from": "dc/7f3a", "to": "agni", "type": "STATUS", "events": [event]}]}

    def shown(keys: dict[str, list[bytes]] | None) -> str:
        console = Console(width=100)
        with console.capture() as captured:
            console.print(timeline(told, None if keys is None else lambda agent: keys.get(agent, [])))
        assert "AAAA" not in captured.get()
        return captured.get()

    assert f"signed by the key {KEY[:16]}…\n" in shown(None)
    assert f"signed by the key {KEY[:16]}…, a key of dc that is trusted here" in shown({"dc": [bytes.fromhex(KEY)]})
    assert f"signed by the key {KEY[:16]}…, which is no key of dc that is trusted here" in shown({})
    del event["signature"]
    assert "signed" not in shown(None)


@pytest.mark.parametrize(
    ("message_id", "facts", "words"),
    [
        ("m", {"proof": "token 9f86d081"}, "agni verified dc by its token 9f86d081"),
        ("m", {"proof": "key 3b6a27bc"}, "agni verified dc by its key 3b6a27bc"),
        ("m", {"proof": "cell north"}, "agni has it from the cell north, which verified dc"),
        ("m", {}, "nothing on record says by what agni verified dc: a release before this one accepted it"),
        ("node:agni:e:1:dead", {}, "said by agni itself, for dc"),
    ],
)
def test_why_says_by_what_the_sender_was_verified(message_id: str, facts: dict[str, str], words: str) -> None:
    from rich.console import Console

    event = {"kind": "accepted", "node": "agni", "seq": 1, "at": 1, **facts}
    life = {"id": message_id, "from": "dc/7f3a", "to": "agni", "type": "STATUS", "events": [event]}
    for events in ([event], []):
        console = Console(width=100)
        with console.capture() as captured:
            console.print(timeline({"messages": [{**life, "events": events}]}))
        # Where the first records are in an archive alone, nobody knows.
        assert (f"\n{words}\n" in captured.get()) == bool(events)
        assert "proof" not in captured.get()
