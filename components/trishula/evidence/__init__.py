"""Evidence of what a node's journal held, for whoever has no node: the chain of its records."""
