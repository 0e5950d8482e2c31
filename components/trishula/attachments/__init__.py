"""Files beside messages, on the agent's side: sent with a message, piece by piece, and fetched by who got it.

:mod:`.local_files` are the files, :mod:`.transfer` is the way of one attachment to a node and from it, :mod:`.verbs` is
what the verbs are made of.
"""
