"""What went wrong in the TLS of a link, in words: Autobahn says of it that the connection was lost."""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import VerificationError

__all__ = ["tls_fault"]


def tls_fault(error: object) -> str | None:
    """Why TLS ended a connection, as a clause on the peer; ``None`` if it was not TLS.

    Args:
        error: with which the connection was lost.
    """
    if isinstance(error, VerificationError):
        return "its certificate is for other hosts than the link's tls.hostname"
    if not isinstance(error, SSL.Error):
        return None
    # (library, function, reason) each.
    told = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = ", ".join(dict.fromkeys(str(one[-1]) for one in told if one)) or "no reason was told"
    if "certificate verify failed" in reasons:
        # OpenSSL knows which, and pyOpenSSL has no public word for it.
        return (
            "its certificate is not trusted: it is over, or none of the link's tls.ca_certificates has signed it "
            "(trishula doctor, at this node, tells which)"
        )
    return f"the two can't agree on TLS: {reasons}"
