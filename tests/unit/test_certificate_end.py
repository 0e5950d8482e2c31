"""When a node's certificate ends: read from its file, by the configuration that the node runs with."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate
from trishula_router.metrics import figures
from trishula_router.settings.certificate_end import CertificateEnd
from trishula_router.settings.check import read_config_file

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
DAY_MS = 86_400_000


def config_in(folder: Path, certificate: str | None) -> Path:
    config = read_config_file(SHIPPED)
    if certificate is not None:
        config["workers"][0]["transports"][0]["endpoint"]["tls"] = {"certificate": certificate, "key": "node.key"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


class Wall:
    """A wall clock that the test sets, in ms."""

    def __init__(self) -> None:
        self.now_ms = round(time.time() * 1000)

    def __call__(self) -> int:
        return self.now_ms


@pytest.mark.parametrize("is_relative", [True, False])
def test_it_is_told_and_a_renewed_one_is_noticed(tmp_path: Path, is_relative: bool) -> None:
    wall, file = Wall(), make_certificate(tmp_path, 10)
    begun_ms = wall()
    ends_at = CertificateEnd(config_in(tmp_path, file.name if is_relative else str(file)), wall)
    assert ends_at() == pytest.approx(begun_ms + 10 * DAY_MS, abs=DAY_MS / 24)
    make_certificate(tmp_path, 100).replace(file)
    wall.now_ms += 30_000
    assert ends_at() == pytest.approx(begun_ms + 10 * DAY_MS, abs=DAY_MS / 24)
    wall.now_ms += 31_000
    assert ends_at() == pytest.approx(begun_ms + 100 * DAY_MS, abs=DAY_MS / 24)


def test_where_there_is_none_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.crt").write_text("no certificate")
    for certificate in (None, "absent.crt", "none.crt"):
        assert CertificateEnd(config_in(tmp_path, certificate), Wall())() is None
    assert CertificateEnd(tmp_path / "elsewhere.json", Wall())() is None


def test_the_metric_has_it_in_seconds() -> None:
    assert list(figures.of_certificate(None)) == []
    assert list(figures.of_certificate(1500)) == [("trishula_certificate_expiry_time_seconds", (), 1.5)]
