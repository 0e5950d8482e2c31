"""What a bus does just now, out of what a node tells: the traffic in its journals, and the facts of one look."""
