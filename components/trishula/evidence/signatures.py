"""The signatures of a segment: by which key they are to be, and whether they are."""

from __future__ import annotations

from collections.abc import Callable, Collection

from trishula.evidence.findings import What
from trishula.evidence.lines import Head
from trishula.evidence.signing import is_signed, statement

__all__ = ["Signatures"]


class Signatures:
    """Checks what is signed, by the keys that the caller knows, or else by the one that the file names.

    Args:
        head: the first line.
        public_keys: what the caller knows.
        find: told what is wrong.

    Attributes:
        key: the key by which the last signature was found good; before, the one that the file names.
        key_is_known: whether the caller gave that key.
    """

    def __init__(self, head: Head, public_keys: Collection[str], find: Callable[[What, str, int | None], None]) -> None:
        self.key = head.key
        self.key_is_known = head.key in public_keys
        self._head = head
        self._find = find
        self._keys = [head.key] if self.key_is_known or not public_keys else list(public_keys)
        self._is_wrong = bool(public_keys) and not self.key_is_known
        if public_keys and not head.key:
            find("unsigned", "nothing in the file is signed, so anybody may have made it", None)
        elif self._is_wrong:
            given = "the one that was given" if len(public_keys) == 1 else "one of those that were given"
            find("wrong_key", f"the file says that its key is {head.key}, and that is not {given}", None)

    def are_good(self, sequence: int, digest: bytes, signature: str, where: str) -> bool:
        """Whether the node signed which digest a record has; if not, that is a finding.

        Args:
            sequence, digest: of the record.
            signature: as it stands in the file.
            where: of what, for the sentence.
        """
        head = self._head
        if not head.key:
            return False
        text = statement(head.node, head.origin, head.epoch, sequence, digest)
        for key in self._keys:
            if is_signed(key, text, signature):
                self.key, self.key_is_known = key, self._is_wrong or self.key_is_known
                return True
        if not signature:
            self._find("unsigned", f"{where} is not signed", sequence)
        elif not self._is_wrong:
            # By another key all are: that was said once.
            self._find("signature", f"{where} is not signed by the key {self.key} of node {head.node}", sequence)
        return False
