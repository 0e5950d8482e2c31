"""Where the bus is and who we are: URLs, agent, token or key, from arguments, the environment or a profile file.

Order, for each value on its own: the argument; the variable ``TRISHULA_URL`` (comma-separated nodes, in order of
preference), ``TRISHULA_AGENT``, ``TRISHULA_TOKEN``, ``TRISHULA_KEY_FILE``; the profile file. The agent's name may be
left out where there is a token, for that is ``name.secret``. Who has a token joins with it, and who has a key alone
joins with the key: then nothing secret is sent.

The profile is a TOML file: the path in ``TRISHULA_PROFILE`` (or the argument), else ``~/.config/trishula/profile.toml``
if it exists; a bare word ``NAME`` means ``~/.config/trishula/NAME.toml``::

    url = ["wss://agni.example:8765/ws", "wss://rushabdev.example:8765/ws"]
    agent = "dc"                      # optional where there is a token
    token_file = "dc.token"           # or token = "dc.…"; a relative path is relative to the profile. Read at each join
    failback = "30s"                  # optional: when to go back to the first node, or "off"; also TRISHULA_FAILBACK
    ca_file = "office-ca.pem"         # optional: who signs the nodes' certificates; also TRISHULA_CA_FILE
    client_certificate = "dc.pem"     # optional: what TLS shows of us, if asked; also TRISHULA_CLIENT_CERTIFICATE
    files = "mail"                    # optional: a folder for messages as files; also TRISHULA_FILES
    files_unsigned = ["mac"]          # optional: whose files there need no signature; also TRISHULA_FILES_UNSIGNED
    fallback_after = "2s"             # optional: when the folder is used; also TRISHULA_FALLBACK_AFTER
    key_file = "dc.key"               # optional: signs what is sent; who has no token joins with it, and gives agent;
                                      # also TRISHULA_KEY_FILE
    trusted_keys = "trusted.json"     # optional: whose signatures count; also TRISHULA_TRUSTED_KEYS
    require_signature = ["COMMAND"]   # optional: what is taken only signed; also TRISHULA_REQUIRE_SIGNATURE
    proxy = "http://proxy:3128"       # optional: the proxy on the way there, or "off"; also TRISHULA_PROXY
    compression = "on"                # optional: for slow lines; also TRISHULA_COMPRESSION

Without ``proxy`` the variables ``HTTPS_PROXY`` and ``NO_PROXY`` hold, as :mod:`trishula.proxies` says.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.contract.units import parse_duration_s
from trishula.contract.uris import DEFAULT_PORT, WEBSOCKET_PATH
from trishula.errors import TokenMissing
from trishula.homes import home_directory
from trishula.key_settings import KeySettings, key_settings
from trishula.option_names import PROFILE_KEYS, VARIABLES
from trishula.profile_file import SettingsInvalid, expanded_from, first, profile_path, read_profile
from trishula.proxies import DIRECT, Proxies, Proxy, parse_proxy
from trishula.tls_settings import read_ca_file, read_client_certificate
from trishula.token_file import looks_like_a_token, owner_of

if TYPE_CHECKING:
    from trishula.key_file import AgentKey

__all__ = [
    "DEFAULT_URL",
    "PROFILE_KEYS",
    "VARIABLES",
    "Settings",
    "SettingsInvalid",
    "given_keys",
    "load",
    "parse_urls",
]

DEFAULT_URL = f"ws://127.0.0.1:{DEFAULT_PORT}/{WEBSOCKET_PATH}"

#: A better node is not gone back to before it has been there for so long: one that is being restarted or repaired comes
#: and goes.
DEFAULT_FAILBACK_S = 30.0
#: Long enough for a failover to another node, short enough that a person hardly notices.
DEFAULT_FALLBACK_AFTER_S = 2.0


_NO_KEYS = KeySettings()


@dataclass(frozen=True, slots=True)
class Settings:
    """How to join the bus.

    Attributes:
        urls: WebSocket URLs of the nodes, in order of preference.
        agent: the agent's name, which is its WAMP ``authid``.
        token: its secret; never shown. Empty if it joins with a key alone.
        token_file: the file that the token came from, which is read again at each join; ``None`` if it came from none.
        failback_s: how long a node that stands before ours in ``urls`` must have been there before we go back to it;
            ``None`` to stay where we are as long as that node is there.
        ca_file: PEM certificates of the authorities that sign the nodes' certificates; ``None``: those that the system
            trusts.
        client_certificate: PEM with a certificate and its key, which a node, or a proxy before it, is shown in TLS.
        proxies: which proxy leads to which node.
        files: the folder for messages as files; ``None`` if there is none.
        files_unsigned: agents whose files are taken without a signature.
        fallback_after_s: how long no node must have been there before messages go to files as well.
        keys: the agent's own key, whose keys it knows, and what it takes unsigned.
        key: the own key, if it joins with that, because it has no token.
        compression: whether nodes on other machines are asked for permessage-deflate.
    """

    urls: tuple[str, ...]
    agent: str
    token: str = field(repr=False)
    failback_s: float | None = DEFAULT_FAILBACK_S
    token_file: Path | None = None
    ca_file: Path | None = None
    proxies: Proxies = DIRECT
    files: Path | None = None
    files_unsigned: tuple[str, ...] = ()
    fallback_after_s: float = DEFAULT_FALLBACK_AFTER_S
    keys: KeySettings = _NO_KEYS
    key: AgentKey | None = None
    client_certificate: Path | None = None
    compression: bool = False

    @property
    def secret(self) -> str:
        """What nobody but this agent has, ``name.secret``: what it signs files with may be derived from that."""
        return self.token if self.key is None else f"{self.agent}.{self.key.seed().hex()}"


def load(
    *,
    url: str | Sequence[str] | None = None,
    agent: str | None = None,
    token: str | None = None,
    profile: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
    files: str | os.PathLike[str] | None = None,
    client_certificate: str | os.PathLike[str] | None = None,
    key_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    trusted_keys: str | os.PathLike[str] | None = None,
    require_signature: bool | Iterable[str] | None = None,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> Settings:
    """Settings from arguments, the environment and the profile file, in this order.

    Args:
        url: one URL, several with commas between, or a sequence of them.
        agent: the agent's name; taken from the token if absent.
        token: the agent's token.
        profile: a profile file's path, or a name for ``~/.config/trishula/NAME.toml``.
        ca_file: PEM certificates of the authorities that sign the nodes' certificates, in place of the system's.
        proxy: ``http://[USER:PASSWORD@]HOST:PORT``, through which the nodes are reached, or ``"off"``.
        files: a folder for the agent's messages as files.
        client_certificate: PEM with a certificate and its key, for who asks for one in TLS.
        key_file: the agent's own key, by which it signs what it sends, and joins if it has no token; or several, of
            which the first one counts for both.
        trusted_keys: the file with the keys of others, whose signatures count.
        require_signature: ``True``, or the types of messages that are taken only with a good signature.
        environ: the environment; the process's own if absent.
        home: the home directory; the user's if absent. Who has none has no profile either, unless it is named by
            its path.

    Raises:
        SettingsInvalid: a value breaks its rule; the sentence says which and where it came from.
        TokenMissing: there is neither a token nor a key anywhere.
    """
    environ = os.environ if environ is None else environ
    wanted = (
        require_signature
        if require_signature is None or isinstance(require_signature, bool)
        else list(require_signature)
    )
    given = {"key_file": key_file, "trusted_keys": trusted_keys, "require_signature": wanted}
    path, named_by = profile_path(profile, environ, home_directory() if home is None else home)
    from_file = {} if path is None else read_profile(path, named_by)

    def found(key: str, argument: object = None) -> tuple[object, str]:
        variable = f"TRISHULA_{key.upper()}"
        return first(
            (argument, f"the argument {key}"),
            (environ.get(variable), variable),
            (from_file.get(key), f"{key} in {path}"),
        )

    found_url, url_from = found("url", url)
    found_agent, agent_from = found("agent", agent)
    found_failback, failback_from = found("failback")
    found_token, token_from = first(
        (token, "the argument token"),
        (environ.get("TRISHULA_TOKEN"), "TRISHULA_TOKEN"),
        (from_file.get("token"), f"the profile {path}"),
    )
    keys = _keys(given, environ, from_file, path)
    urls = (DEFAULT_URL,) if found_url is None else parse_urls(found_url, url_from)
    if found_token is None and keys.key_file is None:
        raise TokenMissing(
            "there is no token: give the argument token, set TRISHULA_TOKEN, or write token or token_file into "
            f"{path or 'a profile file'}; an operator makes one with 'trishula token new NAME'"
        )
    if found_agent is not None and not is_agent_name(found_agent):
        raise SettingsInvalid(f"{agent_from} is {found_agent!r}; an agent's name is {AGENT_RULE}")
    token_text, key, name = "", None, found_agent
    if found_token is not None:
        if not isinstance(found_token, str):
            raise SettingsInvalid(f"{token_from} must give the token as a string")
        # The mark is what an editor put before the text of a variable's file.
        token_text = found_token.removeprefix("\ufeff").strip()
        name = _owner(token_text, token_from)
    elif keys.key_file is not None:
        key = _key_in(keys.key_file)
    if name is None:
        raise SettingsInvalid(
            f"{keys.key_file} holds a key, which doesn't say whose it is: give the argument agent, set TRISHULA_AGENT, "
            f"or write agent into {path or 'a profile file'}"
        )
    if found_agent is not None and found_agent != name:
        raise SettingsInvalid(
            f"{agent_from} is {found_agent!r}, and {token_from} gives a token of {name!r}: an agent uses its own token"
        )
    found_ca_file, ca_file_from = found("ca_file", ca_file)
    found_shown, shown_from = found("client_certificate", client_certificate)
    found_proxy, proxy_from = found("proxy", proxy)
    found_files, files_from = found("files", files)
    found_unsigned, unsigned_from = found("files_unsigned")
    found_after, after_from = found("fallback_after")
    token_file = from_file.get("token_file") if token_text and token_text == from_file.get("token") else None
    return Settings(
        urls,
        str(name),
        token_text,
        _failback_s(found_failback, failback_from),
        token_file if isinstance(token_file, Path) else None,
        None if found_ca_file is None else read_ca_file(found_ca_file, ca_file_from),
        _proxies(found_proxy, proxy_from, environ, urls),
        None if found_files is None else _folder(found_files, files_from),
        _agents(found_unsigned, unsigned_from),
        _fallback_after_s(found_after, after_from),
        keys,
        key,
        None if found_shown is None else read_client_certificate(found_shown, shown_from),
        _is_on(*found("compression")),
    )


def given_keys(**given: object) -> KeySettings:
    """The settings of keys by arguments alone, as :func:`load` takes them; errors as there."""
    none = dict.fromkeys(("key_file", "trusted_keys", "require_signature"))
    return _keys({**none, **given}, {}, {}, None)


def _keys(
    given: Mapping[str, object], environ: Mapping[str, str], from_file: Mapping[str, object], path: Path | None
) -> KeySettings:
    def found(name: str, variable: str) -> tuple[object, str]:
        return first(
            (given[name], f"the argument {name}"),
            (environ.get(variable), variable),
            (from_file.get(name), f"{name} in {path}"),
        )

    try:
        return key_settings(found, expanded_from)
    except ValueError as error:
        raise SettingsInvalid(str(error)) from None


def parse_urls(value: object, source: str) -> tuple[str, ...]:
    """The nodes' URLs of a string with commas or of a list, each checked and completed with the path ``/ws``.

    Raises:
        SettingsInvalid: if one of them is no WebSocket URL, or there is none.
    """
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise SettingsInvalid(f"{source} must be a URL, several with commas between, or a list of them")
    urls = tuple(_complete(part.strip(), source) for part in parts if part.strip())
    if not urls:
        raise SettingsInvalid(f"{source} names no node; it must hold URLs such as {DEFAULT_URL}")
    # The same node twice would only be tried twice in each round.
    return tuple(dict.fromkeys(urls))


def _complete(url: str, source: str) -> str:
    rule = f"it must be ws://HOST:PORT/{WEBSOCKET_PATH} or wss://HOST:PORT/{WEBSOCKET_PATH}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsInvalid(f"{source} has the URL {url!r}; {rule}") from None
    if looks_like_a_token(url) or looks_like_a_token(parts.netloc):
        raise SettingsInvalid(f"{source} seems to hold a token (it is not shown); {rule}")
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0 or parts.fragment or not _is_plain(url):
        raise SettingsInvalid(f"{source} has the URL {url!r}; {rule}")
    if parts.username or parts.password:
        # Not shown: what stands before the @ may be a secret.
        raise SettingsInvalid(
            f"{source} has a URL with a user name in it; {rule}, and the token is given apart from it"
        )
    path = f"/{WEBSOCKET_PATH}" if parts.path in ("", "/") else parts.path
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _is_plain(url: str) -> bool:
    """Whether it can be shown and sent: bytes of a variable that are no text can't, and a space is a slip."""
    return url.isprintable() and not any(char.isspace() for char in url)


