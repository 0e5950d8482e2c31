"""What the doctor is asked, and what a part of it brings back: so the node's side joins, which not each machine has.

The part that knows nodes comes by the entry-point group :data:`PARTS`, as commands do: a callable that takes
:class:`Asked` and returns :class:`Examined`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trishula.doctor.findings import Finding

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["PARTS", "Asked", "Examined"]

#: The entry-point group.
PARTS = "trishula.doctor"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be looked at.

    Attributes:
        state_dir: a node's state directory, if one was named.
        configs: configurations that were named.
        urls: of nodes at which a session was let in.
        has_token: whether there is one to ask with.
        bus: opens a session at a URL.
    """

    state_dir: Path | None
    configs: tuple[Path, ...]
    urls: tuple[str, ...]
    has_token: bool
    bus: Callable[[str], AbstractContextManager[Bus]]


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of it.

    Attributes:
        findings: in order.
        values: for the bundle: name → a value of JSON.
        texts: for the bundle: name → text, such as the end of a log.
        secrets: what must not be in the bundle.
    """

    findings: list[Finding] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
