"""Attachments: files beside the mailbox, kept for the messages that name them.

:mod:`.ledger` decides what is taken and what goes, without I/O; :mod:`.files` are the files; :mod:`.keeping` does what
agents ask, and sweeps.
"""
