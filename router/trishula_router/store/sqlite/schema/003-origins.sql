-- Schema version 3: journals of other nodes beside the own one.

-- The journals of other nodes that this store copies, each the work of one epoch of one node's store. The own one has
-- the number 0 and no row.
CREATE TABLE origin (
    number INTEGER PRIMARY KEY,  -- its records have positions (number << 48) | sequence
    node   TEXT NOT NULL,        -- whose it is
    epoch  TEXT NOT NULL UNIQUE
) STRICT;

-- What the numbers of origins mean in the facts of copied records, which stay as they were written.
CREATE TABLE numbering (
    origin INTEGER NOT NULL,  -- who wrote the facts
    theirs INTEGER NOT NULL,  -- the number there; 0 is its own journal and has no row
    node   TEXT NOT NULL,
    epoch  TEXT NOT NULL,
    ours   INTEGER NOT NULL,  -- the number here
    PRIMARY KEY (origin, theirs)
) STRICT, WITHOUT ROWID;

-- A message that several nodes accepted, because its sender offered it to each, is one message here.
CREATE TABLE alias (
    position INTEGER PRIMARY KEY,  -- of a further accepted record
    message  INTEGER NOT NULL      -- message.position
) STRICT;

-- Copied records that tell of a message whose own record is not here yet.
CREATE TABLE early (
    message INTEGER NOT NULL,  -- the position that it will have, or that will be an alias
    record  INTEGER NOT NULL,  -- journal.position
    PRIMARY KEY (message, record)
) STRICT, WITHOUT ROWID;

-- How often it was replayed from the dead letters; see standing.py.
ALTER TABLE message ADD COLUMN life INTEGER NOT NULL DEFAULT 0;
UPDATE message SET life = (
    SELECT count(*) FROM trace AS t JOIN journal AS j ON j.position = t.position
    WHERE t.message = message.position AND j.kind = 'replayed'
) WHERE position IN (SELECT message FROM trace);
UPDATE message SET life = 1 << 30 WHERE state = 2 AND body = 0;

-- The order in which messages became durable here, own and copied ones alike: how many records the store held with the
-- one that accepted it.
ALTER TABLE message ADD COLUMN arrival INTEGER NOT NULL DEFAULT 0;
UPDATE message SET arrival = position;

DROP INDEX message_open;
CREATE INDEX message_open ON message (recipient, priority, arrival, expires_at, size_bytes) WHERE state = 0;
