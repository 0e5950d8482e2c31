"""What a node remembers: one interface, in memory for tests and in SQLite for good."""
