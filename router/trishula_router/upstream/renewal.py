"""The certificate that a node shows: what its files hold now, and not what they held when the node started.

Crossbar reads the files once, when it begins to listen, so that a certificate that is renewed every 60 days would cost
a restart every 60 days. Here the files are looked at for each connection that comes, by what changes when they are
replaced, and read again only then. Sessions that are there go on with what they began with. Files that OpenSSL doesn't
take (a key is replaced a moment after its certificate) change nothing: the last good ones hold until the files change
again, and the log says so once.

It takes the place of ``crossbar.common.twisted.endpoint._create_tls_server_context`` (26.10.1), which is looked for
first. Not by a timer: a node that nobody connects to has nobody to show a certificate to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from trishula_router.settings.certificates import TLS_FILES, TLS_LISTS

__all__ = ["Renewing", "Told", "renew_certificates"]

#: Of each file: modification time in ns, inode, size; ``None`` if it can't be looked at.
_Stamps = tuple[tuple[int, int, int] | None, ...]


class Told(Protocol):
    """What is told of the certificate."""

    def renewed(self, certificate: Path) -> None:
        """From now on new connections are shown what the file holds now."""

    def refused(self, certificate: Path, error: Exception) -> None:
        """The files changed, and can't be used; what was there before goes on."""


def renew_certificates(endpoint: Any, told: Told) -> bool:
    """Have all transports of this process that listen from now on show what their files hold.

    Args:
        endpoint: Crossbar's module of endpoints.
        told: of each change.

    Returns:
        Whether the module is built as expected; if not, it is left as it was.
    """
    create = getattr(endpoint, "_create_tls_server_context", None)
    if not callable(create):
        return False

    def create_renewing(config: Mapping[str, Any], cbdir: str, log: Any) -> Renewing:
        files = [config[key] for key in TLS_FILES if key in config]
        files += [name for key in TLS_LISTS for name in config.get(key, ())]
        paths = [Path(cbdir, name) for name in files]
        return Renewing(lambda: create(config, cbdir, log), paths, Path(cbdir, config["certificate"]), told)

    endpoint._create_tls_server_context = create_renewing
    return True


@implementer(IOpenSSLServerConnectionCreator)
class Renewing:
    """What Twisted makes the node's end of each TLS connection with.

    Args:
        build: reads the files and makes what Crossbar listens with; raises if it can't.
        files: what is read.
        certificate: which of them is the certificate.
        told: of each change.

    Raises:
        Exception: as ``build``, for the files that are there at first.
    """

    def __init__(self, build: Callable[[], Any], files: list[Path], certificate: Path, told: Told) -> None:
        self._build = build
        self._files = files
        self._certificate = certificate
        self._told = told
        self._stamps = self._look()
        self._current = build()

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        """One end of a connection, for Twisted."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            self._renew()
        return self._current.serverConnectionForTLS(protocol)

    def _renew(self) -> None:
        try:
            built = self._build()
            # OpenSSL looks at a key and its certificate together when the context is made, which is at its first use.
            built.getContext()
        except Exception as error:
            # Whatever OpenSSL or the disk finds.
            self._told.refused(self._certificate, error)
        else:
            self._current = built
            self._told.renewed(self._certificate)

    def _look(self) -> _Stamps:
        return tuple(_stamp_of(file) for file in self._files)


def _stamp_of(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
