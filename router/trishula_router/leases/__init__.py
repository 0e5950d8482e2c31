"""Work leases: who works on what, agreed between the agents of all linked nodes."""
