"""Waking a model whose client is idle: something is run or called when mail waits, and gets a pointer to it.

A wake never carries what is in a message, and proves nothing: a message counts as *surfaced* by the model's own call of
``inbox`` alone. How a client is woken is in a module of its own for each: :mod:`~trishula.waking.shell`,
:mod:`~trishula.waking.codex`, :mod:`~trishula.waking.opencode`. When, is in :mod:`~trishula.waking.policy`.
"""

from __future__ import annotations
