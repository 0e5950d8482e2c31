"""The commands of a node, which join the command line through the entry-point group ``trishula.commands``.

Each module holds one command; :mod:`~trishula_router.commands.supervisor` runs the node's processes. Crossbar and
Twisted are imported by the commands that need them, when they run: ``trishula --help`` needs neither.
"""

from trishula_router.commands.init import init
from trishula_router.commands.journal_import import journal_import
from trishula_router.commands.node import node
from trishula_router.commands.token import token

__all__ = ["init", "journal_import", "node", "token"]
