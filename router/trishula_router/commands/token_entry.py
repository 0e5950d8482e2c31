"""What a command adds to an agent: a token that it makes, or a key that was made elsewhere (``--public-key``)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import click

from trishula.contract import uris
from trishula.contract.signing_key import is_sound_key
from trishula.exit_codes import Exit
from trishula_router.agents.changes import short_id
from trishula_router.agents.revocations import Revocations
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import TokenEntry, digest_of, find_key, key_entry, new_token
from trishula_router.commands.state_dir import CommandFailed
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import listener_of
from trishula_router.settings.faults import ConfigError

__all__ = ["made_entry", "public_key_option", "refuse_known_key", "takes_no_keys"]

public_key_option = click.option(
    "--public-key",
    metavar="KEY",
    help="Make no token: the agent joins with this key, which trishula token key prints on its machine.",
)


def made_entry(
    name: str,
    public_key: str | None,
    token_file: Path | None,
    made_s: float,
    not_before_s: float | None,
    expires_s: float | None,
) -> tuple[str | None, TokenEntry]:
    """The token that was made, ``None`` if there is a key in its place, and what is kept of it.

    Raises:
        CommandFailed: the key is none, or there is no token to write into a file.
    """
    if public_key is None:
        made = new_token(name, secrets.token_urlsafe)
        return made, TokenEntry(digest_of(made), made_s, not_before_s, expires_s)
    if token_file is not None:
        raise click.UsageError("--write is for a token, and with --public-key none is made: leave one of them out")
    public_key = public_key.strip().lower()
    if not is_sound_key(public_key):
        # Not shown: it might be the private one.
        raise CommandFailed(
            "--public-key is no public key: that is 64 hexadecimal digits, as trishula token key prints them",
            Exit.USAGE,
        )
    return None, key_entry(public_key, made_s, not_before_s, expires_s)


def refuse_known_key(agents: Mapping[str, AgentEntry], new: TokenEntry, revocations: Revocations) -> None:
    """See that a key is nobody's yet, and was not taken away.

    Raises:
        CommandFailed: it is, or was.
    """
    if new.ed25519 is None:
        return
    for name, record in agents.items():
        if find_key(record.tokens, new.ed25519) is not None:
            raise CommandFailed(
                f"the key {short_id(new)} is there already, as {name}'s: a key is one agent's, and stands there once",
                Exit.CONFIG,
            )
    if revocations.of("", new) is not None:
        raise CommandFailed(
            f"the key {short_id(new)} was revoked, which nothing takes back: make a new one with trishula token key, "
            "on the agent's machine",
            Exit.CONFIG,
        )


def takes_no_keys(state_dir: Path) -> str | None:
    """What is to be said if the node that ran on a state directory last takes tokens alone."""
    try:
        paths = listener_of(read_config_file(state_dir / "crossbar" / "config.json"))["paths"]
    except (ConfigError, LookupError):
        # None has run yet, and the next one takes keys.
        return None
    if "cryptosign" in paths[uris.WEBSOCKET_PATH].get("auth", {}):
        return None
    return (
        f"the node that ran on {state_dir} last is of an earlier release, which knows no keys: it goes on with the "
        "agents that it knows until it is started anew with this one"
    )
