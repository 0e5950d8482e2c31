"""Everything that mends or walls off Crossbar and Autobahn; each mend is guarded, and says what it is there for.

Links between nodes are here too, because they are Crossbar's router links with what is at fault in them replaced:
:mod:`.link_names` says what travels, :mod:`.link_legs` how, :mod:`.link_bridge` for whom; :mod:`.link_client` keeps the
connection, by which :mod:`.link_far_leg` joins the peer's router; :mod:`.link_offer` and :mod:`.link_keys` are a node's
part in the links that end in it. The edge calls :func:`~.link_client.install` and :func:`~.link_offer.offer_names`
before Crossbar starts the links of the configuration.
"""
