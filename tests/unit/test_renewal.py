"""The certificate that a node shows: a replaced file is read again, and one that can't be used changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.certificates import Issuer
from trishula_router.upstream.renewal import renew_certificates


class Recorder:
    """Told of certificates."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def renewed(self, certificate: Path) -> None:
        self.calls.append(f"renewed {certificate.name}")

    def refused(self, certificate: Path, error: Exception) -> None:
        self.calls.append(f"refused {certificate.name}: {error}")


class Built:
    """What Crossbar makes of the files; as OpenSSL it looks at them at its first use."""

    def __init__(self, text: str) -> None:
        self.text = text

    def getContext(self) -> None:
        if "bad" in self.text:
            raise ValueError("no such key")

    def serverConnectionForTLS(self, protocol: str) -> str:
        return f"{protocol} with {self.text}"


class Case:
    """A module of endpoints, mended, and what it makes of three files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("node.key", "key1"), ("node.crt", "crt1"), ("issuer.crt", "issuer1")):
            (folder / name).write_text(text)
        self.told = Recorder()
        self.read = 0
        module: Any = SimpleNamespace(_create_tls_server_context=self._create)
        assert renew_certificates(module, self.told)
        config = {"key": "node.key", "certificate": "node.crt", "chain_certificates": ["issuer.crt"]}
        self.renewing = module._create_tls_server_context(config, str(folder), None)

    def _create(self, config: dict[str, Any], cbdir: str, log: Any) -> Built:
        self.read += 1
        names = [config["key"], config["certificate"], *config["chain_certificates"]]
        return Built(" ".join(Path(cbdir, name).read_text() for name in names))

    def shown(self) -> str:
        return str(self.renewing.serverConnectionForTLS("one"))

    def replace(self, name: str, text: str) -> None:
        new = self.folder / "new"
        new.write_text(text)
        new.replace(self.folder / name)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_files_that_stay_are_read_once(case: Case) -> None:
    assert {case.shown() for _ in range(100)} == {"one with key1 crt1 issuer1"}
    assert (case.read, case.told.calls) == (1, [])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("node.key", "one with new crt1 issuer1"),
        ("node.crt", "one with key1 new issuer1"),
        ("issuer.crt", "one with key1 crt1 new"),
    ],
)
def test_each_file_that_is_replaced_counts_for_the_next_connection(case: Case, name: str, expected: str) -> None:
    case.replace(name, "new")
    assert {case.shown(), case.shown()} == {expected}
    assert (case.read, case.told.calls) == (2, ["renewed node.crt"])


def test_what_can_not_be_used_changes_nothing_until_it_is_mended(case: Case) -> None:
    case.replace("node.crt", "bad")
    assert {case.shown() for _ in range(5)} == {"one with key1 crt1 issuer1"}
    # Once for each change, and not for each connection.
    assert (case.read, case.told.calls) == (2, ["refused node.crt: no such key"])
    case.replace("node.crt", "crt3")
    assert case.shown() == "one with key1 crt3 issuer1"
    assert case.told.calls[1:] == ["renewed node.crt"]


def test_a_file_that_is_gone_for_a_moment_ends_nothing(case: Case) -> None:
    (case.folder / "node.key").unlink()
    assert case.shown() == "one with key1 crt1 issuer1"
    case.replace("node.key", "key4")
    assert case.shown() == "one with key4 crt1 issuer1"
    assert [call.partition(":")[0] for call in case.told.calls] == ["refused node.crt", "renewed node.crt"]


def test_a_file_that_is_written_in_place_counts_too(case: Case) -> None:
    (case.folder / "node.crt").write_text("crt2")
    os.utime(case.folder / "node.crt", ns=(1, 1))
    assert case.shown() == "one with key1 crt2 issuer1"


def test_a_crossbar_that_is_built_otherwise_is_left_as_it_is() -> None:
    module: Any = SimpleNamespace()
    assert not renew_certificates(module, Recorder())
    assert not vars(module)


def test_crossbar_is_built_as_expected(tmp_path: Path) -> None:
    from crossbar.common.twisted import endpoint
    from twisted.internet.interfaces import IOpenSSLServerConnectionCreator

    leaf = Issuer("root").leaf("localhost")
    leaf.write(tmp_path / "node.crt", tmp_path / "node.key")
    module: Any = SimpleNamespace(_create_tls_server_context=endpoint._create_tls_server_context)
    assert renew_certificates(module, Recorder())
    log = SimpleNamespace(info=lambda *_, **__: None)
    made = module._create_tls_server_context({"key": "node.key", "certificate": "node.crt"}, str(tmp_path), log)
    assert IOpenSSLServerConnectionCreator.providedBy(made)
