"""What a client tells of its process, so that it is known later whether that one lives on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Life"]


@dataclass(frozen=True, slots=True)
class Life:
    """What a client tells of itself as it attaches.

    Attributes:
        run: names this run of its process.
        after: the run before it, whose file it found.
        begun: (sender, id) of what that one had begun and not ended.
        host: where it runs, for people.
    """

    run: str
    after: str | None = None
    begun: frozenset[tuple[str, str]] = frozenset()
    host: str | None = None
