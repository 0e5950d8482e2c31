"""The token of a delivery, by which a client acknowledges it."""

from __future__ import annotations

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid

__all__ = ["EPOCH_LENGTH", "no_token", "read_token", "token_in", "token_of"]

#: So much of an epoch in a token tells it from any other, and costs a delivery few bytes.
EPOCH_LENGTH = 8


def token_of(position: int, attempt: int, epoch: str) -> str:
    """The token of a delivery; see :func:`read_token`."""
    return f"{position}.{attempt}.{epoch[:EPOCH_LENGTH]}"


def read_token(raw: object, path: str, epoch: str) -> tuple[int, int]:
    """The position and the attempt that a delivery's token names.

    The token is ``position.attempt.epoch``, of the epoch its beginning. Clients treat it as opaque; whose message it
    is, is checked where it is used, so that a guessed token gets nobody anything. A token of another epoch names
    position 0, where no message is: the store was restored since, and that position may have another message now.
    """
    found = token_in(raw, epoch)
    if found is None:
        raise no_token(raw, path)
    return found


def no_token(raw: object, path: str) -> ArgumentInvalid:
    """What is said of a token that is none."""
    return ArgumentInvalid(f"{path} is {show_value(raw)}; it must be the token of a delivery")


def token_in(raw: object, epoch: str) -> tuple[int, int] | None:
    """:func:`read_token`, or ``None`` if it is no token."""
    if isinstance(raw, str) and len(raw) <= 40 + EPOCH_LENGTH:
        position, _, rest = raw.partition(".")
        attempt, dot, of_epoch = rest.partition(".")
        if position.isascii() and position.isdigit() and attempt.isascii() and attempt.isdigit():
            number = int(position)
            if number < 2**63:
                return (number if not dot or of_epoch == epoch[:EPOCH_LENGTH] else 0), int(attempt)
    return None
