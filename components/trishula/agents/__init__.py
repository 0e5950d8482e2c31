"""The three sample agents: dc coordinates, agni looks after hosts, rushabdev after reliability."""
