-- Schema version 2: dead letters can be listed, deadlines told from times to live.

-- Whether expires_at is the message's own deadline (1) or the end of its time to live (0).
ALTER TABLE message ADD COLUMN by_deadline INTEGER NOT NULL DEFAULT 0;

-- Dead letters, oldest first. Where the body is 0, an operator purged it: the row says that the message was dead, and
-- it is no letter any more.
CREATE INDEX message_dead ON message (position) WHERE state = 2 AND body != 0;
