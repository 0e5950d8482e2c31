-- Schema version 2 of an agent's file: ids belong to agents, and stand for one message.

CREATE TABLE of_agents (
    sender  TEXT NOT NULL,         -- the agent, whichever instance of it sent
    id      TEXT NOT NULL,         -- the sender's; (sender, id) is the key of a message
    at      INTEGER NOT NULL,
    content INTEGER,               -- a checksum of what was sent; NULL: not known
    PRIMARY KEY (sender, id)
) STRICT, WITHOUT ROWID;
INSERT OR REPLACE INTO of_agents
    SELECT CASE instr(sender, '/') WHEN 0 THEN sender ELSE substr(sender, 1, instr(sender, '/') - 1) END, id, at, NULL
    FROM handled ORDER BY at;
DROP TABLE handled;
ALTER TABLE of_agents RENAME TO handled;
