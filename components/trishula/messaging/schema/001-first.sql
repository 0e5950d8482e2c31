-- Schema version 1 of an agent's file: what it sent, what it handled, which nodes it met.
-- Instants are integer milliseconds since the epoch, the agent's clock.

-- What the file is: one row a key.
--   bus      which bus its contents belong to: a digest of the token it was written under
CREATE TABLE property (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What was sent and has no receipt yet, or one with fewer copies than its sender asked for.
CREATE TABLE outbox (
    number  INTEGER PRIMARY KEY,   -- the order of sending, over all runs of the agent
    message BLOB NOT NULL,         -- MessagePack: the map that travels
    copies  INTEGER                -- how many copies its sender insists on; NULL: as the node has it
) STRICT;

-- The inbox's memory: messages whose handler has run. A COMMAND is here from the transaction on that puts its reply
-- into the outbox.
CREATE TABLE handled (
    sender TEXT NOT NULL,          -- address
    id     TEXT NOT NULL,          -- the sender's; (sender, id) is the key of a message
    at     INTEGER NOT NULL,
    PRIMARY KEY (sender, id)
) STRICT, WITHOUT ROWID;

-- How far each node's store was when the agent last attached to it.
CREATE TABLE node (
    url      TEXT PRIMARY KEY,
    epoch    TEXT NOT NULL,        -- names the store; positions of another epoch mean nothing in this one
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
