"""What a client may ask a node for: the procedures of the wire contract, and how their arguments are read."""
