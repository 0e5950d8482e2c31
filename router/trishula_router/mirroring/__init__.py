"""Mirrors of a node's journal for collectors: a stream of Redis, and a file of JSON lines.

The journal is the queue, with its archive behind it: a mirror is a place in it and one page in memory, however far it
is behind. What is slow, full, dead or flushed at the other end makes that place stand still, and nothing else: pages
are read by the store's reader, and written by a thread of the mirror's own.

=====================  ============================================================================
:mod:`.place`          where a mirror goes on, and how far it is behind: policy, no I/O
:mod:`.pages`          pages of the journal, with gaps told
:mod:`.archived`       those that are in the archive alone
:mod:`.target`         what a mirror writes to
:mod:`.mirror`         one mirror: pages to its target, again and again
:mod:`.redis_stream`   the target that is a stream of Redis
:mod:`.rotated_file`   the target that is a file
=====================  ============================================================================
"""
