"""What a node keeps: the interface, a reference implementation in memory, and SQLite.

Names are imported from its modules: commands that read a file of a node's state need one of them, and not a store.
"""
