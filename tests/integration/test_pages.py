"""The pages of the documentation, as their readers use them: what they say is typed, and what they promise is seen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.node import environment
from tests.support.walkthrough import Walkthrough

pytestmark = pytest.mark.node

PAGES = Path(__file__).resolve().parents[2] / "deploy" / "docs"


def readers_environment() -> dict[str, str]:
    """That of somebody who has our commands first on the path."""
    return environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


#: With the ports that each names.
WALKED = {"tutorial/first-agent": (8765,), "tutorial/two-nodes": (8801, 8802)}


@pytest.mark.parametrize("page", WALKED)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    with Walkthrough(tmp_path, readers_environment(), WALKED[page]) as reader:
        reader.walk(PAGES / f"{page}.rst")
