"""Settings: the order of the sources, and one sentence for each fault."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.certificates import Issuer
from trishula.consumer.agent_state import directory_of
from trishula.errors import StateUnusable, TokenMissing
from trishula.session.compression import is_this_machine
from trishula.settings import DEFAULT_URL, Settings, SettingsInvalid, load, parse_urls


def write_profile(home: Path, text: str, name: str = "profile") -> Path:
    path = home / ".config" / "trishula" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_token_is_enough(tmp_path: Path) -> None:
    assert load(token="dc.s", environ={}, home=tmp_path) == Settings((DEFAULT_URL,), "dc", "dc.s")


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    assert "secret" not in repr(load(token="dc.secret", environ={}, home=tmp_path))


def test_arguments_come_before_the_environment_before_the_profile(tmp_path: Path) -> None:
    write_profile(tmp_path, 'url = "ws://profile:1/ws"\ntoken = "dc.profile"\n')
    environ = {"TRISHULA_URL": "ws://env:1/ws", "TRISHULA_TOKEN": "dc.env"}
    assert load(environ={}, home=tmp_path) == Settings(("ws://profile:1/ws",), "dc", "dc.profile")
    assert load(environ=environ, home=tmp_path) == Settings(("ws://env:1/ws",), "dc", "dc.env")
    found = load(url="ws://arg:1/ws", token="dc.arg", environ=environ, home=tmp_path)
    assert found == Settings(("ws://arg:1/ws",), "dc", "dc.arg")


def test_each_value_has_its_own_source(tmp_path: Path) -> None:
    write_profile(tmp_path, 'token = "dc.profile"\n')
    found = load(environ={"TRISHULA_URL": "ws://env:1/ws", "TRISHULA_TOKEN": ""}, home=tmp_path)
    assert found == Settings(("ws://env:1/ws",), "dc", "dc.profile")


def test_several_nodes_keep_their_order_and_get_the_path() -> None:
    assert parse_urls("ws://a:1, wss://b:2/ws ,ws://a:1/ws", "TRISHULA_URL") == ("ws://a:1/ws", "wss://b:2/ws")
    assert parse_urls(["ws://a:1/other"], "x") == ("ws://a:1/other",)


def test_a_profile_can_be_named_and_its_token_be_in_a_file_beside_it(tmp_path: Path) -> None:
    path = write_profile(tmp_path, 'token_file = "dc.token"\nurl = ["ws://a:1/ws", "ws://b:1/ws"]\n', "work")
    (path.parent / "dc.token").write_text("dc.from_file\n")
    expected = Settings(("ws://a:1/ws", "ws://b:1/ws"), "dc", "dc.from_file", token_file=path.parent / "dc.token")
    assert load(profile="work", environ={}, home=tmp_path) == expected
    assert load(environ={"TRISHULA_PROFILE": str(path)}, home=tmp_path) == expected


def refusal(tmp_path: Path, **given: object) -> str:
    environ = given.pop("environ", {})
    with pytest.raises(SettingsInvalid) as caught:
        load(environ=environ, home=tmp_path, **given)  # type: ignore[arg-type]  # wrong ones are the point
    return caught.value.sentence


def test_without_a_token_it_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(TokenMissing) as caught:
        load(environ={}, home=tmp_path)
    assert caught.value.sentence == (
        "there is no token: give the argument token, set TRISHULA_TOKEN, or write token or token_file into "
        f"{tmp_path}/.config/trishula/profile.toml; an operator makes one with 'trishula token new NAME'"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://a:1/",
        "ws://",
        "ws://a:99999/ws",
        "ws://a:0/ws",
        "a:1",
        "ws://a:1/ws#x",
        "ws://a\udcff:1/ws",
        "ws://a :1",
    ],
)
def test_a_wrong_url(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, environ={"TRISHULA_URL": url, "TRISHULA_TOKEN": "dc.s"})
    assert said == f"TRISHULA_URL has the URL {url!r}; it must be ws://HOST:PORT/ws or wss://HOST:PORT/ws"


def test_a_password_in_a_url_is_not_repeated(tmp_path: Path) -> None:
    said = refusal(tmp_path, url="ws://dc:hunter2@a:1/ws", token="dc.s")
    assert "hunter2" not in said
    assert said.startswith("the argument url has a URL with a user name in it")


@pytest.mark.parametrize("url", ["{}", "ws://{}", "wss://h:1/ws,ws://{}/ws"])
def test_a_token_for_a_url_is_not_repeated(tmp_path: Path, url: str) -> None:
    token = "dc.Abcdefghijklmnopqrstuvwxyz012345"
    said = refusal(tmp_path, environ={"TRISHULA_URL": url.format(token), "TRISHULA_TOKEN": token})
    assert token[3:] not in said
    assert said.startswith("TRISHULA_URL seems to hold a token (it is not shown); it must be ws://HOST:PORT/ws")


def test_a_token_for_a_profile_is_not_repeated(tmp_path: Path) -> None:
    token = "dc.Abcdefghijklmnopqrstuvwxyz012345"
    said = refusal(tmp_path, environ={"TRISHULA_PROFILE": token})
    assert token[3:] not in said
    assert said.startswith("TRISHULA_PROFILE seems to hold a token (it is not shown)")


@pytest.mark.parametrize(
    "host", ["agni.a-long-name-of-a-host-in-a-cluster.example.org", "agni.a-long-name-in-a-cluster"]
)
def test_the_name_of_a_host_is_no_token(host: str) -> None:
    assert parse_urls(f"wss://{host}", "x") == (f"wss://{host}/ws",)


def test_no_url_at_all(tmp_path: Path) -> None:
    assert refusal(tmp_path, url=" , ", token="dc.s").startswith("the argument url names no node")
    assert refusal(tmp_path, url=5, token="dc.s") == (
        "the argument url must be a URL, several with commas between, or a list of them"
    )


def test_the_mark_that_an_editor_puts_before_a_text_is_skipped(tmp_path: Path) -> None:
    path = write_profile(tmp_path, "\ufefftoken_file = 'dc.token'\n")
    (path.parent / "dc.token").write_text("\ufeffdc.s\r\n")
    assert load(environ={}, home=tmp_path).token == "dc.s"
    assert load(environ={"TRISHULA_TOKEN": "\ufeffdc.t\r\n"}, home=tmp_path).token == "dc.t"


def test_a_token_that_comes_from_elsewhere_is_not_read_again(tmp_path: Path) -> None:
    path = write_profile(tmp_path, "token_file = 'dc.token'\n")
    (path.parent / "dc.token").write_text("dc.s\n")
    assert load(token="dc.t", environ={}, home=tmp_path).token_file is None
    assert load(environ={"TRISHULA_TOKEN": "dc.t"}, home=tmp_path).token_file is None


@pytest.mark.parametrize(
    "token",
    # The last ones are bytes of a variable that are no text, a line that was not cut, a pasted arrow.
    ["nodot", "dc.", ".s", "DC.s", "broadcast.s", "dc.\udcff", "dc.s\ndc.t", "dc.s t", "dc.s→"],
)
def test_what_is_no_token(tmp_path: Path, token: str) -> None:
    said = refusal(tmp_path, environ={"TRISHULA_TOKEN": token})
    assert said == "the token from TRISHULA_TOKEN is no token: it must look like NAME.SECRET"


def test_another_agents_token(tmp_path: Path) -> None:
    said = refusal(tmp_path, agent="agni", environ={"TRISHULA_TOKEN": "dc.s"})
    assert said == "the argument agent is 'agni', and TRISHULA_TOKEN gives a token of 'dc': an agent uses its own token"


def test_a_wrong_agent_name(tmp_path: Path) -> None:
    said = refusal(tmp_path, token="dc.s", environ={"TRISHULA_AGENT": "DC"})
    assert said.startswith("TRISHULA_AGENT is 'DC'; an agent's name is a lower-case letter")


def test_faults_of_the_profile(tmp_path: Path) -> None:
    path = write_profile(tmp_path, "tokn = 'dc.s'\n")
    assert refusal(tmp_path) == (
        f"the profile {path} has the unknown key 'tokn'; the known keys are url, agent, token, token_file, failback, "
        "ca_file, client_certificate, proxy, compression, files, files_unsigned, key_file, trusted_keys, "
        "require_signature, fallback_after"
    )
    path.write_text("token = 'dc.s'\ntoken_file = 'x'\n")
    assert refusal(tmp_path) == f"the profile {path} has both token and token_file; leave one out"
    path.write_text("token_file = 'absent'\n")
    assert refusal(tmp_path) == (
        f"token_file of the profile {path} can't be used: {path.parent}/absent can't be read: No such file or directory"
    )
    (path.parent / "absent").write_bytes(b"dc.s\xff")
    assert refusal(tmp_path).endswith("absent is not text in UTF-8")
    path.write_text("token = 7\n")
    assert refusal(tmp_path) == f"the profile {path} must give the token as a string"
    path.write_text("token = \n")
    assert refusal(tmp_path).startswith(f"the profile {path} can't be read: ")
    assert refusal(tmp_path, profile="absent") == (
        f"the argument profile names the profile {tmp_path}/.config/trishula/absent.toml, and there is no such file"
    )


def test_when_to_go_back_to_the_first_node(tmp_path: Path) -> None:
    def found(**environ: str) -> float | None:
        return load(token="dc.s", environ=environ, home=tmp_path).failback_s

    assert found() == 30.0
    assert found(TRISHULA_FAILBACK="5m") == 300.0
    assert found(TRISHULA_FAILBACK="off") is None
    write_profile(tmp_path, 'failback = "off"\n')
    assert found() is None
    assert found(TRISHULA_FAILBACK="10s") == 10.0


@pytest.mark.parametrize("value", ["30", "soon", "0s", "2d"])
def test_faults_of_the_failback(tmp_path: Path, value: str) -> None:
    said = refusal(tmp_path, token="dc.s", environ={"TRISHULA_FAILBACK": value})
    assert said == f'TRISHULA_FAILBACK is {value!r}; it must be a duration from "1s" to "1d", or "off"'


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: object) -> NoReturn:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_no_home_is_needed_by_who_gives_everything(homeless: None, tmp_path: Path) -> None:
    assert load(token="dc.s", environ={}) == Settings((DEFAULT_URL,), "dc", "dc.s")
    path = tmp_path / "here.toml"
    path.write_text('token = "dc.s"\n')
    assert load(profile=str(path), environ={}) == Settings((DEFAULT_URL,), "dc", "dc.s")


def test_what_needs_a_home_says_so(homeless: None, tmp_path: Path) -> None:
    with pytest.raises(TokenMissing, match="write token or token_file into a profile file; an operator"):
        load(environ={})
    with pytest.raises(SettingsInvalid, match="TRISHULA_PROFILE names the profile 'work' below the home directory"):
        load(environ={"TRISHULA_PROFILE": "work"})
    for profile in ("~/x.toml", "~nobody_at_all/x.toml"):
        with pytest.raises(SettingsInvalid, match=r"the argument profile can't be used: '~.*give an absolute path"):
            load(profile=profile, environ={})
    path = tmp_path / "here.toml"
    path.write_text('token_file = "~/token"\n')
    with pytest.raises(SettingsInvalid, match=r"token_file of the profile .* begins with the home directory ~"):
        load(profile=str(path), environ={})
    with pytest.raises(StateUnusable, match="the agent's directory can't be used: '~/state' begins"):
        directory_of("dc", "~/state", {}, None)


def test_the_proxy_and_the_authority_are_found_in_their_order(tmp_path: Path) -> None:
    Issuer("office").write(tmp_path / "ca.pem")
    write_profile(tmp_path, 'token = "dc.s"\nproxy = "profile:1"\nca_file = "office.pem"\n')
    Issuer("office").write(tmp_path / ".config" / "trishula" / "office.pem")

    def found(proxy: str | None = None, ca_file: Path | None = None, **environ: str) -> tuple[str | None, Path | None]:
        settings = load(proxy=proxy, ca_file=ca_file, environ=environ, home=tmp_path)
        proxy_there = settings.proxies.of("wss://agni.example/ws")
        return None if proxy_there is None else str(proxy_there), settings.ca_file

    beside = tmp_path / ".config" / "trishula" / "office.pem"
    ours = tmp_path / "ca.pem"
    assert found() == ("profile:1", beside)
    assert found(TRISHULA_PROXY="env:2", TRISHULA_CA_FILE=str(ours), HTTPS_PROXY="all:9") == ("env:2", ours)
    assert found(proxy="http://arg:3", TRISHULA_PROXY="env:2", ca_file=ours) == ("arg:3", ours)
    assert found(proxy="off", HTTPS_PROXY="all:9") == (None, beside)
    assert found(NO_PROXY="example") == (None, beside)
    write_profile(tmp_path, 'token = "dc.s"\n')
    assert found(HTTPS_PROXY="all:9") == ("all:9", None)
    assert found(https_proxy="http://small:9", HTTPS_PROXY="all:9") == ("small:9", None)
    assert found(HTTPS_PROXY="all:9", no_proxy="agni.example") == (None, None)
    assert found(TRISHULA_PROXY="off", HTTPS_PROXY="all:9") == (None, None)


def test_a_proxy_of_all_programs_that_would_not_be_used_is_no_fault(tmp_path: Path) -> None:
    for url, exempt in (
        ("ws://127.0.0.1:8080/ws", ""),
        ("ws://agni.example/ws", ""),
        ("wss://agni.example/ws", "example"),
    ):
        environ = {"HTTPS_PROXY": "socks5h://dc:secret@h:1080", "NO_PROXY": exempt}
        settings = load(url=url, token="dc.s", environ=environ, home=tmp_path)
        assert settings.proxies.of(url) is None
    environ = {"HTTPS_PROXY": "socks5h://dc:secret@h:1080"}
    said = refusal(tmp_path, url="ws://127.0.0.1:1/ws,wss://agni.example/ws", token="dc.s", environ=environ)
    assert said.startswith("HTTPS_PROXY is no proxy that can be used")


def test_faults_of_proxy_and_authority_show_no_password(tmp_path: Path) -> None:
    rule = "a proxy is http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT"
    for value in ("http://dc:secret@", "http://dc:secret@h:70000", "http://h/path", "two words", "http://h:0"):
        for environ in ({"TRISHULA_PROXY": value}, {"HTTPS_PROXY": value}):
            (name,) = environ
            assert refusal(tmp_path, url="wss://agni.example/ws", token="dc.s", environ=environ) == (
                f'{name} is no proxy that can be used: {rule}; "off" means none'
            )
    said = refusal(tmp_path, token="dc.s", proxy="socks5://dc:secret@h:1080")
    assert said == (
        f"the argument proxy is no proxy that can be used: {rule}; one that is spoken to by socks5: can't be used; "
        '"off" means none'
    )
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for value, why in (
        (str(tmp_path / "no.pem"), "can't be read: No such file or directory"),
        (str(empty), "holds no certificates in PEM"),
    ):
        said = refusal(tmp_path, token="dc.s", environ={"TRISHULA_CA_FILE": value})
        assert said == f"TRISHULA_CA_FILE names {value}, which {why}"
    assert "secret" not in repr(load(token="dc.s", proxy="http://dc:secret@h:1", environ={}, home=tmp_path))


def test_compression_is_off_unless_somebody_says_on(tmp_path: Path) -> None:
    assert not load(token="dc.s", environ={}, home=tmp_path).compression
    assert load(token="dc.s", environ={"TRISHULA_COMPRESSION": "on"}, home=tmp_path).compression
    path = write_profile(tmp_path, "compression = 'on'\n")
    assert load(token="dc.s", environ={}, home=tmp_path).compression
    assert not load(token="dc.s", environ={"TRISHULA_COMPRESSION": "off"}, home=tmp_path).compression
    path.write_text("compression = true\n")
    assert refusal(tmp_path, token="dc.s") == f'compression in {path} is True; it must be "on" or "off"'


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost."])
def test_this_machine_is_asked_for_no_compression(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1%eth0", "agni.example", "localhost.example", ""])
def test_other_machines_are(host: str) -> None:
    assert not is_this_machine(host)
