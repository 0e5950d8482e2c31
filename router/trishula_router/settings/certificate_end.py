"""When the certificate ends that a node shows to agents, by the configuration that Crossbar runs with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from trishula_router.settings.crossbar_config import listen_endpoint_of

__all__ = ["CertificateEnd"]

#: The file is read anew so often: a certificate is renewed in place, and is then no reason for an alert.
_READ_EVERY_MS = 60_000


class CertificateEnd:
    """See the module's docstring; called, it answers in ms, or ``None`` where there is no certificate.

    Args:
        config: Crossbar's configuration.
        now: the wall clock in ms.
    """

    def __init__(self, config: Path, now: Callable[[], int]) -> None:
        self._config = config
        self._now = now
        self._read_at: int | None = None
        self._ends_at: int | None = None

    def __call__(self) -> int | None:
        """When it ends."""
        now = self._now()
        if self._read_at is None or abs(now - self._read_at) > _READ_EVERY_MS:
            self._read_at, self._ends_at = now, self._read()
        return self._ends_at

    def _read(self) -> int | None:
        try:
            certificate = listen_endpoint_of(
                json.loads(self._config.read_text(encoding="utf-8")), self._config.parent
            ).certificate
            if certificate is None:
                return None
            found = x509.load_pem_x509_certificate(certificate.read_bytes())
        except (OSError, ValueError, LookupError):
            # Under "crossbar start" the configuration lies elsewhere. Of a certificate that is none Crossbar complains.
            return None
        return round(found.not_valid_after_utc.timestamp() * 1000)
