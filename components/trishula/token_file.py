"""A token, the file that a profile may name for it, and which token an agent that runs joins with.

The file is read again at each join: a token that is replaced while an agent runs is taken at the next one, without a
restart. A file that can't be used then (it is being written, say) ends nobody: the agent goes on with the token that it
has, and says so.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from trishula.contract.addresses import is_agent_name
from trishula.named_files import open_stream

__all__ = ["CurrentToken", "looks_like_a_token", "owner_of", "read_token"]

_log = logging.getLogger("trishula")


def owner_of(token: str) -> str | None:
    """The agent whose token that is; ``None`` if it is no token: ``NAME.SECRET`` in printable ASCII, without spaces."""
    name, _, secret = token.partition(".")
    is_plain = token.isascii() and token.isprintable() and " " not in token
    return name if secret and is_plain and is_agent_name(name) else None


#: The secret of a token is 32 letters, digits, - and _.
_SECRET = re.compile(r"\.[A-Za-z0-9_-]{27,}\Z")


def looks_like_a_token(text: str) -> bool:
    """Whether a text that stands where something else belongs seems to be a token, and had better not be shown.

    A name of a host may look like one as well, so a letter in upper case must be in it: each token has some.
    """
    return owner_of(text) is not None and _SECRET.search(text) is not None and text != text.lower()


def read_token(path: Path) -> str:
    """What stands in a token's file, without the white space around it and the mark that some editors begin with.

    Raises:
        ValueError: it can't be read, or is not text; the sentence says why.
    """
    try:
        with open_stream(path) as file:
            return file.read().decode("utf-8-sig").strip()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None


class CurrentToken:
    """The token of one agent, as it is at each join.

    Args:
        agent: whose.
        token: what holds at first.
        path: the file that it came from; ``None`` if it came from none, and stays as it is.
    """

    def __init__(self, agent: str, token: str, path: Path | None) -> None:
        self._agent = agent
        self._token = token
        self._path = path

    def now(self) -> str:
        """The token to join with now."""
        if self._path is None:
            return self._token
        try:
            found = read_token(self._path)
            owner = owner_of(found)
            if owner is None:
                raise ValueError(f"{self._path} holds no token: it must look like NAME.SECRET")
            if owner != self._agent:
                raise ValueError(f"{self._path} holds a token of {owner}")
        except ValueError as error:
            _log.warning("%s; %s joins with the token that it had", error, self._agent)
            return self._token
        if found != self._token:
            _log.info("%s joins with the new token of %s", self._agent, self._path)
            self._token = found
        return self._token
