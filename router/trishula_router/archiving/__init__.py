"""What keeps a node's journal from growing for ever: its oldest records go into an archive, and out of the store.

:mod:`.due` decides what is old enough, :mod:`.segments` writes files, and :mod:`.archiver` does one after the other.
"""
