"""Links between nodes: Crossbar's router links with what is at fault in them replaced.

:mod:`.names` says what travels, :mod:`.legs` how, :mod:`.bridge` for whom; :mod:`.connecting` keeps the connection;
:mod:`.offering` and :mod:`.proving` are a node's part in the links that end in it. The edge calls
:func:`~.connecting.install` and :func:`~.offering.offer_names` before Crossbar starts the links of the configuration.
"""
