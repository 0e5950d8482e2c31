"""From which use on a node counts ids that it doesn't know: what makes it safe to delete the rows of old messages.

Linked nodes know a message that is long settled by its row, and the next message under its id is its next use
(:mod:`.identity`): so no node takes it for the old one, that is done. A node that deletes such rows can't count uses
any more. So it remembers one number, its *first use*, which is above every use that it ever deleted a row of, and gives
it to each message whose id it doesn't know. It raises the number in the transaction that deletes rows, so no crash
comes between the two.

Why nothing gets lost. A record ``accepted`` is only ever taken for a message of the same use. Let a node accept a
message under an id. What it ever knew under that id and forgot has a lower use: if the row is here, the node counts on
from it, and if it was deleted, the first use is above it. That holds whatever the others have forgotten, whoever was
away and for how long, whatever clocks and configurations say, and also for nodes of earlier releases, because it is in
the record itself and all of them compare uses. What it never knew under that id, another node accepted apart from it:
then the two are one message, as they always were. A node that begins anew knows nothing; what others have left of their
journals brings it their first use in the transaction in which it would have learned of the rows
(:func:`trishula_router.store.noted.handed_on`), and so does each hello. Before it has heard of anybody such a node
takes a message for new, and another one may know the same message of long ago as done, and take it for that: so it was
before rows went, too.

Why nothing is doubled. A sender that reached two nodes offered one message to both, and they give it the same use if
their first uses are the same. So a higher one is told with each hello and taken over, and a node raises it only while
all its peers are there: first uses differ for half a second now and then, once each ``retention.ids`` or so. What is
offered to two nodes in that moment, neither of which has the other's record yet, is delivered twice, as in any
partition, and the receiver's memory of ids keeps one of it. Rows only go once no peer can bring the message anew, or
anything that would change what became of it: see :mod:`trishula_router.archiving.dropping`. What a peer does with the
row that it still has (a late ``done``, a surfacing) changes nothing that anybody counts on, and is passed over where
the row is gone.

Rejected: a record in the journal that says from which instant on a node has forgotten. Nodes know that instant of a
message by clocks that differ, so they would fold such a record differently; a node that begins behind a cut would need
each such record that was cut; and nodes of the release before would join what it keeps apart.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FIRST_USE", "MOST_FIRST_USE", "first_use_in"]

#: Under this key a store remembers it.
FIRST_USE = "ids:first_use"
#: A peer that lies must leave room for uses to come: see :func:`.telling.is_countable`.
MOST_FIRST_USE = 2**40


def first_use_in(notes: Mapping[str, str]) -> int:
    """The first use by what a store remembers; 0 if it never deleted a row that other nodes may have."""
    text = notes.get(FIRST_USE, "")
    # Longer digits a peer made up, and int() would refuse thousands of them with an error.
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_FIRST_USE))
    return min(int(text), MOST_FIRST_USE) if is_number else 0
