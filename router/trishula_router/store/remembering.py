"""Messages that are settled and whose records were cut: what a store with an empty disk is told to know repeats by.

Of such a message a row is left in the stores of linked nodes, and that row is handed on: a repeat through a node that
begins anew would else be a new message there, and be done once more. Nothing here does I/O.
"""

from __future__ import annotations

from trishula_router.store.fold_changes import Row
from trishula_router.store.journal import SEQUENCE_MASK
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.origins import position_in
from trishula_router.store.runs import Extract, Remembered
from trishula_router.store.standing import standing_of
from trishula_router.store.telling import MOST

__all__ = ["are_in_order", "remembered_as", "row_of"]

_FINAL = frozenset(state.value for state in State if state is not State.OPEN)


def remembered_as(sequence: int, message: StoredMessage, life: int) -> Remembered:
    """A message as it is handed on; ``sequence``: of the record that accepted it in the journal that is told of."""
    return Remembered(
        sequence,
        message.sender,
        message.id,
        message.recipient,
        message.type,
        message.digest,
        message.use,
        message.state.value,
        message.accepted_at,
        message.expires_at,
        life,
        message.priority,
        message.size_bytes,
        message.reply_to,
    )


def row_of(told: Remembered, number: int, arrival: int, ahead_ms: int) -> Row:
    """The row that it gets: without a body, and without records."""
    return Row(
        position_in(number, told.sequence),
        told.sender,
        told.id,
        told.recipient,
        told.type,
        told.priority,
        told.accepted_at - ahead_ms,
        told.expires_at - ahead_ms,
        False,
        told.size_bytes,
        arrival,
        0,
        standing_of(State(told.state), told.life),
        digest=told.digest,
        use=told.use,
        reply_to=told.reply_to,
    )


def are_in_order(extract: Extract) -> bool:
    """Whether what a run tells is all of its part of the journal, in order, and settled where it is to be.

    And whether a store can hold its numbers: with a greater sequence it would stand in the place of another journal's.
    """
    rest = extract.rest
    if rest is None or len(rest.sequences) != len(extract.records) or rest.until > SEQUENCE_MASK:
        return False
    for told in (rest.sequences, [one.sequence for one in rest.remembered]):
        steps = [extract.first - 1, *told]
        if any(one >= other for one, other in zip(steps, told, strict=False)) or steps[-1] > rest.last:
            return False
    return all(one.state in _FINAL and _is_countable(one) for one in rest.remembered)


def _is_countable(told: Remembered) -> bool:
    numbers = (told.use, told.accepted_at, told.expires_at, told.life, told.priority, told.size_bytes)
    return all(-MOST < number < MOST for number in numbers)
