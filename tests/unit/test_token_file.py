"""Which token an agent that runs joins with, while the file it came from changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from trishula.token_file import CurrentToken


def test_a_token_of_no_file_stays_as_it_is() -> None:
    assert CurrentToken("dc", "dc.first", None).now() == "dc.first"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "holds no token: it must look like NAME.SECRET"),
        (b"dc.\xff", "is not text in UTF-8"),
        (b"agni.secret", "holds a token of agni"),
    ],
)
def test_the_newest_good_token_of_the_file_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, why: str
) -> None:
    path = tmp_path / "dc.token"
    path.write_text("dc.first\n")
    token = CurrentToken("dc", "dc.first", path)
    with caplog.at_level(logging.INFO, "trishula"):
        assert token.now() == "dc.first"
        assert caplog.messages == []
        path.write_text("\ufeffdc.second\r\n")
        assert token.now() == token.now() == "dc.second"
        assert caplog.messages == [f"dc joins with the new token of {path}"]
        path.unlink() if content is None else path.write_bytes(content)
        assert token.now() == "dc.second"
    assert caplog.messages[1:] == [f"{path} {why}; dc joins with the token that it had"]
    path.write_text("dc.third\n")
    assert token.now() == "dc.third"
