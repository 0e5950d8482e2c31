"""What a program prints where that can't be written as it is: other encodings, full disks, readers gone or slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trishula.exit_codes import Exit

#: Prints an arrow, a dash, an umlaut and a cuneiform sign, 4,000 times.
LINES = """
import sys
from trishula.cli import main, streams
from trishula.cli.state import State
import click
@click.command()
@click.pass_obj
def speak(state):
    for _ in range(4000):
        state.print("a → b – ä 𒀀")
        state.line("ä 𒀀") if "json" in sys.argv else None
main.Commands.get_command = lambda self, context, name: speak
streams.prepare()
sys.exit(main.run(["speak"]))
"""


def started(*args: str, stdout: int, **variables: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **variables}
    # What is written at once can't be lost in a buffer: both ways must hold.
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen([sys.executable, *args], stdout=stdout, stderr=subprocess.PIPE, env=environment | variables)


@pytest.mark.parametrize(
    ("encoding", "first"),
    [
        ("utf-8", "a → b – ä 𒀀"),
        ("latin-1", r"a -> b - ä \U00012000"),
        ("ascii", r"a -> b - \xe4 \U00012000"),
    ],
)
def test_a_terminal_without_the_characters(encoding: str, first: str) -> None:
    process = started("-c", LINES, "json", stdout=subprocess.PIPE, PYTHONIOENCODING=encoding)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    shown, line, *_ = out.decode(encoding).splitlines()
    assert shown == first
    # JSON has escapes of its own, which every reader of JSON knows.
    assert json.loads(line) == "ä 𒀀"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "at once"])
def test_a_full_disk(variables: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        process = started("-m", "trishula.cli.main", "--help", stdout=full.fileno(), **variables)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        Exit.FAILED,
        b"trishula: the output can't be written: No space left on device\n",
    )


def test_a_reader_that_has_enough() -> None:
    process = started("-c", LINES, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert (process.wait(timeout=60), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_a_full_pipe_that_refuses_to_wait() -> None:
    """As Node.js makes its pipes: what doesn't fit at once must come later, and not be lost."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = started("-c", LINES, stdout=writing)
    os.close(writing)
    came = bytearray()

    def read() -> None:
        with open(reading, "rb") as pipe:
            came.extend(pipe.read())

    # Nobody reads before it is full: 4,000 lines are more than the 64 KiB of a pipe hold, less would prove nothing.
    reader = threading.Timer(1.0, read)
    reader.start()
    _, err = process.communicate(timeout=60)
    reader.join(60)
    assert (process.returncode, err) == (0, b"")
    assert came.decode().splitlines() == ["a → b – ä 𒀀"] * 4000


def test_no_output_at_all() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m trishula.cli.main --help >&-"], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
