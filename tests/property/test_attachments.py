"""Attachments under everything that senders, receivers, the clock and restarts do to them, against a plain model.

The promises: what is complete is what its digest says; a message that names a file finds it for as long as its body is
kept, over restarts; nobody fetches what is not his; what nobody names goes; and what counts is what is on the disk.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import AttachmentUnknown
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.ledger import LEAST_BYTES
from trishula_router.store.memory import MemoryStore

AGENTS = ("agni", "dc", "rushabdev")
CONTENTS = (b"", b"one" * 100, b"two" * 70_000)
UNNAMED_MS, UNFINISHED_MS = 3_600_000, 86_400_000

WHO = st.sampled_from(AGENTS)
WHAT = st.sampled_from(CONTENTS)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Attachments(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store, self.clock = MemoryStore("epoch-1"), Clock()
        self.ahead_ms = 0
        #: (agent, content) → how much of it the node has said that it has.
        self.has: dict[tuple[str, bytes], int] = {}
        self.complete: set[tuple[str, bytes]] = set()
        #: (sender, id) → (recipient, content) of messages that were taken and whose bodies are kept.
        self.named: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.settled: set[tuple[str, str]] = set()
        self.count = 0
        self.begin()

    def begin(self) -> None:
        self.rig = Rig(Path(self.directory.name), self.store, self.clock, ahead_ms=self.ahead_ms)
        self.files = AttachmentFiles(Path(self.directory.name) / "attachments")
        self.rig.node.attachments.disk.files = self.files
        self.rig.start()
        # The files' own times are the machine's, which is ahead of this clock: it begins to count now.
        self.sweep()
        self.sessions = {agent: self.rig.join(agent) for agent in AGENTS}
        for agent in AGENTS:
            self.rig.attach(self.sessions[agent])
        self.pending = {
            (one["message"]["from"], one["message"]["id"]): (agent, one["token"])
            for agent in AGENTS
            for one in self.rig.pushed(self.sessions[agent])
        }

    def teardown(self) -> None:
        self.rig.crash()
        self.directory.cleanup()

    def call(self, agent: str, uri: str, *args: Any) -> Any:
        answer = self.rig.begin(self.sessions[agent], uri, *args)
        # A piece may wait for the agent's budget.
        for _ in range(100):
            if answer.called:
                break
            self.clock.advance(0.05)
        return result_of(answer)

    def told(self, agent: str, data: bytes, told: dict[str, Any]) -> None:
        key = agent, data
        assert told["have_bytes"] >= self.has.get(key, 0), "what the node had is gone"
        assert told["complete"] or key not in self.complete
        self.has[key] = told["have_bytes"]
        if told["complete"]:
            assert told["have_bytes"] == len(data)
            self.complete.add(key)

    @rule(agent=WHO, data=WHAT)
    def begins(self, agent: str, data: bytes) -> None:
        self.told(agent, data, self.call(agent, uris.ATTACHMENT_BEGIN, digest_of(data), len(data)))
        if not self.has[agent, data]:
            # Without a byte there is no file, and a restart knows nothing of it.
            self.sends_a_piece(agent, data, 0, 1)

    @rule(agent=WHO, data=WHAT, shift=st.sampled_from([0, 0, 0, -1, 5]), size=st.integers(1, 65_536))
    def sends_a_piece(self, agent: str, data: bytes, shift: int, size: int) -> None:
        key = agent, data
        if key not in self.has:
            return
        at = max(0, self.has[key] + shift)
        piece = data[at : at + size]
        if not piece:
            return
        self.told(agent, data, self.call(agent, uris.ATTACHMENT_PUT, digest_of(data), at, piece))

    @rule(agent=WHO, data=WHAT)
    def sends_all(self, agent: str, data: bytes) -> None:
        self.begins(agent, data)
        while (agent, data) not in self.complete:
            self.sends_a_piece(agent, data, 0, 65_536)

    @rule(agent=WHO, to=WHO, data=WHAT)
    def names(self, agent: str, to: str, data: bytes) -> None:
        self.count += 1
        message_id = f"m{self.count}"
        payload = {"attachment": {"digest": digest_of(data), "size_bytes": len(data)}}
        message = {"id": message_id, "to": to, "payload": payload}
        (receipt,) = self.rig.send(self.sessions[agent], message)
        if (agent, data) in self.complete:
            assert receipt["status"] == "accepted", receipt
            self.named[agent, message_id] = to, data
        else:
            assert receipt["error"] == AttachmentUnknown.uri
        for one in self.rig.pushed(self.sessions[to]):
            self.pending[one["message"]["from"], one["message"]["id"]] = to, one["token"]

    @rule(data=st.data())
    def settles(self, data: st.DataObject) -> None:
        if self.pending:
            key = data.draw(st.sampled_from(sorted(self.pending)))
            agent, token = self.pending.pop(key)
            assert self.rig.ack(self.sessions[agent], token) == [True]
            self.settled.add(key)

    @rule()
    def bodies_go(self) -> None:
        result_of(self.store.forget(0, 1000, before=self.rig.now() + 1, dead_before=0, at=self.rig.now()))
        for key in self.settled:
            self.named.pop(key, None)
        self.settled.clear()

    @rule(agent=WHO, data=st.data())
    def fetches(self, agent: str, data: st.DataObject) -> None:
        if not self.named:
            return
        sender, message_id = data.draw(st.sampled_from(sorted(self.named)))
        to, content = self.named[sender, message_id]
        offset = data.draw(st.integers(0, len(content)))
        try:
            piece = self.call(agent, uris.ATTACHMENT_GET, message_id, {"from": sender, "offset": offset})
        except AttachmentUnknown:
            assert agent not in (sender, to)
            return
        assert agent in (sender, to)
        assert piece["data"] == content[offset : offset + 65_536]

    def sweep(self) -> None:
        result_of(Deferred.fromCoroutine(self.rig.node.attachments.sweep.step()))

    @rule(span_ms=st.sampled_from([1000, UNNAMED_MS // 2, UNNAMED_MS, UNFINISHED_MS]))
    def time_passes(self, span_ms: int) -> None:
        self.sweep()
        self.ahead_ms += span_ms
        self.rig.ahead_ms = self.ahead_ms
        self.sweep()
        needed = self.swept()
        if span_ms == UNFINISHED_MS:
            # Of links that are younger than the sweep looks at it is the next one that tells.
            self.ahead_ms += UNFINISHED_MS
            self.rig.ahead_ms = self.ahead_ms
            self.sweep()
            left = {found.key for found in self.files.scan()}
            assert left == needed
            self.has = {(a, d): n for (a, d), n in self.has.items() if (a, digest_of(d)) in left}
            self.complete = {(a, d) for a, d in self.complete if (a, digest_of(d)) in left}

    def swept(self) -> set[tuple[str, str]]:
        """A sweep may have taken whatever nobody needs; the files that are needed."""
        there = {found.key for found in self.files.scan()}
        needed = {(sender, digest_of(content)) for (sender, _), (_, content) in self.named.items()}
        assert needed <= there
        for agent, data in list(self.has):
            if (agent, digest_of(data)) not in there:
                del self.has[agent, data]
                self.complete.discard((agent, data))
        return needed

    @rule()
    def restarts(self) -> None:
        self.rig.crash()
        self.begin()
        self.swept()

    @invariant()
    def what_is_complete_is_whole_and_what_counts_is_there(self) -> None:
        found = self.files.scan()
        for one in found:
            if one.is_complete:
                data = self.files.read(one.key, 0, 2**20)
                assert digest_of(data) == one.key[1]
        begun = {one.key: max(one.size_bytes, LEAST_BYTES) for one in found}
        told = self.rig.node.attachments.told()
        assert told["bytes"] == sum(begun.values())
        assert {(a, digest_of(d)) for a, d in self.has} == set(begun)


TestAttachments = Attachments.TestCase
TestAttachments.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
