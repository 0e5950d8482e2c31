-- Schema version 4: a message to a capability can be handed over to another node; see keeping.py.

-- The node that hands it out: "" is this one; NULL if it is the one that accepted it.
ALTER TABLE message ADD COLUMN keeper TEXT;

-- How often it was handed over.
ALTER TABLE message ADD COLUMN hop INTEGER NOT NULL DEFAULT 0;

-- With the keeper: the mailbox of a capability has only what this node keeps, and is read without touching rows.
DROP INDEX message_open;
CREATE INDEX message_open ON message (recipient, priority, arrival, expires_at, size_bytes, keeper) WHERE state = 0;
