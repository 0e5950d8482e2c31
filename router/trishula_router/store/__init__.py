"""What a node keeps: the interface, a reference implementation in memory, and SQLite."""

from trishula_router.store.interface import Copied, Store, StoreError
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Accepted, Draft, Return, State, StoredMessage
from trishula_router.store.runs import Extract, JournalForked, Origin, Particulars

__all__ = [
    "Accepted",
    "Copied",
    "Draft",
    "Extract",
    "JournalForked",
    "MemoryStore",
    "Origin",
    "Particulars",
    "Return",
    "State",
    "Store",
    "StoreError",
    "StoredMessage",
]
