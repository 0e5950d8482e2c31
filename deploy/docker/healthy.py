"""The image's health check: the node on this container's state directory answers at ``/health``. It ends with 0 or 1.

The port is that of the configuration with which the node really runs. The certificate of a node that has TLS is not
checked: nobody else can listen on the container's loopback, nothing is sent, and nothing but the status is read.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request
from pathlib import Path

from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import listen_endpoint_of
from trishula_router.settings.faults import ConfigError

TIMEOUT_S = 4.0


def why_ill(state: Path) -> str | None:
    """One line, or ``None`` if the node is well."""
    try:
        directory = state / "crossbar"
        address = listen_endpoint_of(read_config_file(directory / "config.json"), directory)
        scheme = "http" if address.certificate is None else "https"
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        url = f"{scheme}://127.0.0.1:{address.port}/health"
        # A proxy that the environment names is for the world outside.
        asker = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
        )
        with asker.open(url, timeout=TIMEOUT_S):
            return None
    except (OSError, ValueError, LookupError, ConfigError) as error:
        return f"no answer from /health: {error}"


if __name__ == "__main__":
    reason = why_ill(Path(os.environ.get("TRISHULA_STATE", "/var/lib/trishula")))
    sys.exit(0 if reason is None else f"unhealthy: {reason}")
