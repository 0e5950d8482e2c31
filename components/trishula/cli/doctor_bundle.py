"""The support bundle of ``trishula doctor``: what was found, in one file that may be given to somebody else.

What is in it has no secrets in its places by how it is gathered; :mod:`trishula.doctor.redaction` goes over all of it
once more, because a log or a configuration may hold what nobody expects.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import click

from trishula import distribution
from trishula.doctor.agent_checks import Contact
from trishula.doctor.examination import Examined
from trishula.doctor.findings import Finding
from trishula.doctor.redaction import Redaction, without_secrets
from trishula.key_file import read_key_file
from trishula.settings import Settings

__all__ = ["write_bundle"]

#: Whose versions are told.
_PACKAGES = ("autobahn", "crossbar", "cryptography", "msgspec", "twisted")


def write_bundle(
    path: Path,
    findings: list[Finding],
    contacts: list[Contact],
    settings: Settings | None,
    examined: list[Examined],
) -> None:
    """Write all that was found, without secrets.

    Raises:
        click.UsageError: the file can't be written.
    """
    secrets = [secret for part in examined for secret in part.secrets]
    if settings is not None:
        secrets += _secrets_of(settings)
    redaction = Redaction(secrets)
    values: dict[str, Any] = {
        "findings": [finding.as_map() for finding in findings],
        "versions": _versions(),
        "contacts": [{key: getattr(contact, key) for key in Contact.__slots__} for contact in contacts],
    }
    for part in examined:
        values |= part.values
    texts = {f"{name}.json": json.dumps(without_secrets(value), indent=2) + "\n" for name, value in values.items()}
    for part in examined:
        texts |= part.texts
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # A file that was there keeps its mode otherwise.
        os.fchmod(descriptor, 0o600)
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as packed:
            for name, text in sorted(texts.items()):
                content = redaction.text(text).encode("utf-8", "backslashreplace")
                entry = tarfile.TarInfo(f"trishula-support/{name}")
                entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
                packed.addfile(entry, io.BytesIO(content))
    except OSError as error:
        raise click.UsageError(f"--bundle is {str(path)!r}, which can't be written: {error.strerror}") from None


def _secrets_of(settings: Settings) -> list[str]:
    secrets = [settings.token, settings.token.partition(".")[2]]
    for path in settings.keys.key_files:
        with contextlib.suppress(ValueError):
            secrets.append(read_key_file(path).seed().hex())
    for name in ("TRISHULA_TOKEN", "TRISHULA_PROXY", "HTTPS_PROXY", "https_proxy"):
        secrets.append(os.environ.get(name, ""))
    for proxy in (settings.proxies.own, settings.proxies.shared):
        if proxy is not None and proxy.authorization is not None:
            secrets += [proxy.authorization, proxy.authorization.partition(" ")[2]]
    return secrets


def _versions() -> dict[str, str]:
    found = {"trishula": distribution.version(), "python": sys.version, "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
