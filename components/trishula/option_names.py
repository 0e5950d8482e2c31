"""What a profile file and the environment may say, each key and variable with its meaning; pages are made of it."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PROFILE_KEYS", "VARIABLES"]

#: What a profile file may say, and what it means.
PROFILE_KEYS: Mapping[str, str] = {
    "url": "a node's URL, or a list of them in order of preference; a bare ``ws://HOST:PORT`` means its path ``/ws``",
    "agent": "the agent's name; may be left out where there is a token, which has it",
    "token": "the agent's token",
    "token_file": "the file that holds the token, read again at each join; a relative path is relative to the profile",
    "failback": "how long a better node must have been there again before an agent goes back to it, or ``off``",
    "ca_file": "PEM certificates of the authorities that sign the nodes' certificates, in place of the system's",
    "client_certificate": "PEM with a certificate and its key, for a node, or a proxy before it, that asks clients for "
    "one; relative to the profile",
    "proxy": "``http://[USER:PASSWORD@]HOST:PORT``, through which the nodes are reached, or ``off``",
    "compression": "``on`` asks nodes on other machines for permessage-deflate, for slow lines; ``off`` without it",
    "files": "a folder for the agent's messages as files, while no node is there; relative to the profile",
    "files_unsigned": "agents whose files are taken without a signature, in a list",
    "key_file": "the agent's own key, by which it signs what it sends, and joins if it has no token; relative to the "
    "profile. Or a list: it signs and joins by the first one",
    "trusted_keys": "the file with the keys of others, whose signatures count; relative to the profile",
    "require_signature": "``true``, or a list of the types of messages that are taken only with a good signature",
    "fallback_after": "how long no node must have been there before messages go to files as well",
}

#: The environment variables that we read, of every command and program, and what they mean.
VARIABLES: Mapping[str, str] = {
    "TRISHULA_URL": "the nodes, in order of preference, with commas between; before ``url`` of the profile",
    "TRISHULA_TOKEN": "the agent's token; before ``token`` and ``token_file`` of the profile",
    "TRISHULA_AGENT": "the agent's name; before ``agent`` of the profile",
    "TRISHULA_FAILBACK": "the same as ``failback`` of the profile, and before it",
    "TRISHULA_CA_FILE": "the same as ``ca_file`` of the profile, and before it",
    "TRISHULA_CLIENT_CERTIFICATE": "the same as ``client_certificate`` of the profile, and before it",
    "TRISHULA_PROXY": "the same as ``proxy`` of the profile, and before it; ``HTTPS_PROXY`` and ``NO_PROXY`` come last",
    "TRISHULA_COMPRESSION": "the same as ``compression`` of the profile, and before it",
    "TRISHULA_FILES": "the same as ``files`` of the profile, and before it",
    "TRISHULA_FILES_UNSIGNED": "the same as ``files_unsigned`` of the profile, and before it; with commas between",
    "TRISHULA_FALLBACK_AFTER": "the same as ``fallback_after`` of the profile, and before it",
    "TRISHULA_KEY_FILE": "the same as ``key_file`` of the profile, and before it",
    "TRISHULA_TRUSTED_KEYS": "the same as ``trusted_keys`` of the profile, and before it",
    "TRISHULA_REQUIRE_SIGNATURE": "the same as ``require_signature`` of the profile, and before it: ``true``, or types "
    "with commas between",
    "TRISHULA_PROFILE": "the profile: a file's path, or ``NAME`` for ``~/.config/trishula/NAME.toml``",
    "TRISHULA_AGENT_STATE": "the directory below which agents keep their files; ``~/.local/state/trishula`` without it",
    "TRISHULA_STATE": "a node's state directory, where neither ``--state`` nor the configuration names one",
    "TRISHULA_LOG_FORMAT": "the form of the log of a node or an agent: ``text``, ``json`` or ``auto``",
    "TRISHULA_LOG_LEVEL": "from which level on their logs have lines: ``error``, ``warning``, ``info`` or ``debug``",
    "TRISHULA_TRACES": "``on`` has agents make spans for OpenTelemetry, ``off`` not even where "
    "``OTEL_EXPORTER_OTLP_ENDPOINT`` is set",
    "TRISHULA_REMOTE_BEARER": "what ``trishula a2a agent`` shows as its bearer token at the other side",
    "TRISHULA_DEBUG": "with any value, a bug of the command line itself is shown with its traceback",
    "TRISHULA_TARGETS": "the file of the sample agent *agni*; else ``~/.config/trishula/agni.toml``",
    "TRISHULA_CHECKS": "the file of the sample agent *rushabdev*; else ``~/.config/trishula/rushabdev.toml``",
}
