"""Who may join, and who is there."""
