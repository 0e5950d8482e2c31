"""What the service promises in figures, and whether it keeps it: objectives, windows, budgets, triggers."""
