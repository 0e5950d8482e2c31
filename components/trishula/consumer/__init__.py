"""From a delivery to a handled message: handlers, their replies, and where an agent keeps its state."""
