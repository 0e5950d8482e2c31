"""Processes that stand between a node's port and its router worker, so that TLS has processor cores of its own.

:mod:`.workers` is the node's part: it opens the port, starts the processes and replaces one that ends.
:mod:`.process` is such a process: it ends TLS (:mod:`.tls`) and carries bytes to and fro (:mod:`.relay`), and knows
nothing of WebSocket, WAMP, tokens or agents. Who somebody is, and what somebody may do and take, is found out in the
router worker, by the same code and from the same bytes as without these processes.

Rejected: Crossbar's own proxies (26.10.1, ``crossbar.worker.proxy``). They decide themselves who a client is, and the
router believes whatever name and role the proxy's connection claims (``anonymous-proxy``). They drop the reason of a
GOODBYE (``ProxyBackendSession.onClose`` sends one of its own), so that an agent whose place was taken would come back
and take it again. They hand on messages however slowly the client reads (``ProxyFrontendSession._forward``), past the
node's bounds on queues. And the router must read each message as before, while the proxy reads and writes it too.
"""
