-- Schema version 8: a journal can be cut: its oldest records are in archive segments, and no more here; see cutting.py.

-- Where the records of each journal that was cut begin. A journal without a row here begins with its first record.
CREATE TABLE base (
    origin   INTEGER PRIMARY KEY,  -- 0 is the own journal
    sequence INTEGER NOT NULL,     -- up to here the records were cut
    digest   BLOB NOT NULL,        -- of the last one of them: what the next record is chained to
    until    INTEGER NOT NULL      -- up to here they are archived, and are being cut
) STRICT;

-- Which records at and before the base are here all the same, and because of which messages: such as are open, or have
-- their body. They stay until all these messages need them no more.
CREATE TABLE held (
    message INTEGER NOT NULL,  -- message.position
    record  INTEGER NOT NULL,  -- journal.position
    PRIMARY KEY (message, record)
) STRICT, WITHOUT ROWID;

-- Finds whether a record is held by a further message.
CREATE INDEX held_record ON held (record);
