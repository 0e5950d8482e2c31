"""Has the log tell of certificates that were replaced, in the router worker and in the proxy workers."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from trishula_router.settings.certificates import said
from trishula_router.upstream.renewal import Told

__all__ = ["RenewalLog"]

log = Logger()


class RenewalLog(Told):
    """See the module's docstring."""

    def renewed(self, certificate: Path) -> None:
        """It is shown from now on."""
        log.warn("{certificate} was replaced: new connections get it, and sessions go on", certificate=certificate)

    def refused(self, certificate: Path, error: Exception) -> None:
        """It can't be used."""
        log.warn(
            "{certificate} or its key was replaced by what can't be used ({error}), so the one of before is shown on; "
            "trishula node check names what is wrong",
            certificate=certificate,
            error=said(error),
        )
