"""What a proxy worker shows to clients that speak TLS: the certificate, and what is asked of theirs.

It does what Crossbar does with the same keys of an endpoint (``crossbar.common.twisted.endpoint``): TLS 1.3 alone, no
sessions to resume. Crossbar itself is not imported for it: that takes a process 70 MiB and some seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from OpenSSL.crypto import X509, load_certificate
from twisted.internet import ssl

from trishula_router.settings.certificates import TLS_FILES, TLS_LISTS
from trishula_router.upstream.renewal import Renewing, Told

__all__ = ["certificate_of"]

_PEM = 1


def certificate_of(tls: Mapping[str, Any], told: Told) -> Renewing:
    """What Twisted makes the node's end of TLS connections with.

    Args:
        tls: of the endpoint; its files are absolute.
        told: of files that were replaced.

    Raises:
        Exception: if the files can't be read, or OpenSSL doesn't take them.
    """
    files = [Path(tls[key]) for key in TLS_FILES if key in tls]
    files += [Path(name) for key in TLS_LISTS for name in tls.get(key, ())]
    return Renewing(lambda: _build(tls), files, Path(tls["certificate"]), told)


def _build(tls: Mapping[str, Any]) -> ssl.CertificateOptions:
    authorities = [_read(name) for name in tls["ca_certificates"]] if "ca_certificates" in tls else None
    return ssl.CertificateOptions(
        privateKey=ssl.KeyPair.load(Path(tls["key"]).read_bytes(), _PEM).original,
        certificate=_read(tls["certificate"]),
        extraCertChain=[_read(name) for name in tls.get("chain_certificates", ())] or None,
        verify=authorities is not None,
        caCerts=authorities,
        raiseMinimumTo=ssl.TLSVersion.TLSv1_3,
        enableSingleUseKeys=True,
        enableSessions=False,
        enableSessionTickets=False,
        fixBrokenPeers=False,
    )


def _read(name: str) -> X509:
    return load_certificate(_PEM, Path(name).read_bytes())
