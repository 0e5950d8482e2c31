"""What a node keeps: the interface, a reference implementation in memory, and SQLite."""

from trishula_router.store.copies import Extract, JournalForked, Origin, Particulars
from trishula_router.store.interface import Accepted, Copied, Draft, Return, State, Store, StoredMessage, StoreError
from trishula_router.store.memory import MemoryStore

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
