-- Schema version 9: rows of messages go in stores of linked nodes, too; see first_use.py. What is above all uses of ids
-- that went is in "property". A program of before would count from 0 again, so it must not open the file.

-- Finds what else a message is known by, to delete it with its row.
CREATE INDEX alias_message ON alias (message);
