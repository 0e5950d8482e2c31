"""Cells: nodes that are not linked, joined by Redis. Redis is a road and never the record.

A *cell* is a node, or two linked ones. What is sent at one cell to an agent whose home is another one is accepted in
the sender's cell like any message: durably, before its receipt. The *forwarder* there takes it from the mailbox and
puts it on the stream of the home cell, whose *reader* accepts it into its own journal, under the same identity, and
only then takes the entry off the stream. What becomes of the message there comes back on the sender's stream, and
settles the message where it was sent. So a message is at each instant in the journal of some cell that will see to it:

* The entry is lost, or nobody reads it: no news comes, and the forwarder sends again, after growing pauses.
* It comes twice, or late: the home cell knows the identity, and answers how the message stands.
* The news is lost: the forwarder asks, and is answered the same.
* The cell of the sender dies: the message is open in its store, and is forwarded again.
* The home cell dies: what it accepted is in its store, and what it did not accept is still open at the sender's.

Whoever can write to Redis can lose entries and repeat them, and no more: each entry carries a MAC.

=======================  ============================================================================
:mod:`.letters`          what cells tell each other
:mod:`.seal`             proves who says it, and to whom
:mod:`.homes`            which cell an agent is at: policy
:mod:`.forwards`         what was sent to other cells, when to ask, what news does: policy
:mod:`.owed`             whom this cell owes news: policy
:mod:`.canary`           whether what is put on the road comes back: policy
:mod:`.road`             what a road is
:mod:`.memory_road`      one in memory, which tests use
:mod:`.redis_road`       the one over Redis
:mod:`.onward`           takes messages out of mailboxes, and settles them
:mod:`.acceptance`       takes what other cells send into this cell's journal
:mod:`.hearing`          what follows from letters
:mod:`.homekeeping`      tells Redis who is here, and asks it who is where
:mod:`.standing`         what of the road fails
:mod:`.sending`          gathers what goes onto the road
:mod:`.exchange`         the rounds, and both ends of the road
:mod:`.service`          makes one of it all
=======================  ============================================================================

Live topics and the directory go beside all that, by roads of their own, which keep nothing that is needed:

============================  =======================================================================
:mod:`.live`                  an event on its way, and which ones are new: policy
:mod:`.live_road`             what such a road is, and one in memory
:mod:`.redis_live_road`       the one over Redis
:mod:`.topics`                says what is published here, and tells what is published elsewhere
:mod:`.directory_words`       what a cell says of its agents
:mod:`.others`                what is known of other cells, and how old that is: policy
:mod:`.directory_road`        what carries it, and one in memory
:mod:`.redis_directory_road`  the one over Redis
:mod:`.directories`           tells who is here, and hears who is elsewhere
============================  =======================================================================
"""
