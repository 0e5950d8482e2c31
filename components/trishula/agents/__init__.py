"""The three agents of the first deployment: small, real, and meant to be copied.

=============  =====================================================================================================
``dc``         coordinator: asks all others for their host report, collates, prints a table, broadcasts a summary
``agni``       infrastructure: host report, checks of services (TCP, HTTP) and of certificates
``rushabdev``  reliability: host report, allow-listed checks as subprocesses, uptime
=============  =====================================================================================================

``trishula agent run NAME`` runs one; each module has the :class:`~trishula.agent.Agent` in ``agent`` and makes others
with ``build()``.
"""
