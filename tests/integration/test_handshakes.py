"""What the handshakes of strangers cost a node with TLS: of one address so many a second are seen to."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate
from tests.support.node import NodeProcess

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
AT_ONCE, PER_S = 128, 40
CONNECTIONS = 500


@pytest.mark.parametrize("proxy_workers", [0, 1])
def test_strangers_handshakes_of_tls_are_paced(tmp_path: Path, proxy_workers: int) -> None:
    certificate = make_certificate(tmp_path, 30.0)
    config = json.loads(SHIPPED.read_text())
    (transport,) = config["workers"][0]["transports"]
    transport["endpoint"]["tls"] = {"key": str(certificate), "certificate": str(certificate)}
    config["workers"][0]["components"][0]["extra"] |= {"limits": {"handshake": "2s"}, "proxy_workers": proxy_workers}
    file = tmp_path / "node.json"
    file.write_text(json.dumps(config))
    context = ssl.create_default_context(cafile=str(certificate))
    done: list[float] = []
    with NodeProcess(tmp_path / "state", config=file) as node, contextlib.ExitStack() as stack:
        began_s = time.monotonic()

        def knock() -> None:
            with contextlib.suppress(OSError):
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=10.0))
                context.wrap_socket(plain, server_hostname="localhost")
                done.append(time.monotonic())

        threads = [threading.Thread(target=knock) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) >= AT_ONCE
        # Those that waited for longer than a step of a join may take were ended.
        assert len(done) <= AT_ONCE + PER_S * (max(done) - began_s) + 1
