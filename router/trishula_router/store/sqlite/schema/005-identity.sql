-- Schema version 5: ids belong to agents, and stand for one message; see identity.py.

-- Of type, recipient, procedure and payload, in hexadecimal; '' of what was accepted before.
ALTER TABLE message ADD COLUMN digest TEXT NOT NULL DEFAULT '';

-- How often the id was used by others before, and forgotten.
ALTER TABLE message ADD COLUMN use INTEGER NOT NULL DEFAULT 0;

-- The id of the message that it answers; NULL of what was accepted before.
ALTER TABLE message ADD COLUMN reply_to TEXT;

-- Not unique any more: an id can be used again once it is forgotten, and nodes that can't reach each other may accept
-- two messages under one.
DROP INDEX message_key;
CREATE INDEX message_key ON message (id, sender, recipient);

-- Finds the answer to a message.
CREATE INDEX message_reply ON message (reply_to) WHERE reply_to IS NOT NULL;
