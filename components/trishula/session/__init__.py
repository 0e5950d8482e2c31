"""Which node a client is joined to, when, and how: connections, reconnects, and what a session tells its node."""
