"""What a monitor asks of a node: facts and thresholds make a state, a sentence and figures. Policy, without I/O."""
