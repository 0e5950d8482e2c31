"""What this package is called where packages are installed from, which version it is, and whether it is all there.

The *package* is ``trishula``, the *distribution* ``trishula-bus``: on the public index ``trishula`` is a stranger's
parser, whose package has our name. Where both are installed, the files of one lie over those of the other; then our own
commands must say so, because what Python says (``cannot import name 'Agent'``) leads nobody to the cause. Before it was
called ``trishula-bus`` our distribution was ``trishula`` too; an environment from then still works.
"""

from __future__ import annotations

import sys
from importlib import metadata

__all__ = [
    "DISTRIBUTION",
    "INSTALL_A2A",
    "INSTALL_AGENTS",
    "INSTALL_CLI",
    "INSTALL_FILES",
    "INSTALL_MCP",
    "INSTALL_NODE",
    "beside_us",
    "stranger",
    "version",
]

DISTRIBUTION = "trishula-bus"
#: How a machine that has an agent's packages gets the command line, what bridges watch folders by, the front door of
#: language models, and the agents that ship with TRISHULA.
INSTALL_CLI = f"pip install '{DISTRIBUTION}[cli]' (in a checkout: pip install '.[cli]')"
INSTALL_FILES = f"pip install '{DISTRIBUTION}[files]' (in a checkout: pip install '.[files]')"
INSTALL_MCP = f"pip install '{DISTRIBUTION}[mcp]' (in a checkout: pip install '.[mcp]'), without [router] beside it"
#: The door for agents of other makers.
INSTALL_A2A = f"pip install '{DISTRIBUTION}[a2a]' (in a checkout: pip install '.[a2a]'), without [router] beside it"
INSTALL_AGENTS = f"pip install '{DISTRIBUTION}[agents]' (in a checkout: pip install '.[agents]')"
#: How a node's machine gets what it needs.
INSTALL_NODE = f"pip install '{DISTRIBUTION}[router]' (in a checkout: pip install '.[router]')"

#: A stranger's on the index, and ours in environments that were made before we were called otherwise.
_OLD_NAME = "trishula"
#: What a distribution of ours declares, under whatever name.
_OUR_ENTRY_POINTS = "trishula.commands"
_WAY_OUT = f"run: pip uninstall {_OLD_NAME}; then install {DISTRIBUTION} again with pip's --force-reinstall --no-deps"


def version() -> str:
    """The version of what runs; ``unknown`` for sources that are run without being installed."""
    for name in (DISTRIBUTION, _OLD_NAME):
        found = _find(name)
        if found is not None and (name == DISTRIBUTION or _is_ours(found)):
            return found.version
    return "unknown"


def stranger() -> str | None:
    """A sentence if the package ``trishula`` that Python found is another one than ours; else ``None``."""
    package = sys.modules[_OLD_NAME]
    # One name of ours is enough; the stranger's package has no __all__.
    if "TrishulaError" in getattr(package, "__all__", ()):
        return None
    where = next(iter(getattr(package, "__path__", ())), "an unknown place")
    return (
        f"the package {_OLD_NAME} in {where} is not TRISHULA's: the distribution {_OLD_NAME} of the public index, a "
        f"parser, has a package of that name, and its files lie over ours; {_WAY_OUT}"
    )


def beside_us() -> str | None:
    """A sentence if a distribution ``trishula`` is installed that isn't this one; else ``None``.

    Nothing need be broken yet: whichever was installed last has the files. That changes when one of them is removed.
    """
    other = _find(_OLD_NAME)
    if other is None or (_is_ours(other) and _find(DISTRIBUTION) is None):
        return None
    whose = "ours, from before its name was changed" if _is_ours(other) else "a stranger's parser"
    return (
        f"the distribution {_OLD_NAME} {other.version} ({whose}) is installed in this environment, and has files where "
        f"those of {DISTRIBUTION} are; {_WAY_OUT}"
    )


def _find(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _is_ours(found: metadata.Distribution) -> bool:
    return any(point.group == _OUR_ENTRY_POINTS for point in found.entry_points)