def _failback_s(value: object, source: str) -> float | None:
    if value is None:
        return DEFAULT_FAILBACK_S
    if value == "off":
        return None
    try:
        seconds = parse_duration_s(value)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 86_400.0:
        raise SettingsInvalid(f'{source} is {value!r}; it must be a duration from "1s" to "1d", or "off"')
    return seconds


def _fallback_after_s(value: object, source: str) -> float:
    if value is None:
        return DEFAULT_FALLBACK_AFTER_S
    try:
        seconds = parse_duration_s(value)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400.0:
        raise SettingsInvalid(f'{source} is {value!r}; it must be a duration from "100ms" to "1d"')
    return seconds


def _is_on(value: object, source: str) -> bool:
    if value not in (None, "on", "off"):
        raise SettingsInvalid(f'{source} is {value!r}; it must be "on" or "off"')
    return value == "on"


def _folder(value: object, source: str) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise SettingsInvalid(f"{source} must be the path of a folder")
    return expanded_from(os.fspath(value), source)


def _agents(value: object, source: str) -> tuple[str, ...]:
    if value is None:
        return ()
    names = [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(one, str) and is_agent_name(one) for one in names):
        raise SettingsInvalid(f"{source} is {value!r}; it must be a list of agents, each {AGENT_RULE}")
    return tuple(names)


