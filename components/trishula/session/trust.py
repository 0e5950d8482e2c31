"""Whose word on a node's certificate counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.ssl import Certificate, trustRootFromCertificates

__all__ = ["trust_in"]


def trust_in(ca_file: Path | None) -> Any:
    """What Twisted is to trust: the authorities in a file, as it is now; without one ``None``, the system's.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificates.
    """
    if ca_file is None:
        return None
    found = load_pem_x509_certificates(ca_file.read_bytes())
    certificates = [Certificate.loadPEM(one.public_bytes(Encoding.PEM)) for one in found]
    return trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]
