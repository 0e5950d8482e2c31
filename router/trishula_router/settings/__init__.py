"""A node's configuration, with every fault named."""
