"""The TLS files of a listening endpoint: whether Crossbar can use them, and by which name clients reach the node.

Crossbar reads the files when it starts the transport; what it can't use then ends the node. So all of it is found out
before: each file by itself, with its key path, and then all together by what Crossbar does with them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trishula_router.settings.faults import MISSING, WHOLE, Fault

__all__ = ["TLS_FILES", "TLS_LISTS", "check_tls", "name_for", "said"]

#: The keys of an endpoint's ``tls`` that name a file, and those that name several.
TLS_FILES = ("key", "certificate", "dhparam")
TLS_LISTS = ("chain_certificates", "ca_certificates")
_KEYS = (*TLS_FILES, *TLS_LISTS, "ciphers")
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_ONE_ONLY = (
    "it must hold one certificate, for Crossbar reads the first one of a file; put each of the others into a file of "
    "its own, and name those in chain_certificates"
)


def check_tls(tls: object, path: str, base: Path, *, for_agents: bool) -> Iterator[Fault]:
    """Every fault of the ``tls`` of a listening endpoint.

    Args:
        tls: what stands there.
        path: where.
        base: the directory that relative names of files start from.
        for_agents: whether agents come in there.
    """
    if not isinstance(tls, dict):
        yield Fault(path, tls, "it must be a map")
        return
    for key in tls:
        if key not in _KEYS:
            yield Fault(f"{path}.{key}", tls[key], f"it is an unknown key; the known keys are {', '.join(_KEYS)}")
    if for_agents and "ca_certificates" in tls:
        rule = (
            "it must go: who starts this node, and asks whether it is well, shows no certificate; have nginx before it "
            "ask agents for theirs (deploy/docs/howto/mutual-tls.rst)"
        )
        yield Fault(f"{path}.ca_certificates", WHOLE, rule)
    key, key_fault = _read_key(tls.get("key", MISSING), base)
    if key_fault is not None:
        yield Fault(f"{path}.key", tls.get("key", MISSING), key_fault)
    certificate, fault = _read_certificate(tls.get("certificate", MISSING), base)
    if fault is not None:
        yield Fault(f"{path}.certificate", tls.get("certificate", MISSING), fault)
    chain: list[Any] = []
    is_whole = key is not None and certificate is not None
    for name in TLS_LISTS:
        listed = tls.get(name, [])
        if not isinstance(listed, list):
            yield Fault(f"{path}.{name}", listed, "it must be a list of files")
            continue
        for index, file in enumerate(listed):
            found, fault = _read_certificate(file, base)
            if fault is not None:
                is_whole = False
                yield Fault(f"{path}.{name}[{index}]", file, fault)
            elif name == "chain_certificates":
                chain.append(found)
    for name in ("dhparam", "ciphers"):
        if not isinstance(tls.get(name, ""), str):
            yield Fault(f"{path}.{name}", tls[name], "it must be a string")
    if is_whole:
        try:
            _build(key, certificate, chain)
        except Exception as error:
            # Whatever OpenSSL finds: a key of another certificate, one that is too short, a digest that is too weak.
            rule = f"it must be a key and its certificate that OpenSSL takes, and that says: {said(error)}"
            yield Fault(path, WHOLE, rule)


def _content(name: object, base: Path) -> tuple[bytes, str | None]:
    if not isinstance(name, str) or not name:
        return b"", "it must be the path of a file, relative to this file"
    try:
        return (base / name).read_bytes(), None
    except OSError as error:
        return b"", f"it must be a file that can be read, relative to this file: {error.strerror}"


def _read_key(name: object, base: Path) -> tuple[Any, str | None]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, fault = _content(name, base)
    if fault is not None:
        return None, fault
    try:
        return load_pem_private_key(content, password=None), None
    except TypeError:
        return None, "it must not be encrypted: nobody is there to type a passphrase when a node starts"
    except Exception:
        # A ValueError, or what an algorithm is called that this build doesn't know.
        return None, "it must hold a private key in PEM"


def _read_certificate(name: object, base: Path) -> tuple[Any, str | None]:
    from cryptography.x509 import load_pem_x509_certificate

    content, fault = _content(name, base)
    if fault is not None:
        return None, fault
    if content.count(_BEGIN) > 1:
        return None, _ONE_ONLY
    try:
        return load_pem_x509_certificate(content), None
    except Exception:
        return None, "it must hold a certificate in PEM"


def _build(key: Any, certificate: Any, chain: list[Any]) -> None:
    """What Crossbar does with them.

    Raises:
        Exception: if OpenSSL doesn't take them.
    """
    # Half a second of imports, for those who have TLS.
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from twisted.internet import ssl

    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    original = [ssl.Certificate.loadPEM(one.public_bytes(Encoding.PEM).decode()).original for one in chain]
    ssl.CertificateOptions(
        privateKey=ssl.KeyPair.load(pem, 1).original,
        certificate=ssl.Certificate.loadPEM(certificate.public_bytes(Encoding.PEM).decode()).original,
        extraCertChain=original or None,
        raiseMinimumTo=ssl.TLSVersion.TLSv1_3,
    ).getContext()


def said(error: Exception) -> str:
    """OpenSSL's own words, which come as a list of triples; else the error's."""
    found = error.args[0] if error.args else None
    if isinstance(found, list) and found and isinstance(found[0], tuple):
        return str(found[0][-1])
    return " ".join(str(error).split()) or type(error).__name__


def name_for(certificate: Path, host: str) -> str:
    """By which name a client that checks the certificate reaches a node that listens on ``host``.

    That is ``host`` itself if the certificate has it, else the first name that it has, without a ``*``.
    """
    from cryptography import x509

    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return host
    hosts = names.get_values_for_type(x509.DNSName)
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    try:
        is_there = str(ipaddress.ip_address(host)) in addresses
    except ValueError:
        is_there = host in hosts
    if is_there:
        return host
    return next((one for one in (*hosts, *addresses) if "*" not in one), host)
