"""Configurations of linked nodes: what an operator writes into ``primary.json`` and ``failover.json``, made from names.

:func:`linked_configs` is a pure function. The demo, the drills and the tests start several nodes on one machine with
it, and ``trishula init`` writes its result for an operator. What ties two nodes together, for each pair once:

- both have the role ``rlink``, and name each other in ``peers``;
- both have the path ``peer``, at which the other one joins with the key that is written down there;
- the one that comes later in the list has a link (``rlinks``) to the one that comes earlier. A second link, back, would
  double every event.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from trishula.contract import uris
from trishula_router.realm import LINK_ROLE
from trishula_router.settings.crossbar_config import Json, listener_of, options_of

__all__ = ["Member", "linked_configs"]


@dataclass(frozen=True, slots=True)
class Member:
    """One of the linked nodes.

    Attributes:
        name: its name.
        port: where it listens.
        public_key: its Ed25519 public key, 64 hexadecimal digits; see ``trishula node keys``.
        host: under what name or address the others reach it.
        ca_file: of the authority by which the others verify its certificate, relative to their configuration; ``None``
            if it speaks no TLS.
    """

    name: str
    port: int
    public_key: str
    host: str = "127.0.0.1"
    ca_file: str | None = None


def linked_configs(base: Json, members: Sequence[Member]) -> dict[str, Json]:
    """The configuration of each member, by its name.

    Args:
        base: the configuration of a node alone, such as the shipped ``single.json``; it stays as it is.
        members: those that are reached first come first: a laptop behind NAT comes last.
    """
    return {member.name: _config_of(base, member, members) for member in members}


def _config_of(base: Json, member: Member, members: Sequence[Member]) -> Json:
    config = copy.deepcopy(base)
    others = [other for other in members if other.name != member.name]
    earlier = members[: members.index(member)]
    options = options_of(config)
    options["node"] = member.name
    options["peers"] = [other.name for other in others]
    listener = listener_of(config)
    listener["endpoint"]["port"] = member.port
    listener["paths"][uris.PEER_PATH] = _peer_path(listener["paths"][uris.WEBSOCKET_PATH], others)
    for worker in config["workers"]:
        for realm in worker.get("realms", []):
            if realm["name"] == uris.REALM:
                roles = [role for role in realm["roles"] if role["name"] != LINK_ROLE]
                realm["roles"] = [*roles, {"id": "role_rlink", "name": LINK_ROLE, "authorizer": uris.AUTHORIZE}]
                realm.pop("rlinks", None)
                if earlier:
                    realm["rlinks"] = [_link_to(other) for other in earlier]
    return config


def _peer_path(for_agents: Json, others: Sequence[Member]) -> Json:
    principals = {
        other.name: {"realm": uris.REALM, "role": LINK_ROLE, "authorized_keys": [other.public_key]} for other in others
    }
    return {
        **copy.deepcopy(for_agents),
        "serializers": ["msgpack"],
        "auth": {"cryptosign": {"type": "static", "principals": principals}},
    }


def _link_to(other: Member) -> Json:
    endpoint: Json = {"type": "tcp", "host": other.host, "port": other.port}
    if other.ca_file is not None:
        endpoint["tls"] = {"hostname": other.host, "ca_certificates": [other.ca_file]}
    host = f"[{other.host}]" if ":" in other.host else other.host
    return {
        "id": other.name,
        "realm": uris.REALM,
        "transport": {
            "type": "websocket",
            "url": f"{'ws' if other.ca_file is None else 'wss'}://{host}:{other.port}/{uris.PEER_PATH}",
            "endpoint": endpoint,
            "serializers": ["msgpack"],
        },
    }
