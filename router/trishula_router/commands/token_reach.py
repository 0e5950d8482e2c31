"""How far a revocation gets: what the commands know of tokens that are revoked everywhere, and of linked nodes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from trishula.cli.values import Duration
from trishula_router.agents.change_notes import Note, done_notes, notes_file_of, read_notes
from trishula_router.agents.file import stamp_of
from trishula_router.agents.revocations import Revocations
from trishula_router.agents.revoking import PeerReached, Reached, reached_file_of, read_reached, shared_file_of
from trishula_router.agents.token_uses import USED, Use, read_uses
from trishula_router.commands.state_dir import peers_of, shares_agents, state_holder
from trishula_router.store.revoked import REVOKED

__all__ = [
    "PeerTold",
    "latest_note",
    "peers_told",
    "revocations_of",
    "say_peers",
    "uses_of",
    "wait_for_peers",
    "wait_for_sharing",
    "wait_option",
]

_LOOK_S = 0.1

wait_option = click.option(
    "--wait",
    "wait_s",
    type=Duration(),
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for linked nodes to have it too, where they share their files of agents.",
)


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
    said = _settled(reached_file_of(agents_file), number, wait_s)
    return [_told(name, None if said is None else said.peers, wait_s) for name in peers]


def wait_for_sharing(state_dir: Path, agents_file: Path, wait_s: float) -> list[PeerTold]:
    """Wait until the linked nodes that can be reached have the change that was just written; none, if none share it.

    Args:
        state_dir: of the node.
        agents_file: its file of agents.
        wait_s: for how long at most.
    """
    peers = peers_of(state_dir) if shares_agents(state_dir) else None
    if not peers:
        return []
    if state_holder(state_dir) is None:
        why = f"{{}} gets this when a node runs on {state_dir}"
        return [PeerTold(name, False, why.format(name)) for name in peers]
    said = _settled(shared_file_of(agents_file), latest_note(agents_file), wait_s)
    return [_told_of_sharing(name, None if said is None else said.peers.get(name), wait_s) for name in peers]


def latest_note(agents_file: Path) -> int:
    """The number of the latest change that a command made; of those that failed on their way no node ever tells."""
    done = done_notes(notes_file_of(agents_file), stamp_of(agents_file))
    return max((note.number for note in done), default=0)


def peers_told(peers: Iterable[PeerTold]) -> dict[str, list[dict[str, object]]]:
    """That, for ``--json``; nothing where no node shares."""
    told = [msgspec.structs.asdict(one) for one in peers]
    return {"peers": told} if told else {}


def say_peers(peers: Iterable[PeerTold]) -> None:
    """That, for people."""
    for one in peers:
        click.echo(one.sentence, err=True)


def _settled(file: Path, number: int, wait_s: float) -> Reached | None:
    """How far the note of that number has got, once no peer in reach is waited for, or the time is over."""
    end_s = time.monotonic() + wait_s
    while True:
        said = read_reached(file)
        said = said if said is not None and said.number >= number else None
        if (said is not None and not any(map(_may_come, said.peers.values()))) or time.monotonic() >= end_s:
            return said
        time.sleep(_LOOK_S)


def _told_of_sharing(name: str, one: PeerReached | None, wait_s: float) -> PeerTold:
    if one is None:
        return PeerTold(name, False, f"{name} has not got this: the node here did not take it up within {wait_s:g} s")
    if one.reached:
        return PeerTold(name, True, f"{name} has this too")
    if not one.is_up:
        return PeerTold(name, False, f"{name} can't be reached now: it gets this when it comes back")
    if not one.heeds:
        why = "it does not share agents (agents.shared), or is of an earlier release"
        return PeerTold(name, False, f"{name} does not get this: {why}; make the change there too")
    why = f"has not said within {wait_s:g} s that it has this: see trishula node status there"
    return PeerTold(name, False, f"{name} {why}")


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
