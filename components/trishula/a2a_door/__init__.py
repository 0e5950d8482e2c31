"""The door for agents of other makers, who speak A2A 1.0: each agent of the bus is an agent of A2A there.

A task of A2A is a COMMAND of the bus. It is on a node's disk before its caller is told ``submitted``, so the agent may
sleep, or live behind NAT: the task waits in its mailbox. What becomes of the COMMAND becomes of the task
(:mod:`~trishula.a2a_door.life`), and the agent's answer is the task's artifact (:mod:`~trishula.a2a_door.parts`).

Whoever calls is an agent of the bus too, under a token and with grants of its own: the door joins under the token that
the caller brings (:mod:`~trishula.a2a_door.callers`). The record is the bus. What A2A wants beside it (the events of a
task in their order, webhooks and what became of each notification) is in a file of the door
(:mod:`~trishula.a2a_door.ledger`), and :mod:`~trishula.a2a_door.tasks` keeps the two together over the end of either.

The other direction is :mod:`~trishula.a2a_door.outgoing`: an agent of the bus that stands for an agent of A2A.

:mod:`~trishula.a2a_door.handler`, :mod:`~trishula.a2a_door.web_server`, :mod:`~trishula.a2a_door.webhooks`,
:mod:`~trishula.a2a_door.keys` and :mod:`~trishula.a2a_door.remote` are the modules that need the SDK, which can't be
installed beside Crossbar and comes with the extra ``a2a``.
"""
