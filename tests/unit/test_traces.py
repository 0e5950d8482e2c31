"""The trace that a message belongs to: what is a trace context, and what is carried on."""

from __future__ import annotations

import pytest

from trishula.contract.traces import child_of, trace_id_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "text",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes"],
)
def test_a_context_of_this_version_or_a_later_one_is_carried_on(text: str) -> None:
    assert trace_id_of(text) == TRACE
    assert child_of(text, "b7ad6b7169203331") == f"00-{TRACE}-b7ad6b7169203331-{text[53:55]}"


def test_flags_that_are_not_known_are_not_passed_on() -> None:
    assert child_of(f"00-{TRACE}-{SPAN}-ff", SPAN) == f"00-{TRACE}-{SPAN}-03"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-1",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}",
        f"{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_no_context_is_ignored(text: str | None) -> None:
    assert trace_id_of(text) is None
    assert child_of(text, SPAN) is None
