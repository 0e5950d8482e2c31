"""An audit, exported of a real node and checked without it: whole, and after each way to tamper with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.segments import edited, lines_of, pack
from trishula.cli.words import local_time
from trishula.evidence.unpacking import GZIP_HEADER
from trishula.exit_codes import Exit

pytestmark = pytest.mark.node

#: More than two pages of records.
MESSAGES = 2300

SENDER = f"""
from trishula import connect

with connect() as bus:
    receipts = bus.send_many(({{"to": "agni", "payload": {{"n": n}}}} for n in range({MESSAGES})), timeout=60)
    assert [receipt.status for receipt in receipts] == ["accepted"] * {MESSAGES}
"""


class Operator:
    """A node with messages, and commands that an operator runs, or somebody who has no node."""

    def __init__(self, node: NodeProcess, directory: Path) -> None:
        self.node = node
        self.directory = directory
        self.key = str(json.loads(node.command("node", "keys", "--state", str(node.state_dir)))["public_key"])
        for name, is_operator in (("dc", False), ("agni", False), ("office", True)):
            node.token(name, operator=is_operator)
        node.token("auditor", observer=True)

    def run(self, who: str | None, *args: str, code: int = 0) -> str:
        """Run a command to its end; what it printed: on standard error, if it is to fail."""
        settings = {} if who is None else {"TRISHULA_URL": self.node.url, "TRISHULA_TOKEN": self.node.tokens[who]}
        done = subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(TRISHULA_AGENT_STATE=str(self.directory / "agents"), **settings),
            cwd=self.directory,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def check(self, file: str, *args: str, code: int = 0) -> Any:
        """Check a file without a node."""
        return json.loads(self.run(None, "audit", "verify", file, *args, "--json", code=code))

    def found(self, file: str) -> list[tuple[str, str]]:
        told = self.check(file, "--key", f"single={self.key}", code=Exit.FAILED)
        assert not told["ok"]
        return [(one["what"], one["sentence"]) for one in told["findings"]]


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("export")
    with NodeProcess(directory / "state") as node:
        operator = Operator(node, directory)
        subprocess.run(
            [sys.executable, "-c", SENDER],
            env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["dc"]),
            cwd=directory,
            check=True,
            timeout=120,
        )
        operator.run("office", "audit", "export", "--bodies", "--out", "whole.jsonl.gz")
        yield operator


def test_a_whole_journal(operator: Operator) -> None:
    told = operator.check("whole.jsonl.gz", "--key", f"single={operator.key}")
    assert (told["ok"], told["key_is_known"], told["kind"], told["journal"]) == (True, True, "export", "single")
    assert told["proven"] == [[1, told["records"]]]
    assert told["records"] > MESSAGES
    assert told["bodies"] == MESSAGES


def test_the_files_of_the_node_have_the_key(operator: Operator) -> None:
    operator.check("whole.jsonl.gz", "--key", "state/crossbar/key.pub")
    said = operator.run(None, "audit", "verify", "whole.jsonl.gz")
    assert f"if its key is {operator.key}" in " ".join(said.split())


def test_a_part_of_it(operator: Operator) -> None:
    whole = lines_of(operator.directory / "whole.jsonl.gz")
    instants = [json.loads(line)["at"] for line in whole if line.startswith(b'{"line":"record"')]
    since, until = instants[len(instants) // 3], instants[len(instants) * 2 // 3]
    told = json.loads(
        operator.run(
            "office",
            "audit",
            "export",
            "--since",
            local_time(since),
            "--until",
            local_time(until),
            "--out",
            "part.gz",
            "--json",
        )
    )
    assert told["records"] == sum(since <= at < until for at in instants)
    checked = operator.check("part.gz", "--key", f"single={operator.key}")
    assert checked["proven"] == [[told["first"], told["last"]]]
    assert checked["first"] > 1
    assert checked["bodies"] == 0


def test_a_selection(operator: Operator) -> None:
    whole = [json.loads(line) for line in lines_of(operator.directory / "whole.jsonl.gz")]
    records = {line["sequence"]: line for line in whole if line["line"] == "record"}
    kinds = {"joined", "left"}
    told = json.loads(
        operator.run(
            "office",
            *("audit", "export", "--kind", "joined", "--kind", "left", "--agent", "dc", "--out", "some.gz", "--json"),
        )
    )
    chosen = [json.loads(line) for line in lines_of(operator.directory / "some.gz")]
    expected = [
        sequence
        for sequence, line in records.items()
        if line["kind"] in kinds and json.loads(line["facts"])["agent"] == "dc"
    ]
    found = [line["sequence"] for line in chosen if line["line"] == "record"]
    assert found == expected
    assert len(found) >= 2
    assert all(line == records[line["sequence"]] for line in chosen if line["line"] == "record")
    assert told["records"] == len(found)
    checked = operator.check("some.gz", "--key", f"single={operator.key}")
    assert checked["left_out"] == told["left_out"] > MESSAGES
    assert [sequence for first, last in checked["proven"] for sequence in range(first, last + 1)] == found
    said = " ".join(operator.run(None, "audit", "verify", "some.gz").split())
    assert f"not proven: which of the {told['left_out']} records that are left out belong here" in said


def test_a_selection_of_nothing(operator: Operator) -> None:
    said = operator.run("office", "audit", "export", "--kind", "purged", "--out", "none.gz", code=Exit.FAILED)
    assert "no record of that time fits" in said
    assert not (operator.directory / "none.gz").exists()


def test_a_selection_that_was_tampered_with(operator: Operator) -> None:
    operator.run("office", "audit", "export", "--agent", "agni", "--kind", "accepted", "--out", "agni.gz")
    lines = lines_of(operator.directory / "agni.gz")
    change(lines)
    (operator.directory / "changed.gz").write_bytes((operator.directory / "agni.gz").read_bytes())
    pack(operator.directory / "changed.gz", lines)
    assert ("changed", 50) in [
        (one["what"], one["sequence"])
        for one in operator.check("changed.gz", "--key", f"single={operator.key}", code=Exit.FAILED)["findings"]
    ]


def test_a_reader_without_our_code(operator: Operator) -> None:
    """The program of the how-to, as it stands there."""
    page = Path(__file__).resolve().parents[2] / "deploy/docs/howto/hand-an-audit-on.rst"
    block = page.read_text().split(".. code-block:: python\n\n")[1].split("\n\nWhat is signed")[0]
    program = "\n".join(line[3:] for line in block.splitlines())
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, operator.directory / "whole.jsonl.gz"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("the last digest is ")


def test_who_may_export(operator: Operator) -> None:
    for who in ("dc", "auditor"):
        operator.run(who, "audit", "export", "--out", "none.gz", code=Exit.FORBIDDEN)
    assert not (operator.directory / "none.gz").exists()


def test_no_file_is_written_over(operator: Operator) -> None:
    said = operator.run("office", "audit", "export", "--out", "whole.jsonl.gz", code=Exit.USAGE)
    assert "is there already; name another file" in said


def test_a_time_without_records(operator: Operator) -> None:
    said = operator.run("office", "audit", "export", "--until", "2001-01-01", "--out", "none.gz", code=Exit.FAILED)
    assert "no record was written in that time" in said


def test_another_journal(operator: Operator) -> None:
    operator.run("office", "audit", "export", "--node", "elsewhere", "--out", "none.gz", code=Exit.NOT_FOUND)


def test_keys_that_are_none(operator: Operator) -> None:
    said = operator.run(None, "audit", "verify", "whole.jsonl.gz", "--key", "abc", code=Exit.USAGE)
    assert "is no public key (64 hexadecimal digits" in said
    said = operator.run(None, "audit", "verify", "whole.jsonl.gz", "--key", f"agni={operator.key}", code=Exit.USAGE)
    assert "is signed by the node single, and no --key is of that node" in " ".join(said.split())


def mirrored(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_mirror_has_each_record_and_goes_on_where_it_was(operator: Operator) -> None:
    out = operator.directory / "mirror.jsonl"
    operator.run("office", "audit", "mirror", "--out", str(out), "--once")
    first = mirrored(out)
    assert [record["seq"] for record in first] == list(range(1, len(first) + 1))
    assert len(first) > MESSAGES
    whole = [json.loads(line) for line in lines_of(operator.directory / "whole.jsonl.gz")]
    records = {line["sequence"]: line for line in whole if line["line"] == "record"}
    for record in first[: len(records)]:
        line = records[record["seq"]]
        assert (record["at"], record["kind"], record["digest"]) == (line["at"], line["kind"], line["digest"])
        assert json.loads(line["facts"]) == record["facts"]
    # A crash right behind a page's lines, and within one more.
    position = out.with_name("mirror.jsonl.position")
    position.write_text(json.dumps({**json.loads(position.read_text()), "sequence": 5, "digest": first[4]["digest"]}))
    with out.open("a", encoding="utf-8") as file:
        file.write('{"seq":')
    operator.run("office", "audit", "mirror", "--out", str(out), "--once")
    again = mirrored(out)
    assert again[: len(first)] == first
    assert [record["seq"] for record in again[len(first) :]][:3] == [6, 7, 8]
    assert again[len(first) : len(first) * 2 - 5] == first[5:]


def test_a_mirror_follows_and_opens_what_was_renamed_anew(operator: Operator) -> None:
    out, older = operator.directory / "followed.jsonl", operator.directory / "followed.jsonl.1"
    settings = {"TRISHULA_URL": operator.node.url, "TRISHULA_TOKEN": operator.node.tokens["office"]}
    command = [sys.executable, "-m", "trishula.cli.main", "audit", "mirror", "--out", str(out)]
    newest = mirrored(operator.directory / "mirror.jsonl")[-1]["seq"]

    def wait_for(sequence: int, *files: Path) -> None:
        deadline = time.monotonic() + 60
        while not all(map(Path.exists, files)) or max((one["seq"] for one in mirrored(*files)), default=0) < sequence:
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.1)

    with subprocess.Popen(command, env=environment(**settings)) as process:
        try:
            wait_for(newest, out)
            out.rename(older)
            operator.run("dc", "send", "agni", "--text", "hello")
            wait_for(newest + 1, older, out)
        finally:
            process.kill()
    operator.run("office", "audit", "mirror", "--out", str(out), "--once")
    found = [record["seq"] for record in mirrored(older, out)]
    assert sorted(set(found)) == list(range(1, max(found) + 1))


def test_who_may_mirror(operator: Operator) -> None:
    for who in ("dc", "auditor"):
        operator.run(who, "audit", "mirror", "--out", "none.jsonl", "--once", code=Exit.FORBIDDEN)
    assert not (operator.directory / "none.jsonl").exists()
    said = operator.run("office", "audit", "mirror", "--out", "nowhere/none.jsonl", "--once", code=Exit.USAGE)
    assert "there is no folder" in said


def place_of(lines: list[bytes], start: bytes) -> int:
    return next(place for place, line in enumerate(lines) if line.startswith(start))


def record(lines: list[bytes], sequence: int) -> int:
    return place_of(lines, b'{"line":"record","sequence":%d,' % sequence)


def delete(lines: list[bytes]) -> None:
    del lines[record(lines, 20)]


def swap(lines: list[bytes]) -> None:
    first, second = record(lines, 30), record(lines, 31)
    lines[first], lines[second] = lines[second], lines[first]


def insert(lines: list[bytes]) -> None:
    lines.insert(record(lines, 40), edited(lines[record(lines, 39)], sequence=9999))


def change(lines: list[bytes]) -> None:
    lines[record(lines, 50)] = edited(lines[record(lines, 50)], at=1)


def forge_body(lines: list[bytes]) -> None:
    place = record(lines, 60) + 1
    lines[place] = edited(lines[place], body='{"type":"COMMAND"}')


@pytest.mark.parametrize(
    ("tamper", "what", "sentence"),
    [
        (delete, "missing", "record 20 is missing"),
        (swap, "swapped", "records 30 and 31 are swapped"),
        (insert, "inserted", "A record that calls itself 9999 is put in before record 40"),
        (change, "changed", "record 50 (accepted) doesn't match its digest"),
        (forge_body, "body", "the body beside record 60 is not the one that was accepted"),
    ],
)
def test_tampering_is_named(
    operator: Operator, tamper: Callable[[list[bytes]], object], what: str, sentence: str
) -> None:
    path = operator.directory / "tampered.gz"
    path.write_bytes((operator.directory / "whole.jsonl.gz").read_bytes())
    lines = lines_of(path)
    tamper(lines)
    pack(path, lines)
    assert (what, sentence) in operator.found("tampered.gz")
    assert sentence in " ".join(operator.run(None, "audit", "verify", "tampered.gz", code=Exit.FAILED).split())


def checkpoints(packed: bytes) -> list[int]:
    """Up to which records what can be unpacked of a file is signed; its last line may be cut."""
    lines = zlib.decompressobj(wbits=31).decompress(packed).split(b"\n")[:-1]
    return [json.loads(line)["sequence"] for line in lines if line.startswith(b'{"line":"checkpoint"')]


def test_a_flipped_bit_and_a_tail_cut_off(operator: Operator) -> None:
    whole = (operator.directory / "whole.jsonl.gz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    (operator.directory / "tampered.gz").write_bytes(flipped)
    assert operator.found("tampered.gz")[0][0] == "damaged"
    # Somewhere behind the first checkpoint: where that is in the file, the sizes of the records decide.
    cut = next(cut for cut in range(len(whole) // 2, len(whole), 512) if checkpoints(whole[:cut]))
    (operator.directory / "tampered.gz").write_bytes(whole[:cut])
    (told,) = operator.found("tampered.gz")
    assert told[0] == "truncated"
    assert f"what is signed reaches to record {checkpoints(whole[:cut])[-1]}" in told[1]
    # Between a record and its body, too.
    path = operator.directory / "tampered.gz"
    path.write_bytes(whole)
    lines = lines_of(path)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(b"".join(lines[: record(lines, 60) + 1])) + deflate.flush(zlib.Z_SYNC_FLUSH)
    path.write_bytes(GZIP_HEADER + packed)
    assert [what for what, _ in operator.found("tampered.gz")] == ["truncated"]


def test_the_wrong_key_and_no_segment(operator: Operator) -> None:
    told = operator.check("whole.jsonl.gz", "--key", "0" * 64, code=Exit.FAILED)
    assert [one["what"] for one in told["findings"]] == ["wrong_key"]
    (operator.directory / "letter.txt").write_text("dear auditor")
    told = operator.check("letter.txt", code=Exit.FAILED)
    assert [one["what"] for one in told["findings"]] == ["foreign"]


def test_the_private_key_is_in_no_log(operator: Operator) -> None:
    state = operator.node.state_dir
    lines = (state / "crossbar" / "key.priv").read_text().splitlines()
    secret = next(line.split()[-1] for line in lines if line.startswith("private-key-ed25519"))
    held = [path for path in state.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert held == [state / "crossbar" / "key.priv"]
