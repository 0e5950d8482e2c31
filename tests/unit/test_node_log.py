"""The log of a node's processes: what is quoted of Crossbar's words, and how long the log grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from trishula_router.commands.node_log import crossbars_reason, trim_log

AT = "2026-11-23T00:34:29+0000 [Router      14534] "


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "its log says nothing"),
        (f'{AT}\n\n{AT}cannot detach session "1": session not currently attached\n', "its log says nothing"),
        (f"{AT}something odd\n{AT}Received SIGTERM, shutting down.\n", "something odd"),
        (
            f'{AT}component failed\nTraceback (most recent call last):\n  File "x.py", line 1, in f\n    f()\n'
            "package.SomeError: it broke\n\n",
            "package.SomeError: it broke",
        ),
        (
            "autobahn.wamp.exception.ApplicationError: ApplicationError(error=<crossbar.error.class_import_failed>, "
            "args=['Failed to import class \\'no.such\\'\\nTraceback (most recent call last):\\n  File \"x\"\\n"
            "builtins.ModuleNotFoundError: No module named \\'no\\'\\n'], kwargs={}, callee=None)",
            "Failed to import class 'no.such': builtins.ModuleNotFoundError: No module named 'no'",
        ),
        (
            'wamp.ApplicationError: ApplicationError(error=<a.b>, args=["it\'s one line"], kwargs={})',
            "it's one line",
        ),
        (
            "autobahn.wamp.exception.ApplicationError: ApplicationError(error=<a.b>, args=[''], kwargs={})",
            "autobahn.wamp.exception.ApplicationError: ApplicationError(error=<a.b>, args=[''], kwargs={})",
        ),
    ],
)
def test_the_line_of_crossbars_that_tells_most_is_quoted(text: str, cause: str) -> None:
    assert crossbars_reason(text) == cause


def test_a_long_log_is_set_aside_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    assert not trim_log(log, 10)
    with log.open("a") as writer:
        for text in ("first", "second"):
            writer.write(text * 3)
            writer.flush()
            assert trim_log(log, 10)
            assert (log.read_text(), (tmp_path / "node.log.1").read_text()) == ("", text * 3)
        writer.write("short")
        writer.flush()
        assert not trim_log(log, 10)
    assert log.read_text() == "short"
