"""A trial: something that is tried again and again, and what is known of it between two tries. Policy, no I/O.

What hangs is the fault that matters most: a disk that doesn't answer fails nothing, it lets everybody wait. So a trial
knows since when one try has been under way, and there is never a second one beside it.
"""

from __future__ import annotations

__all__ = ["Trial"]


class Trial:
    """One trial.

    Attributes:
        begun_s: when the try began that is under way; ``None`` if none is.
        passed_s: when one passed last; ``None`` before the first.
        took_s: how long that one took.
        fault: why the last one failed, as a sentence; ``None`` if it passed, or none has ended yet.
    """

    def __init__(self) -> None:
        self.begun_s: float | None = None
        self.passed_s: float | None = None
        self.took_s: float | None = None
        self.fault: str | None = None

    def begin(self, now_s: float) -> None:
        """A try begins."""
        self.begun_s = now_s

    def passed(self, now_s: float) -> None:
        """It did what it is to do."""
        self.took_s = now_s - (now_s if self.begun_s is None else self.begun_s)
        self.passed_s, self.begun_s, self.fault = now_s, None, None

    def failed(self, fault: str) -> None:
        """It did not, for a reason."""
        self.begun_s, self.fault = None, fault

    def waits_s(self, now_s: float) -> float:
        """For how long one has been under way; 0 if none is."""
        return 0.0 if self.begun_s is None else now_s - self.begun_s

    def age_s(self, now_s: float) -> float | None:
        """How long ago one passed last."""
        return None if self.passed_s is None else now_s - self.passed_s
