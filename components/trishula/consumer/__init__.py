"""An agent at work: from a delivery to a handled message and its reply, the agent's state, its runs and its process."""
