"""Evidence of what a node's journal held, in files that anybody can check without a node.

A *segment* is a run of a journal's records in a file, signed by a node: an archive is made of them, and an export of an
audit is one. :mod:`.lines` has the format, :mod:`.writing` writes it, :mod:`.checking` finds what is not as it was
written, :mod:`.archive` keeps a folder of them. What is signed, and what that proves, is in :mod:`.signing`.
"""
