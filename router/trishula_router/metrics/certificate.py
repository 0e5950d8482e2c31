"""When the certificate ends that a node shows to its agents: from the file that the running configuration names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from trishula_router.metrics.figures import Sample
from trishula_router.settings.crossbar_config import address_of

__all__ = ["Certificate"]

#: The file is read anew after so long: it is renewed in place.
_FRESH_S = 60.0


class Certificate:
    """The certificate of a node's endpoint for agents; none if that speaks no TLS, or its file can't be read.

    Args:
        state_dir: the node's; the running configuration is in Crossbar's directory there. Under ``crossbar start``
            it may be elsewhere, and then nothing is known.
    """

    def __init__(self, state_dir: Path) -> None:
        self._config = state_dir / "crossbar" / "config.json"
        self._read_s: float | None = None
        self._ends_at_s: float | None = None

    def samples(self, now_s: float) -> Iterator[Sample]:
        """When it ends, if there is one; ``now_s`` is the clock for spans."""
        if self._read_s is None or not 0.0 <= now_s - self._read_s < _FRESH_S:
            self._read_s, self._ends_at_s = now_s, self._read()
        if self._ends_at_s is not None:
            yield "trishula_certificate_expiry_time_seconds", (), self._ends_at_s

    def _read(self) -> float | None:
        try:
            file = address_of(json.loads(self._config.read_text(encoding="utf-8"))).certificate
            if file is None:
                return None
            return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
        except (OSError, ValueError, LookupError):
            return None
