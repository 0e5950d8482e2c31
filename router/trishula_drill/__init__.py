"""Drills: a node and its clients under faults that strike on purpose, and a checker of what became of every message."""
