-- Schema version 1: the journal, the messages it tells of, their bodies.
-- Instants are integer milliseconds since the epoch, the node's clock. Positions are explained in journal.py.

-- What the node is: one row a key.
--   epoch    random hex, made with the file; positions of another epoch mean nothing here
CREATE TABLE property (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The append-only, hash-chained log. Rows are never changed and never deleted.
CREATE TABLE journal (
    position INTEGER PRIMARY KEY,  -- (origin << 48) | sequence
    at       INTEGER NOT NULL,     -- when the node wrote it
    kind     TEXT NOT NULL,        -- journal.Kind
    facts    BLOB NOT NULL,        -- JSON; what the kind tells
    digest   BLOB NOT NULL         -- SHA-256 over the previous digest and this row
) STRICT;

-- One row for each recipient of each message: the state the journal's records add up to.
-- Bodies are in a table of their own, because SQLite writes a whole row again when one column of it changes.
CREATE TABLE message (
    position    INTEGER PRIMARY KEY,         -- of its accepted record
    sender      TEXT NOT NULL,               -- address
    id          TEXT NOT NULL,               -- the sender's; (sender, id) is the key of a message
    recipient   TEXT NOT NULL,               -- address; of a broadcast each recipient has a row
    type        TEXT NOT NULL,               -- COMMAND, STATUS, …
    priority    INTEGER NOT NULL,            -- 1 is the most urgent
    accepted_at INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,            -- after it nobody gets the message any more
    size_bytes  INTEGER NOT NULL,            -- of the envelope
    body        INTEGER NOT NULL,            -- where the envelope is: recipients of one broadcast share it
    attempts    INTEGER NOT NULL DEFAULT 0,  -- how often it was delivered
    failures    INTEGER NOT NULL DEFAULT 0,  -- how often an attempt failed
    due_at      INTEGER NOT NULL DEFAULT 0,  -- not to be delivered before
    state       INTEGER NOT NULL DEFAULT 0,  -- interface.State: 0 open, 1 done, 2 dead, 3 expired, 4 cancelled
    delivered   INTEGER,                     -- position of the record of its last delivery
    settled     INTEGER                      -- position of the record that settled it
) STRICT;

-- Finds repeats of a send. Sender and id alone are not unique, because a broadcast has a row for each recipient; the id
-- comes first, because questions (why, status) don't know the sender.
CREATE UNIQUE INDEX message_key ON message (id, sender, recipient);

-- Open messages in order of delivery; settled ones leave it, so it stays as small as the mailboxes are.
CREATE INDEX message_open ON message (recipient, priority, position, expires_at, size_bytes) WHERE state = 0;

-- The message as JSON, as its recipients read it.
CREATE TABLE body (
    position INTEGER PRIMARY KEY,
    envelope BLOB NOT NULL
) STRICT;

-- Further records that tell of a message: earlier deliveries and returns. The usual life (accepted, delivered once,
-- done) needs no row here.
CREATE TABLE trace (
    message  INTEGER NOT NULL,  -- message.position
    position INTEGER NOT NULL,  -- journal.position
    PRIMARY KEY (message, position)
) STRICT, WITHOUT ROWID;
