"""Certificates for tests with real TLS: self-signed ones, and chains."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = ["Issuer", "make_certificate"]


class Issuer:
    """A certificate and its key, which may issue others; issued by itself, unless another one is given.

    Args:
        name: the subject.
        names: hosts and addresses; then it is no authority.
        by: who issues it.
        days: how long it is valid.
        rsa_bits: the length of an RSA key, in place of a curve.
    """

    def __init__(
        self, name: str, *names: str, by: Issuer | None = None, days: float = 30.0, rsa_bits: int | None = None
    ) -> None:
        self.key: Any = ec.generate_private_key(ec.SECP256R1())
        if rsa_bits is not None:
            self.key = rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = by or self
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=40))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=by is None or not names, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    def issuer(self, name: str) -> Issuer:
        """An authority below this one."""
        return Issuer(name, by=self)

    def leaf(self, *names: str, rsa_bits: int | None = None) -> Issuer:
        """The certificate of a host."""
        return Issuer("node", *names, by=self, rsa_bits=rsa_bits)

    def write(self, certificate: Path, key: Path | None = None, passphrase: bytes | None = None) -> None:
        """Write it, and its key if asked to, as PEM."""
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            key.write_bytes(self.private_pem(passphrase))

    def private_pem(self, passphrase: bytes | None = None) -> bytes:
        """Its key."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            encryption = serialization.BestAvailableEncryption(passphrase)
        pem: bytes = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return pem


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_certificate(folder: Path, days: float) -> Path:
    """A self-signed certificate for localhost and its key, in one file."""
    made = Issuer("localhost", "localhost", days=days)
    path = folder / f"{days}.pem"
    path.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM) + made.private_pem())
    return path
