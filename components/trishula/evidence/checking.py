"""The check of a segment, record by record and in constant memory: what is not as it was written is named.

It needs the file and the node's public key, and nothing of the node. What it comes to is in :mod:`.findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from trishula.evidence.bodies import Bodies
from trishula.evidence.findings import MOST_FINDINGS, Checked, Finding, What
from trishula.evidence.lines import (
    VERSION,
    BodyLine,
    Checkpoint,
    Foot,
    Head,
    NoBody,
    Omitted,
    RecordLine,
    read_line,
    read_version,
)
from trishula.evidence.ordering import Order
from trishula.evidence.proof import Proof
from trishula.evidence.signatures import Signatures
from trishula.evidence.unpacking import Unpacker
from trishula.named_files import open_file

__all__ = ["check_file"]


def check_file(
    path: Path, public_keys: Collection[str] = (), progress: Callable[[float], None] = lambda _: None
) -> Checked:
    """Check a segment: one of an archive, or an export of an audit.

    Args:
        path: the file.
        public_keys: those that the node has, or has had. Without any the one that the file names is taken, and whoever
            made the file may have made that, too.
        progress: told now and then how far it is, from 0 to 1.

    Raises:
        OSError: the file can't be read.
    """
    findings = _Findings()
    check: _Check | None = None
    with open_file(path) as file:
        unpacker = Unpacker(file)
        for raws in unpacker.lines():
            if check is None:
                head = _read_head(raws[0], findings)
                if head is None:
                    return _nothing(findings)
                check = _Check(head, public_keys, findings)
                del raws[0]
            for raw in raws:
                check.take(raw)
            progress(unpacker.done)
    if check is None:
        findings.add(*(unpacker.fault or ("truncated", "the file breaks off before its first line ends")))
        return _nothing(findings)
    return check.end(unpacker.foot, unpacker.fault)


class _Findings:
    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.further = 0

    def add(self, what: What, sentence: str, sequence: int | None = None) -> None:
        if len(self.kept) < MOST_FINDINGS:
            self.kept.append(Finding(what, sentence, sequence))
        else:
            self.further += 1


def _read_head(raw: bytes, findings: _Findings) -> Head | None:
    line = read_line(raw)
    if isinstance(line, Head) and line.version == VERSION:
        return line
    version = read_version(raw)
    if version is None:
        findings.add("foreign", "the file is no segment of a journal: its first line is none of one")
    elif version > VERSION:
        findings.add(
            "newer", f"the file has version {version} of the format, and this release reads up to {VERSION}; update it"
        )
    else:
        findings.add("unreadable", "the first line is not as it was written, so nothing behind it can be judged")
    return None


def _nothing(findings: _Findings) -> Checked:
    return Checked(
        ok=False,
        head=None,
        findings=tuple(findings.kept),
        further=0,
        records=0,
        first=None,
        last=None,
        first_at=None,
        last_at=None,
        end=0,
        digest=b"",
        omitted=0,
        bodies=0,
        redacted=0,
        proven=(),
        proven_to=None,
        key="",
        key_is_known=False,
    )


class _Check:
    """The check of what is behind the first line."""

    def __init__(self, head: Head, public_keys: Collection[str], findings: _Findings) -> None:
        self._head = head
        self._findings = findings
        self._proof = Proof(head.first)
        self._order = Order(head.first, bytes.fromhex(head.previous), findings.add, self._proof)
        self._bodies = Bodies(head.bodies, findings.add)
        self._signatures = Signatures(head, public_keys, findings.add)
        self._records = self._omitted = 0
        self._first: RecordLine | None = None
        self._last: RecordLine | None = None

    def take(self, raw: bytes) -> None:
        """The next line."""
        line = read_line(raw)
        if isinstance(line, RecordLine):
            self._records += 1
            self._first, self._last = self._first or line, line
            self._order.record(line)
            self._bodies.record(line)
        else:
            self._take_other(line)

    def _take_other(self, line: object) -> None:
        if isinstance(line, BodyLine):
            self._bodies.body(line)
        elif isinstance(line, NoBody):
            self._bodies.no_body(line)
        elif isinstance(line, Checkpoint):
            self._order.settle(line.sequence + 1)
            self._take_signed(line.sequence, line.digest, line.signature)
        elif isinstance(line, Omitted):
            self._order.settle(line.first)
            self._leave_out(line)
        else:
            self._order.unreadable()
            behind = self._order.sequence
            self._findings.add("unreadable", f"a line behind record {behind} is none that a node writes", behind)

    def _take_signed(self, sequence: int, digest: str, signature: str) -> None:
        """Take a checkpoint."""
        order = self._order
        if sequence < order.sequence or (sequence == order.sequence and order.digest and digest != order.digest.hex()):
            self._findings.add(
                "signature", f"the checkpoint behind record {order.sequence} is that of another record", order.sequence
            )
            return
        raw = bytes.fromhex(digest)
        is_good = self._signatures.are_good(sequence, raw, signature, f"the checkpoint of record {sequence}")
        if sequence > order.sequence or not order.digest:
            order.resume(sequence, raw, are_lost=True)
        if is_good:
            self._proof.signed(sequence)

    def _leave_out(self, line: Omitted) -> None:
        order = self._order
        before = order.sequence
        if line.first <= before or line.last < line.first:
            self._findings.add(
                "inserted", f"behind record {before} it says that records before it are left out", before
            )
            return
        if line.first > before + 1:
            order.resume(line.first - 1, b"", are_lost=True)
        elif self._head.key and not self._proof.covers(before):
            self._findings.add(
                "signature",
                f"nothing binds the records up to {before}: what follows is left out, and no checkpoint stands before",
                before,
            )
        self._omitted += line.last - line.first + 1
        order.resume(line.last, bytes.fromhex(line.digest), are_lost=False)

    def _end_with(self, foot: Foot) -> None:
        order = self._order
        order.end(foot.last)
        self._bodies.settle()
        first_at, last_at = self._ats()
        told = {
            "the last record": (foot.last, order.sequence),
            "its digest": (foot.digest, order.digest.hex()),
            "how many records there are": (foot.count, self._records),
            "when the first was written": (foot.first_at, first_at),
            "when the last was written": (foot.last_at, last_at),
        }
        wrong = [what for what, (stated, found) in told.items() if stated != found]
        if wrong:
            self._findings.add("foot", f"the last line tells something else than the file holds: {', '.join(wrong)}")
        digest = bytes.fromhex(foot.digest)
        is_good = self._signatures.are_good(foot.last, digest, foot.signature, "the last line")
        if is_good and (foot.last, digest) == (order.sequence, order.digest):
            self._proof.signed(foot.last)

    def end(self, foot: Foot | None, fault: tuple[What, str] | None) -> Checked:
        """The outcome.

        Args:
            foot: the last line, if there is one.
            fault: what is wrong with the file.
        """
        if foot is not None:
            self._end_with(foot)
        else:
            self._order.end(None)
            # Where a file breaks off, what belongs beside its last record is behind the break.
            if fault is None or fault[0] != "truncated":
                self._bodies.settle()
        if fault is not None:
            what, sentence = fault
            still = "" if foot is not None else f"; {self._still_proven()}"
            # Kept whatever else there is: damaged bytes make many lines unreadable, and this is why.
            self._findings.kept.insert(0, Finding(what, f"{sentence}{still}"))
        # What is said of the whole file comes first: it explains the others.
        findings = sorted(self._findings.kept, key=lambda one: (one.sequence is not None, one.sequence or 0))
        first_at, last_at = self._ats()
        return Checked(
            ok=not findings,
            head=self._head,
            findings=tuple(findings),
            further=self._findings.further,
            records=self._records,
            first=None if self._first is None else self._first.sequence,
            last=None if self._last is None else self._last.sequence,
            first_at=first_at,
            last_at=last_at,
            end=self._order.sequence,
            digest=self._order.digest,
            omitted=self._omitted,
            bodies=self._bodies.count,
            redacted=self._bodies.redacted,
            proven=tuple(self._proof.runs),
            proven_to=self._proof.to,
            key=self._signatures.key,
            key_is_known=self._signatures.key_is_known,
        )

    def _ats(self) -> tuple[int | None, int | None]:
        """When the first and the last record were written, as they say."""
        return (None if self._first is None else self._first.at, None if self._last is None else self._last.at)

    def _still_proven(self) -> str:
        behind = f"the last record that can be read is {self._order.sequence}"
        if self._proof.to is None:
            return f"{behind}, and no signature covers any of them"
        return f"{behind}, and what is signed reaches to record {self._proof.to}"
