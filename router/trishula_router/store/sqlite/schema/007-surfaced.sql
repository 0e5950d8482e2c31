-- Schema version 7: a message was put into a model's context; see surfacing.py.

-- When that was first, by the clock of the node that noted it; NULL before. The record of it is in the trace.
ALTER TABLE message ADD COLUMN surfaced_at INTEGER;

-- Records of linked nodes that knew of it before this one did: they were copied, and passed over. The own journal has
-- none, so a node without links reads nothing here.
CREATE TEMP TABLE surfacing AS
SELECT coalesce(a.message, it.here) AS message, it.position, it.at
FROM (
    SELECT j.position, j.at, CASE (one.value ->> 0) >> 48
        WHEN 0 THEN j.position >> 48 << 48
        ELSE (
            SELECT n.ours << 48 FROM numbering AS n WHERE n.origin = j.position >> 48 AND n.theirs = (one.value ->> 0) >> 48
        )
    END | ((one.value ->> 0) & ((1 << 48) - 1)) AS here
    FROM journal AS j, json_each(
        CASE WHEN json_valid(CAST(j.facts AS TEXT)) THEN CAST(j.facts AS TEXT) ELSE '{}' END, '$.messages'
    ) AS one
    WHERE j.position >= 1 << 48 AND j.kind = 'surfaced'
) AS it LEFT JOIN alias AS a ON a.position = it.here;
INSERT OR IGNORE INTO trace SELECT message, position FROM surfacing WHERE message IN (SELECT position FROM message);
UPDATE message SET surfaced_at = (SELECT min(at) FROM surfacing AS s WHERE s.message = message.position)
WHERE position IN (SELECT message FROM surfacing);
DROP TABLE surfacing;
