"""What ``trishula doctor`` knows of nodes, as policy: the machine of a node, and what nodes tell of each other."""