def _key_in(path: Path) -> AgentKey:
    # Late: who joins with a token needs no cryptography.
    from trishula.key_file import read_key_file

    try:
        return read_key_file(path)
    except ValueError as error:
        raise SettingsInvalid(str(error)) from None


def _proxies(value: object, source: str, environ: Mapping[str, str], urls: Sequence[str]) -> Proxies:
    exempt = _variable(environ, "NO_PROXY")[0].split(",")
    exempt = [one.strip() for one in exempt if one.strip()]
    if value == "off":
        return DIRECT
    is_own = value is not None
    if not is_own:
        value, source = _variable(environ, "HTTPS_PROXY")
        if not value:
            return DIRECT
    try:
        proxy = parse_proxy(value)
    except ValueError as error:
        if not is_own and all(Proxies(shared=Proxy("any", 1), exempt=tuple(exempt)).of(url) is None for url in urls):
            # It is there for other programs, and leads to none of our nodes.
            return DIRECT
        # The value is not shown: there may be a password in it.
        raise SettingsInvalid(f'{source} is no proxy that can be used: {error}; "off" means none') from None
    return Proxies(proxy if is_own else None, None if is_own else proxy, tuple(exempt))


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable that other programs share, which some write in small letters; and its name."""
    for one in (name.lower(), name):
        if environ.get(one):
            return environ[one], one
    return "", name


def _owner(token: str, source: str) -> str:
    name = owner_of(token)
    if name is None:
        raise SettingsInvalid(f"the token from {source} is no token: it must look like NAME.SECRET")
    return name
