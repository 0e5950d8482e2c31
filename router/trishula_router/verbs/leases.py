"""The procedures about work leases: agents claim, renew, release and see them; operators end one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.scopes import Scope
from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid
from trishula_router.agents.callers import Caller, Verb
from trishula_router.leases.work_leases import Claim
from trishula_router.verbs import arguments
from trishula_router.verbs.lease_options import ClaimOptions, ForceOptions, ListOptions, ReleaseOptions, RenewOptions

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["LeaseVerbs"]


class LeaseVerbs:
    """The procedures ``lease.*`` and ``admin.lease_release`` of one node.

    Args:
        node: where they are asked for.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """All of them, by their URIs."""
        return {
            uris.LEASE_CLAIM: self._claim,
            uris.LEASE_RENEW: self._renew,
            uris.LEASE_RELEASE: self._release,
            uris.LEASE_LIST: self._list,
            uris.ADMIN_LEASE_RELEASE: self._force,
        }

    async def _claim(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        scope, raw = arguments.read_positional(args, "lease.claim", 1, 2)
        options = arguments.read(ClaimOptions, raw, "options")
        self._admit(caller)
        instance = self._node.sessions[caller.session].instance
        claim = Claim(
            str(Address(caller.agent, instance)),
            caller.session,
            Scope.parse(scope),
            shared=options.shared,
            note=options.note,
            ttl_ms=round(options.ttl_s * 1000),
            wait_s=options.wait_s,
            queue=options.queue,
            sure=options.sure,
            take_over=options.take_over,
            use=options.use,
        )
        return await self._node.leases.work_leases.claim(claim)

    async def _renew(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        lease_id, raw = arguments.read_positional(args, "lease.renew", 1, 2)
        options = arguments.read(RenewOptions, raw, "options")
        self._admit(caller)
        ttl_ms = None if options.ttl_s is None else round(options.ttl_s * 1000)
        leases = self._node.leases.work_leases
        return await leases.renew(caller.agent, caller.session, _id(lease_id), ttl_ms, options.use)

    async def _release(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        lease_id, raw = arguments.read_positional(args, "lease.release", 1, 2)
        options = arguments.read(ReleaseOptions, raw, "options")
        return await self._node.leases.work_leases.release(caller.agent, _id(lease_id), options.use)

    async def _list(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        (raw,) = arguments.read_positional(args, "lease.list", 0, 1)
        options = arguments.read(ListOptions, raw, "options")
        scope = None if options.scope is None else Scope.parse(options.scope, "options.scope")
        self._admit(caller)
        return self._node.leases.work_leases.list(scope, caller.agent if options.mine else None)

    async def _force(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        lease_id, raw = arguments.read_positional(args, "lease_release", 2, 2)
        options = arguments.read(ForceOptions, raw, "options")
        return await self._node.leases.work_leases.force(caller.agent, _id(lease_id), options.reason)

    def _admit(self, caller: Caller) -> None:
        self._node.leases.rates.admit(caller.agent, self._node.clock.seconds())


def _id(raw: object) -> str:
    if not isinstance(raw, str) or not 0 < len(raw) <= 500:
        rule = "the id or the scope of a work lease, of 1 to 500 characters"
        raise ArgumentInvalid(f"lease is {show_value(raw)}; it must be {rule}")
    return raw
