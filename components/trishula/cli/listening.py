"""Where a command's server listens: on this machine only, for tokens must not travel in the clear."""

from __future__ import annotations

import ipaddress
import socket

import click

__all__ = ["address_of", "listen"]


def address_of(text: str, option: str, way_out: str) -> tuple[str, int]:
    """Host and port, from ``PORT`` or ``HOST:PORT``.

    Args:
        text: what was given.
        option: by which option, for sentences.
        way_out: the option that names the proxy with TLS before it.

    Raises:
        click.UsageError: it is no address, or not one of this machine's own.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    rule = f"{option} is {text!r}; it must be PORT or HOST:PORT, with a port from 0 to 65535"
    try:
        number = int(port)
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise click.UsageError(rule) from None
    if not 0 <= number <= 65535:
        raise click.UsageError(rule)
    if not address.is_loopback:
        raise click.UsageError(
            f"{option} is {text!r}: tokens would travel in the clear; listen on 127.0.0.1, and have a proxy with TLS "
            f"before it, named by {way_out}"
        )
    return str(address), number


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens there.

    Raises:
        click.ClickException: it can't.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        raise click.ClickException(f"can't listen on {address[0]} port {address[1]}: {error.strerror}") from None
