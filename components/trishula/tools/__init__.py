"""What is for measuring and trying: the benchmark, and a node that lives as long as a command."""
