"""How far a revocation gets: what the commands know of tokens that are revoked everywhere, and of linked nodes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from trishula_router.agents.change_notes import Note, notes_file_of, read_notes
from trishula_router.agents.revocations import Revocations
from trishula_router.agents.revoking import PeerReached, reached_file_of, read_reached
from trishula_router.agents.token_uses import USED, Use, read_uses
from trishula_router.commands.state_dir import peers_of, state_holder
from trishula_router.store.revoked import REVOKED

__all__ = ["PeerTold", "revocations_of", "uses_of", "wait_for_peers"]

_LOOK_S = 0.1


class PeerTold(msgspec.Struct, frozen=True):
    """What there is to say of one linked node: whether it heeds the revocation, and the sentence."""

    node: str
    reached: bool
    sentence: str


def revocations_of(state_dir: Path) -> Revocations:
    """Which tokens are revoked everywhere, as the node's store has it; none, if there is no store yet."""
    known = Revocations()
    known.add(_remembered(state_dir, REVOKED))
    return known


def uses_of(state_dir: Path) -> dict[str, Use]:
    """When each token was used last, by its hash, as the node's store has it."""
    return read_uses(_remembered(state_dir, USED))


def _remembered(state_dir: Path, prefix: str) -> dict[str, str]:
    # Late: most commands here need no store.
    from trishula_router.store.interface import StoreError
    from trishula_router.store.sqlite.connection import FILE_NAME
    from trishula_router.store.sqlite.files import remembered_in

    # There is none yet, or its node will say what is wrong with it.
    with contextlib.suppress(StoreError):
        return remembered_in(state_dir / FILE_NAME, prefix)
    return {}


def wait_for_peers(state_dir: Path, agents_file: Path, wait_s: float) -> list[PeerTold]:
    """Wait until the linked nodes that can be reached heed the revocation that was just written.

    Args:
        state_dir: of the node.
        agents_file: its file of agents.
        wait_s: for how long at most.
    """
    peers = peers_of(state_dir)
    if not peers:
        return []
    if state_holder(state_dir) is None:
        why = f"has not been reached, because no node runs on {state_dir} that would tell it: start one"
        return [_not_reached(name, why) for name in peers]
    number = max((note.number for note in _revoking(agents_file)), default=0)
    end_s = time.monotonic() + wait_s
    while True:
        said = read_reached(reached_file_of(agents_file))
        standing = said.peers if said is not None and said.number >= number else None
        is_settled = standing is not None and not any(map(_may_come, standing.values()))
        if is_settled or time.monotonic() >= end_s:
            return [_told(name, standing, wait_s) for name in peers]
        time.sleep(_LOOK_S)


def _revoking(agents_file: Path) -> Iterable[Note]:
    return (note for note in read_notes(notes_file_of(agents_file)) if note.revoked is not None)


def _may_come(one: PeerReached) -> bool:
    return one.is_up and one.heeds and not one.reached


def _told(name: str, standing: dict[str, PeerReached] | None, wait_s: float) -> PeerTold:
    one = None if standing is None else standing.get(name)
    if one is None:
        return _not_reached(name, f"has not been reached: the node here did not take it up within {wait_s:g} s")
    if one.reached:
        return PeerTold(name, True, f"{name} heeds it too")
    if not one.heeds:
        return _not_reached(name, "runs an earlier release, which heeds only its own file: run this there as well")
    if one.is_up:
        return _not_reached(name, f"has not answered within {wait_s:g} s: it heeds this when it gets it")
    return _not_reached(name, "has not been reached: it heeds this when it comes back")


def _not_reached(name: str, why: str) -> PeerTold:
    return PeerTold(name, False, f"{name} {why}; until then it lets in whoever has such a token")
