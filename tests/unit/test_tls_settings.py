"""The certificate that a client shows: what is wrong with its file, before anything connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Issuer
from trishula.session.trust import shown_by
from trishula.settings import SettingsInvalid, load


def refusal(path: Path) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load(token="dc.secret", client_certificate=path, environ={}, home=path.parent)
    return caught.value.sentence.removeprefix(f"the argument client_certificate names {path}, which ")


def test_a_certificate_and_its_key_in_one_file_are_shown(tmp_path: Path) -> None:
    path, authority = tmp_path / "dc.pem", Issuer("agents").issuer("below")
    leaf = authority.leaf("dc")
    leaf.write(tmp_path / "dc.crt", tmp_path / "dc.key")
    authority.write(tmp_path / "below.crt")
    assert refusal(path) == "can't be read: No such file or directory"
    rule = "doesn't hold a certificate and behind it its key, in PEM and without a passphrase"
    path.write_bytes((tmp_path / "dc.crt").read_bytes())
    assert refusal(path) == rule
    path.write_bytes((tmp_path / "dc.crt").read_bytes() + leaf.private_pem(b"a passphrase"))
    assert refusal(path) == rule
    parts = [(tmp_path / name).read_bytes() for name in ("dc.crt", "below.crt", "dc.key")]
    path.write_bytes(b"".join(parts))
    assert load(token="dc.secret", client_certificate=path, environ={}, home=tmp_path).client_certificate == path
    shown = shown_by(path)
    assert shown["clientCertificate"].getSubject().commonName == b"node"
    assert len(shown["extraCertificateOptions"]["extraCertChain"]) == 1
    assert shown_by(None) == {}
