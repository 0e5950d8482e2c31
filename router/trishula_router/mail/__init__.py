"""A message's life in a node: from its acceptance over its mailbox and its deliveries to how it ended."""
