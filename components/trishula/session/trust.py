"""Whose word on a node's certificate counts, why a certificate is not trusted, and what TLS shows of us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet.ssl import Certificate, PrivateCertificate, trustRootFromCertificates

from trishula.named_files import open_file

__all__ = ["shown_by", "trust_in", "why_not_trusted"]

#: What OpenSSL calls what it finds (``X509_V_ERR_…``).
_NOT_YET, _ENDED = 9, 10
#: Among them 7, a bad signature: an authority of the same name as one that is known, made anew.
_NOBODY_KNOWN = frozenset({2, 7, 18, 19, 20, 21})


def trust_in(ca_file: Path | None) -> Any:
    """What Twisted is to trust: the authorities in a file, as it is now; without one ``None``, the system's.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificates.
    """
    if ca_file is None:
        return None
    found = load_pem_x509_certificates(_content_of(ca_file))
    certificates = [Certificate.loadPEM(one.public_bytes(Encoding.PEM)) for one in found]
    return trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]


def shown_by(client_certificate: Path | None) -> dict[str, Any]:
    """What TLS is to show of us if it is asked, as options of Twisted's: the file as it is now, without one nothing.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificate with its key.
    """
    if client_certificate is None:
        return {}
    text = _content_of(client_certificate)
    chain = load_pem_x509_certificates(text)[1:]
    try:
        shown: Any = PrivateCertificate.loadPEM(text)  # type: ignore[no-untyped-call]
    except SSL.Error:
        raise ValueError("it holds no key in PEM") from None
    more = [Certificate.loadPEM(one.public_bytes(Encoding.PEM)).original for one in chain]
    return {"clientCertificate": shown, **({"extraCertificateOptions": {"extraCertChain": more}} if more else {})}


def _content_of(path: Path) -> bytes:
    # It is read anew at each connection: a pipe would do for the first.
    with open_file(path) as file:
        return file.read()


def why_not_trusted(handle: Any, ca_file: Path | None) -> str | None:
    """Why a node's certificate was refused, and what to do; ``None`` if it wasn't, or nobody knows.

    The error says of every certificate that OpenSSL failed to verify it, and the connection has the reason. It is only
    read, for whoever puts a function of their own there, to hear the reason, takes the place of Twisted's, which looks
    whether the certificate is for the host. There is no public name for the reason (pyOpenSSL 26.4).

    Args:
        handle: pyOpenSSL's connection, which an error ended.
        ca_file: whose authorities are trusted; ``None``: the system's.
    """
    result = getattr(getattr(SSL, "_lib", None), "SSL_get_verify_result", None)
    connection = getattr(handle, "_ssl", None)
    if result is None or connection is None:
        return None
    return _sentence(int(result(connection)), ca_file)


def _sentence(code: int, ca_file: Path | None) -> str | None:
    if code == _ENDED:
        return "its certificate has ended, and the node needs a new one, or the clock of this machine is wrong"
    if code == _NOT_YET:
        return "its certificate is not valid yet: is the clock of this machine right?"
    if code in _NOBODY_KNOWN:
        if ca_file is not None:
            return f"its certificate is of another authority than those in ca_file {ca_file}"
        return (
            "its certificate is of an authority that this system doesn't know; if it is your own, name the file with "
            "its certificate as ca_file, or in TRISHULA_CA_FILE"
        )
    return None
