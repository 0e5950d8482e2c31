"""What runs in a node: the services that are embedded in the router worker, and the commands that manage it."""
