"""The bus's own certificate authority: it signs the nodes' certificates, and agents, peers and nginx trust it alone.

An authority of one's own needs no domain, no port 80 and no renewal every 90 days, and nobody else can issue a
certificate that the agents would take. Its key signs nothing but the nodes' certificates, so it stays off the servers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["AUTHORITY_DAYS", "NODE_DAYS", "SHARED_NAME", "Pair", "issue", "new_authority"]

AUTHORITY_DAYS = 3650
#: What browsers and Apple's systems take at most.
NODE_DAYS = 825
#: A name that each node's certificate has: by it nginx, which verifies all its upstreams by one name, knows each.
SHARED_NAME = "node.trishula"
#: Clocks differ: a certificate of this minute would be from the future for others.
_EARLIER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both in PEM."""

    certificate: str
    key: str


def new_authority(name: str, now: datetime) -> Pair:
    """An authority.

    Args:
        name: what people read in its certificate.
        now: with a zone.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = _certificate(subject, subject, key, now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = _usage(sign_certificates=True)
    return _pair(builder.add_extension(usage, critical=True), key, key, key)


def issue(authority: Pair, node: str, hosts: Sequence[str], now: datetime, *, key: str | None = None) -> Pair:
    """The certificate of a node.

    Args:
        authority: who signs.
        node: the node's name, for people.
        hosts: the names and addresses under which it is reached.
        now: with a zone.
        key: the key that it has already; ``None`` for a new one.

    Raises:
        ValueError: the authority or the key can't be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer, own = _key_of(authority.key), ec.generate_private_key(ec.SECP256R1()) if key is None else _key_of(key)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node)])
    names = x509.SubjectAlternativeName([_general(host) for host in dict.fromkeys((*hosts, SHARED_NAME))])
    builder = (
        _certificate(subject, issuer.subject, own, now, NODE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
    )
    return _pair(builder, own, signer, signer)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(
    builder: x509.CertificateBuilder,
    key: EllipticCurvePrivateKey,
    signer: EllipticCurvePrivateKey,
    issuer: EllipticCurvePrivateKey,
) -> Pair:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    signed = builder.add_extension(identifier, critical=False).sign(signer, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(signed.public_bytes(Encoding.PEM).decode(), private.decode())


def _key_of(pem: str) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("it is no key of an elliptic curve")
    return key


def _general(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
