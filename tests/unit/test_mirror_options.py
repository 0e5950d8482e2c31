"""The options of the mirrors: what is read, and each fault in its exact words; no password is ever shown."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from trishula_router.settings import check
from trishula_router.settings.faults import ConfigError, Fault
from trishula_router.settings.mirror import MirrorOptions
from trishula_router.settings.options import parse_options
from trishula_router.settings.redis_server import RedisAddress

URL_RULE = "redis://[USER@]HOST[:PORT][/DATABASE] or rediss://… (TLS), without a password; empty for none"
SECRET_RULE = "file:PATH or env:NAME, which holds it: a secret does not belong in the configuration"


def parse(mirror: dict[str, Any], **extra: Any) -> MirrorOptions:
    return parse_options({"state": "s", "mirror": mirror, **extra}, base=Path("/srv"), path="extra").mirror


def sentences(mirror: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(mirror)
    return [fault.sentence for fault in caught.value.faults]


def test_nothing_is_mirrored_unless_asked_for() -> None:
    assert parse({}) == MirrorOptions()
    assert not (parse({}).redis or parse({}).file)


@pytest.mark.parametrize(
    ("url", "address", "is_here"),
    [
        ("redis://localhost", RedisAddress("localhost", 6379, 0, "", False), True),
        ("redis://127.0.0.1:6380/3", RedisAddress("127.0.0.1", 6380, 3, "", False), True),
        ("redis://[::1]:6380", RedisAddress("::1", 6380, 0, "", False), True),
        ("rediss://audit@redis.example.org/1", RedisAddress("redis.example.org", 6379, 1, "audit", True), False),
    ],
)
def test_a_url_says_where(url: str, address: RedisAddress, is_here: bool) -> None:
    options = parse({"redis": url, "redis_password": "env:REDIS_PASSWORD"})
    assert options.redis_address == address
    assert options.redis_address.is_on_this_machine is is_here


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://", "redis://h/x", "redis://h:0x1", "redis://h:99999", "redis://h?db=1", "redis://h/0#a", "h"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    assert sentences({"redis": url}) == [f'extra.mirror.redis is "{url}"; it must be {URL_RULE}']


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    rule = f"it must be {URL_RULE}: that goes into mirror.redis_password ({SECRET_RULE})"
    for user in ("", "audit"):
        for host in ("h", "h/x", "["):
            assert sentences({"redis": f"redis://{user}:hush@{host}"}) == [f"extra.mirror.redis: {rule}"]


def test_what_goes_beyond_the_machine_goes_over_tls_unless_the_network_is_trusted() -> None:
    (sentence,) = sentences({"redis": "redis://10.0.0.7"})
    assert sentence == (
        'extra.mirror.redis is "redis://10.0.0.7"; it must be rediss://… (TLS), or anybody on the way could read the '
        'audit and the password; or say why the network is to be trusted: extra, "trusted_network": "why it is to be '
        'trusted"'
    )
    assert parse({"redis": "redis://10.0.0.7"}, trusted_network="a cable").redis == "redis://10.0.0.7"


def test_all_other_faults() -> None:
    mirror = {"redis_password": "hush", "redis_ca": "ca.pem", "maxlen": 10, "stream": "a b", "file_size": "1 KiB"}
    assert sentences({**mirror, "no_such": 1}) == [
        f'extra.mirror.redis_password is "hush"; it must be {SECRET_RULE}',
        'extra.mirror.stream is "a b"; it must be 1 to 200 printable characters without a space; empty for '
        "trishula:audit:NODE",
        "extra.mirror.maxlen is 10; it must be a whole number from 1000 to 100000000",
        'extra.mirror.file_size is "1 KiB"; it must be from 64 KiB to 16 GiB',
        'extra.mirror.redis_ca is "ca.pem"; it must not be there without mirror.redis',
        "extra.mirror.no_such is 1; it is an unknown key; the known keys are redis, redis_password, redis_ca, stream, "
        "maxlen, file, file_size, file_count, lag",
    ]
    for file in ("node.sqlite", "agents.json", "audit.jsonl/", "~nobody-here/audit.jsonl", 7):
        rule = "it must be the path of a file that ends in .jsonl, relative to the state directory; empty for none"
        assert sentences({"file": file}) == [f"extra.mirror.file is {json.dumps(file)}; {rule}"]
    assert parse({"file": "audit.jsonl"}).file == "audit.jsonl"
    assert sentences({"redis": "redis://localhost", "redis_ca": "ca.pem"}) == [
        'extra.mirror.redis_ca is "ca.pem"; it must not be there without rediss://… in mirror.redis'
    ]


def test_without_the_library_the_configuration_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = check.read_config_file(Path(__file__).resolve().parents[2] / "config" / "single.json")
    config["workers"][0]["components"][0]["extra"]["mirror"] = {"redis": "redis://localhost"}
    find_spec, there = importlib.util.find_spec, True
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: (there or None) if name == "redis" else find_spec(name)
    )
    assert check.check_config(config, base=tmp_path, environ={}) == ()
    there = False
    rule = "it must be empty, or the library for Redis must be installed here: pip install 'trishula-bus[redis]'"
    path = "workers[0].components[0].extra.mirror.redis"
    assert check.check_config(config, base=tmp_path, environ={}) == (Fault(path, "redis://localhost", rule),)
