"""A browser for tests of the node's page: headless Chromium, driven in a thread of its own.

The tests run on Twisted's asyncio reactor, and playwright's plain interface refuses to run in a thread with a loop.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

__all__ = ["PATIENCE_MS", "Browser", "chromium"]

T = TypeVar("T")

#: So long a page may take for what it is to show.
PATIENCE_MS = 30_000
#: And the browser until it has started, the first time, on a machine with other work.
_START_MS = 120_000

#: Read before the first test, because tests have none of these settings.
_IS_REQUIRED = os.environ.get("TRISHULA_REQUIRE_BROWSER") == "1"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Has the page keep what its policy refused.
_WATCH = "document.addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"


def chromium() -> str:
    """The browser's program; without it the test is skipped, or fails where it must run."""
    for name in _PROGRAMS:
        if (program := shutil.which(name)) is not None:
            return program
    if _IS_REQUIRED:
        pytest.fail("there is no Chromium, and TRISHULA_REQUIRE_BROWSER=1 asks for it")
    pytest.skip("Chromium is not installed")


class Browser:
    """One browser with one page.

    Args:
        home: where it may write what it writes into a home directory.

    Attributes:
        errors: what the page had to complain about: errors in its console and exceptions that nobody caught.
    """

    def __init__(self, home: Path) -> None:
        self.errors: list[str] = []
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._program = chromium()
        self._home = home

    def do(self, work: Callable[[Page], T]) -> T:
        """Do something with the page, in the browser's thread; what it returns or raises."""
        return self._thread.submit(lambda: work(self._page)).result()

    def __enter__(self) -> Browser:
        self._thread.submit(self._open).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _open(self) -> None:
        from playwright.sync_api import sync_playwright

        self._driver = sync_playwright().start()
        kept: dict[str, str | float | bool] = {name: value for name, value in os.environ.items() if name[:4] != "XDG_"}
        self._browser = self._driver.chromium.launch(
            executable_path=self._program,
            args=_ARGUMENTS,
            timeout=_START_MS,
            env=kept | {"HOME": str(self._home)},
        )
        self._page = self._browser.new_page(viewport={"width": 1360, "height": 900})
        self._page.set_default_timeout(PATIENCE_MS)
        self._page.add_init_script(_WATCH)
        self._page.on("console", self._heard)
        self._page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _close(self) -> None:
        self._browser.close()
        self._driver.stop()

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """The value of a script in the page."""
        return self.do(lambda page: page.evaluate(script, argument))
