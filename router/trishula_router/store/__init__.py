"""What a node keeps: the interface, a reference implementation in memory, and SQLite."""

from trishula_router.store.interface import Accepted, Draft, Return, State, Store, StoredMessage, StoreError
from trishula_router.store.memory import MemoryStore

__all__ = ["Accepted", "Draft", "MemoryStore", "Return", "State", "Store", "StoreError", "StoredMessage"]
