"""What linked nodes tell each other: their journals, and who is there."""
