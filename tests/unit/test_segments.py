"""Segments of a journal: what is written is found whole, and each way to tamper with it is found and named."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.segments import KEY, body_of, edited, head, lines_of, pack, records, write
from trishula.evidence.chain import GENESIS, digest_of
from trishula.evidence.checking import check_file
from trishula.evidence.findings import MOST_FINDINGS, Checked
from trishula.evidence.lines import Foot, NoBody, write_line
from trishula.evidence.signing import SigningKey
from trishula.evidence.writing import ChainBroken, new_segment

OTHER = SigningKey(bytes(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "segment.jsonl.gz")


def check(path: Path) -> Checked:
    return check_file(path, [KEY.public])


def found(path: Path) -> list[tuple[str, str]]:
    return [(one.what, one.sentence) for one in check(path).findings]


def tampered(path: Path, change: Callable[[list[bytes]], object]) -> list[tuple[str, str]]:
    """What is found when all but the signatures was made to fit."""
    lines = lines_of(path)
    change(lines)
    pack(path, lines)
    return found(path)


def of_record(lines: list[bytes], sequence: int) -> int:
    """Where a record stands."""
    return next(place for place, line in enumerate(lines) if b'"record","sequence":%d,' % sequence in line)


# -- what is whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bodies", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 20])
def test_a_whole_one(tmp_path: Path, count: int, bodies: bool) -> None:
    checked = check(write(tmp_path / "one", count, bodies=bodies))
    assert (checked.ok, checked.findings, checked.records, checked.end) == (True, (), count, count)
    assert checked.proven == (((1, count),) if count else ())
    assert (checked.key, checked.key_is_known) == (KEY.public, True)
    assert checked.bodies == (sum(record.kind == "accepted" for record in records(count)) if bodies else 0)
    assert (checked.first_at, checked.last_at) == ((1001, 1000 + count) if count else (None, None))


def test_no_false_alarm_in_many(tmp_path: Path) -> None:
    """The short form of tests/benchmarks/evidence.py: pieces of the file begin and end anywhere in a line."""
    checked = check(write(tmp_path / "many", 20_000, every=1000))
    assert (checked.ok, checked.findings, checked.proven) == (True, (), ((1, 20_000),))


def test_it_is_for_its_owner_alone_and_nothing_else_is_left(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_any_machine_can_read_it(path: Path) -> None:
    """The README's promise: zcat, and a program of a few lines in any language."""
    text = subprocess.run(["zcat", path], capture_output=True, check=True, timeout=60).stdout
    assert text == gzip.decompress(path.read_bytes())
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["line"] for line in lines[:3]] == ["head", "record", "record"]
    assert lines[-1]["line"] == "foot"
    facts = [line["facts"].encode() for line in lines if line["line"] == "record"]
    assert facts == [record.facts for record in records(20)]


def test_a_copied_journal_tells_whose_it_is_and_who_signs(tmp_path: Path) -> None:
    with new_segment(tmp_path, "copy", replace(head(), node="rushabdev"), KEY.sign) as writer:
        for record in records(3):
            writer.add(*record)
    checked = check(tmp_path / "copy")
    assert checked.ok
    assert checked.head is not None
    assert (checked.head.node, checked.head.origin) == ("rushabdev", "agni")


def test_a_run_that_begins_later(tmp_path: Path) -> None:
    *_, before = records(7)
    with new_segment(tmp_path, "late", head(8, before.digest), KEY.sign) as writer:
        for record in records(5, 8, before.digest):
            writer.add(*record)
    checked = check(tmp_path / "late")
    assert (checked.ok, checked.first, checked.end, checked.proven) == (True, 8, 12, ((8, 12),))


def test_without_a_key_the_one_in_the_file_is_taken_and_told(path: Path) -> None:
    checked = check_file(path)
    assert (checked.ok, checked.key, checked.key_is_known) == (True, KEY.public, False)


def test_a_node_that_had_another_key_before(path: Path) -> None:
    assert check_file(path, [OTHER.public, KEY.public]).ok


def test_progress_is_told(path: Path) -> None:
    told: list[float] = []
    check_file(path, progress=told.append)
    assert told
    assert told == sorted(told)


# -- what the writer refuses -------------------------------------------------------------------------------------------


