"""The clocks of a node, of its senders and of its peers, and what becomes of a step."""
