"""The files that the settings name for TLS: whose word on a node's certificate counts, and what is shown of us."""

from __future__ import annotations

import os
from pathlib import Path

from trishula.profile_file import SettingsInvalid, expanded_from

__all__ = ["read_ca_file", "read_client_certificate"]


def read_ca_file(value: object, source: str) -> Path:
    """The file of authorities that a setting names.

    Raises:
        SettingsInvalid: it holds none; the sentence begins with ``source``.
    """
    if not isinstance(value, str | os.PathLike):
        raise SettingsInvalid(f"{source} must be the path of a file with PEM certificates")
    path = expanded_from(os.fspath(value), source)
    # Late: few programs have one.
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise SettingsInvalid(f"{source} names {path}, which holds no certificates in PEM") from None
    except OSError as error:
        raise SettingsInvalid(f"{source} names {path}, which can't be read: {error.strerror}") from None
    return path


def read_client_certificate(value: object, source: str) -> Path:
    """The file of a certificate and its key that a setting names; errors as above."""
    if not isinstance(value, str | os.PathLike):
        raise SettingsInvalid(f"{source} must be the path of a file with a certificate and its key in PEM")
    path = expanded_from(os.fspath(value), source)
    # Late: few programs have one.
    import ssl

    try:
        # Nobody is asked for a passphrase.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, password=lambda: "")
    except ssl.SSLError:
        raise SettingsInvalid(
            f"{source} names {path}, which doesn't hold a certificate and behind it its key, in PEM and without a "
            "passphrase"
        ) from None
    except OSError as error:
        raise SettingsInvalid(f"{source} names {path}, which can't be read: {error.strerror}") from None
    return path
