"""Whether a node can serve: the checks behind ``/ready``, ``trishula.node.ready`` and the watchdog.

What is measured and what is judged are apart. :mod:`.checks` and :mod:`.peer_check` judge: functions of figures.
:mod:`.trial`, :mod:`.growth` and :mod:`.behind` keep what was seen, and take ``now``. :mod:`.canary` sends
messages through the node, of which :mod:`.lane` is the way. :mod:`.readiness` has it all run.
"""
