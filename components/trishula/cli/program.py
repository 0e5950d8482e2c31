"""The program ``trishula`` on a machine that may have an agent's packages only: it says what is missing.

What an agent needs is installed with it; what the command line needs besides comes with the extra ``cli``, and nothing
here may import it.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import NoReturn

from trishula.distribution import INSTALL_CLI
from trishula.exit_codes import Exit

__all__ = ["main"]

_NEEDED = ("click", "rich")


def main() -> NoReturn:
    """Run the command line, or say what it needs."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"trishula: the command line needs {' and '.join(missing)}, which an agent doesn't; run: {INSTALL_CLI}\n"
        )
        sys.exit(Exit.FAILED)
    from trishula.cli.main import main as run

    run()