def test_nothing_is_written_that_would_not_stand_its_check(tmp_path: Path) -> None:
    one, two, three = records(3)
    told = "record 3 doesn't follow record 1"
    with pytest.raises(ChainBroken, match=told), new_segment(tmp_path, "one", head(), KEY.sign) as writer:
        writer.add(*one)
        writer.add(*three)
    told = r"record 2 \(done\) doesn't match its digest"
    with pytest.raises(ChainBroken, match=told), new_segment(tmp_path, "one", head(), KEY.sign) as writer:
        writer.add(*one)
        writer.add(*two._replace(facts=b"{}"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_stays_until_the_new_one_is_whole(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(OSError, match="full"), new_segment(path.parent, path.name, head(), KEY.sign) as writer:
        writer.add(*next(records(1)))
        raise OSError("full")
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


# -- tampering ---------------------------------------------------------------------------------------------------------


def test_each_flipped_bit(tmp_path: Path) -> None:
    path = write(tmp_path / "small", 2, every=1)
    sound = path.read_bytes()
    missed = []
    for bit in range(0, 8 * len(sound), 7):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if check(path).ok:
            missed.append(bit)
    assert missed == []


def test_a_changed_record_alone_is_named(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        place = of_record(lines, 7)
        lines[place] = edited(lines[place], facts='{"messages":[4],"to":"somebody"}')

    assert tampered(path, change) == [("changed", "record 7 (delivered) doesn't match its digest")]
    assert check(path).proven == ((1, 5), (8, 20))


def test_a_changed_record_with_all_digests_made_anew(path: Path) -> None:
    """Who makes the chain anew behind what he changed has all but the signatures."""

    def change(lines: list[bytes]) -> None:
        before, forged = list(records(6))[4:]
        digest = digest_of(before.digest, 6, 5, forged.kind, forged.facts)
        lines[of_record(lines, 6)] = edited(lines[of_record(lines, 6)], at=5, digest=digest.hex())
        for record in records(14, 7, digest):
            place = of_record(lines, record.sequence)
            lines[place] = edited(lines[place], digest=record.digest.hex())

    assert ("signature", "the checkpoint behind record 10 is that of another record") in tampered(path, change)
    assert check(path).proven[0] == (1, 5)


@pytest.mark.parametrize("sequence", [1, 5, 6, 7, 19])
def test_a_deleted_record(path: Path, sequence: int) -> None:
    told = tampered(path, lambda lines: lines.pop(of_record(lines, sequence)))
    assert ("missing", f"record {sequence} is missing") in told
    assert [what for what, _ in told if what not in ("missing", "foot")] == []


def test_the_last_record_deleted(path: Path) -> None:
    assert ("missing", "record 20 is missing") in tampered(path, lambda lines: lines.pop(of_record(lines, 20)))


def test_several_deleted(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        del lines[of_record(lines, 12) : of_record(lines, 14) + 1]

    assert ("missing", "records 12 to 14 are missing") in tampered(path, change)
    # Behind the gap nothing tells whether the next record is the one that was written.
    assert check(path).proven == ((1, 10), (16, 20))


@pytest.mark.parametrize(("one", "other"), [(7, 8), (6, 9), (2, 17), (19, 20), (1, 2)])
def test_two_swapped(path: Path, one: int, other: int) -> None:
    def change(lines: list[bytes]) -> None:
        first, second = of_record(lines, one), of_record(lines, other)
        lines[first], lines[second] = lines[second], lines[first]

    told = tampered(path, change)
    assert ("swapped", f"records {one} and {other} are swapped") in told
    assert {what for what, _ in told} <= {"swapped", "foot", "signature"}


def test_one_moved(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        lines.insert(of_record(lines, 7), lines.pop(of_record(lines, 9)))

    assert ("swapped", "record 9 stands before record 7") in tampered(path, change)


def test_one_inserted(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        place = of_record(lines, 8)
        lines.insert(place, edited(lines[place], facts="{}", sequence=99))

    assert ("inserted", "A record that calls itself 99 is put in before record 8") in tampered(path, change)


def test_one_twice(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        lines.insert(of_record(lines, 8), lines[of_record(lines, 7)])

    assert ("inserted", "A record that calls itself 7 is put in before record 8") in tampered(path, change)


def test_one_inserted_and_all_behind_it_numbered_anew(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        for sequence in range(20, 7, -1):
            place = of_record(lines, sequence)
            lines[place] = edited(lines[place], sequence=sequence + 1)
        lines.insert(of_record(lines, 9), edited(lines[of_record(lines, 7)], sequence=8))

    told = tampered(path, change)
    assert ("changed", "record 8 (delivered) doesn't match its digest") in told
    assert check(path).proven[0] == (1, 5)


def test_no_file_has_more_findings_than_anybody_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "long", 300, every=1000)

    def change(lines: list[bytes]) -> None:
        lines[1:-1] = [edited(line, at=5) for line in lines[1:-1]]

    tampered(path, change)
    checked = check(path)
    assert (len(checked.findings), checked.further > 200) == (MOST_FINDINGS, True)


def test_a_tail_cut_off_behind_a_checkpoint(path: Path) -> None:
    """The file is packed anew without what followed, with the last line that fits to that: its signature doesn't."""
    lines = lines_of(path)
    del lines[of_record(lines, 11) :]
    short = list(records(10))[-1]

    def foot(old: Foot) -> Foot:
        return replace(old, last=10, digest=short.digest.hex(), count=10, last_at=short.at)

    pack(path, lines, foot)
    assert found(path) == [("signature", f"the last line is not signed by the key {KEY.public} of node agni")]
    assert check(path).proven == ((1, 10),)


def test_the_end_of_the_file_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "long", 5000, every=1000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    checked = check(path)
    (finding,) = checked.findings
    assert finding.what == "truncated"
    assert finding.sentence.startswith("the file breaks off")
    assert checked.proven == ((1, 3000),)
    assert finding.sentence.endswith("and what is signed reaches to record 3000")


def test_damage_that_hits_very_many_lines_is_named_first(tmp_path: Path) -> None:
    path = write(tmp_path / "long", 5000)
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 4
    path.write_bytes(flipped)
    assert check(path).findings[0].what == "damaged"


def test_each_length_that_a_copy_may_break_off_at(tmp_path: Path) -> None:
    path = write(tmp_path / "small", 3)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert {what for what, _ in found(path)} <= {"truncated", "empty", "foreign"}, length
        assert not check(path).ok


def test_something_behind_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")
    assert not check(path).ok


def test_the_wrong_key(path: Path) -> None:
    checked = check_file(path, [OTHER.public])
    assert [one.what for one in checked.findings] == ["wrong_key"]
    assert checked.findings[0].sentence.startswith(f"the file says that its key is {KEY.public}, and that is not")
    assert (checked.proven, checked.key_is_known) == ((), False)


def test_all_signed_anew_by_another_key(tmp_path: Path) -> None:
    checked = check(write(tmp_path / "one", key=OTHER))
    assert [one.what for one in checked.findings] == ["wrong_key"]


def test_a_key_that_was_put_in_without_its_signatures(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        lines[0] = edited(lines[0], key=OTHER.public)

    assert [what for what, _ in tampered(path, change)] == ["wrong_key"]


@pytest.mark.parametrize(
    "changes", [{"node": "rushabdev"}, {"origin": "rushabdev"}, {"epoch": "epoch-2"}, {"first": 2}, {"key": ""}]
)
def test_another_head(path: Path, changes: dict[str, object]) -> None:
    def change(lines: list[bytes]) -> None:
        lines[0] = edited(lines[0], **changes)

    assert tampered(path, change)
    assert not check(path).proven or changes == {"first": 2}


def test_nothing_signed(tmp_path: Path) -> None:
    path = write(tmp_path / "one", key=None)
    assert found(path) == [("unsigned", "nothing in the file is signed, so anybody may have made it")]
    assert (check_file(path).ok, check_file(path).proven) == (True, ())


def test_checkpoints_without_their_signatures(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        lines[:] = [edited(line, signature="") if b'"checkpoint"' in line else line for line in lines]

    assert ("unsigned", "the checkpoint of record 5 is not signed") in tampered(path, change)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"From dc: hello", "foreign"),
        (gzip.compress(b'{"line":"head"}\n'), "foreign"),
        (gzip.compress(b"hello"), "foreign"),
    ],
)
def test_another_file(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert [one.what for one in check(path).findings] == [what]


def test_the_same_packed_again(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())))
    ((what, sentence),) = found(path)
    assert what == "foreign"
    assert "packed it again" in sentence


def test_a_later_version_of_the_format(path: Path) -> None:
    def change(lines: list[bytes]) -> None:
        lines[0] = lines[0].replace(b'"version":1', b'"version":2,"news":true')

    ((what, sentence),) = tampered(path, change)
    assert (what, "version 2" in sentence) == ("newer", True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"line":"record","sequence":7,', b'{"line":"record","sequence":7,"sequence":7,'),
        (b'"sequence":7,', b'"facts":"","sequence":7,'),
        (b'"sequence":7,', b'"sequence": 7,'),
        (b'"sequence":7,', b'"sequence":7.0,'),
        (b'"sequence":7,', b'"sequence":7,"more":1,'),
    ],
)
def test_a_line_has_one_form(path: Path, old: bytes, new: bytes) -> None:
    """Two readers of a key that is there twice may read two things."""

    def change(lines: list[bytes]) -> None:
        place = of_record(lines, 7)
        lines[place] = lines[place].replace(old, new)

    assert [what for what, _ in tampered(path, change)] == ["foot", "unreadable"]


# -- bodies, and what is left out --------------------------------------------------------------------------------------


@pytest.fixture
def with_bodies(tmp_path: Path) -> Path:
    return write(tmp_path / "bodies.jsonl.gz", bodies=True)


def of_body(lines: list[bytes], sequence: int) -> int:
    return next(place for place, line in enumerate(lines) if b'"body","sequence":%d,' % sequence in line)


def test_a_changed_body(with_bodies: Path) -> None:
    def change(lines: list[bytes]) -> None:
        place = of_body(lines, 9)
        lines[place] = edited(lines[place], body="{}")

    assert tampered(with_bodies, change) == [("body", "the body beside record 9 is not the one that was accepted")]
    assert check(with_bodies).proven == ((1, 20),)


def test_a_body_left_out_in_silence(with_bodies: Path) -> None:
    told = tampered(with_bodies, lambda lines: lines.pop(of_body(lines, 9)))
    assert told == [("body", "the body beside record 9 is missing, and no note says why")]


def test_a_body_that_nobody_accepted(with_bodies: Path) -> None:
    told = tampered(with_bodies, lambda lines: lines.insert(of_record(lines, 8), lines[of_body(lines, 6)]))
    assert told == [("body", "a body of record 6 stands where none belongs")]


def test_a_redacted_body_is_on_record_and_breaks_nothing(with_bodies: Path) -> None:
    def change(lines: list[bytes]) -> None:
        lines[of_body(lines, 9)] = write_line(NoBody(9, "redacted", "office", "a name in it", 5))

    assert tampered(with_bodies, change) == []
    checked = check(with_bodies)
    assert (checked.ok, checked.bodies, checked.redacted, checked.proven) == (True, 5, 1, ((1, 20),))


def test_recipients_of_a_broadcast_share_a_body(tmp_path: Path) -> None:
    facts = b'{"sha256":"%s"}' % hashlib.sha256(body_of(1)).hexdigest().encode()
    with new_segment(tmp_path, "one", head(bodies=True), KEY.sign) as writer:
        digest = GENESIS
        for sequence in (1, 2, 3):
            digest = digest_of(digest, sequence, 5, "accepted", facts)
            writer.add(sequence, 5, "accepted", facts, digest, body_of(1) if sequence == 1 else None)
    assert check(tmp_path / "one").ok


def test_records_left_out_stand_between_what_is_signed(tmp_path: Path) -> None:
    made = list(records(12))
    with new_segment(tmp_path, "part", head(), KEY.sign) as writer:
        for record in made[:3]:
            writer.add(*record)
        writer.omit(8, made[7].digest)
        for record in made[8:]:
            writer.add(*record)
    checked = check(tmp_path / "part")
    assert (checked.ok, checked.records, checked.omitted, checked.end) == (True, 7, 5, 12)
    assert checked.proven == ((1, 3), (9, 12))


def test_records_before_a_gap_that_nothing_binds(tmp_path: Path) -> None:
    """Who leaves records out could put anything before them, if nobody asked for a checkpoint there."""
    path = tmp_path / "part"
    made = list(records(12))
    with new_segment(tmp_path, "part", head(), KEY.sign) as writer:
        for record in made[:3]:
            writer.add(*record)
        writer.omit(8, made[7].digest)
        for record in made[8:]:
            writer.add(*record)

    def change(lines: list[bytes]) -> None:
        # Records that nobody wrote, in front of a gap and of what the node did write.
        for place, forged in enumerate(records(3, 1, made[5].digest), 1):
            lines[place] = edited(lines[place], at=forged.at, digest=forged.digest.hex())
        lines[0] = edited(lines[0], previous=made[5].digest.hex())
        assert lines.pop(4).startswith(b'{"line":"checkpoint"')

    told = tampered(path, change)
    assert [what for what, _ in told] == ["signature"]
    assert "no checkpoint stands before" in told[0][1]
    assert check(path).proven == ((9, 12),)


def test_the_writer_leaves_nothing_out_without_a_checkpoint(tmp_path: Path) -> None:
    made = list(records(12))
    told = "record 3 needs a checkpoint"
    with pytest.raises(ChainBroken, match=told), new_segment(tmp_path, "part", head()) as writer:
        for record in made[:3]:
            writer.add(*record)
        writer.omit(8, made[7].digest)
