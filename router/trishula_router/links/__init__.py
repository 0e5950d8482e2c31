"""Links between nodes: Crossbar's router links with what is at fault in them replaced.

:mod:`.names` says what travels, :mod:`.legs` how, :mod:`.connecting` keeps the connection. :func:`~.connecting.install`
is called by the edge before Crossbar starts the links of the configuration.
"""
