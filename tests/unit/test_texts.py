"""What is one line, and what becomes of what is none."""

from __future__ import annotations

import pytest

from trishula.contract.texts import REASON_LENGTH, is_line, legible, one_line


@pytest.mark.parametrize("text", ["", "ä \U0001f468‍\U0001f469 ok", "'\"\\"])
def test_lines(text: str) -> None:
    assert is_line(text)
    assert one_line(text) == text


@pytest.mark.parametrize("control", ["\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
def test_no_lines(control: str) -> None:
    assert not is_line(f"a{control}b")
    escaped = one_line(f"a{control}b")
    assert is_line(escaped)
    assert escaped.encode().decode("unicode_escape", "surrogatepass") == f"a{control}b"


def test_an_exception_that_says_much_is_cut() -> None:
    assert legible("é\ud800\x00" * 1000) == ("é\\ud800\\x00" * 1000)[:REASON_LENGTH]
