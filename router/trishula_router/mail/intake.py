"""Intake: what a client sends is checked, stored, and only then answered with a receipt.

The way of one ``mailbox.send``: each message is parsed; its sender is checked against the session; its recipients are
found and the sender's grants, the recipients' mailboxes and the size limits are asked (:mod:`.inspection`); what passed
goes into the store in one transaction; the receipts are answered in the order of the request. What its agent has sent
already under its id is answered as a repeat, and another message under that id is refused (:mod:`.repeats`). A refused
message doesn't refuse its neighbours, but for those that would overtake it (:mod:`.send_order`). A receipt names who
has no room for a broadcast (:mod:`.room`), and warns of a capability that nobody has. A refusal that tells of a
wrong-doer (a false sender, a forbidden recipient) is noted in the journal.

While the bus is in fallback and takes no messages (:mod:`trishula_router.bus_mode`), all are refused for now but the
answers to COMMANDs, and these don't wait behind what is refused so.

Who was given a COMMAND may answer it once, whatever its grants say, and nobody else may (:mod:`.replies`). The answer
passes also if the instance that asked is gone, for another process of its agent may ask for it (:mod:`.outcomes`). A
RESULT or an ERROR that doesn't answer what its sender has in its window for the first time is looked up in the store
first; meanwhile the other calls of its session wait in line (:mod:`.lines`), so that messages keep their order.

Two types are signals rather than mail, so that the simplest clients need nothing else: a HEARTBEAT counts as a beat and
an ACK (with ``reply_to``, from the recipient) settles the message it names. Neither is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import fail

from trishula.contract.addresses import BROADCAST, is_capability
from trishula.contract.message import Message
from trishula.errors import (
    AnswerEarly,
    AnswerRefused,
    LoopQuarantined,
    MessageUnknown,
    NodeFailed,
    RecipientForbidden,
    SenderFalse,
    StorageFailed,
    StorageFull,
    TrishulaError,
)
from trishula_router.bus_mode import BusMode
from trishula_router.histogram import FAST_S, Histogram
from trishula_router.mail.batch import Batch
from trishula_router.mail.conversations import Conversations
from trishula_router.mail.entry import Entry
from trishula_router.mail.inspection import Admitted, Inspection, Naming
from trishula_router.mail.lines import Line
from trishula_router.mail.mailroom import got
from trishula_router.mail.rates import Rates
from trishula_router.mail.receipts import Receipts
from trishula_router.mail.recipients import Recipients, is_reply
from trishula_router.mail.repeats import Repeats, reused
from trishula_router.mail.replies import Judgement, Replies
from trishula_router.mail.room import Room
from trishula_router.mail.send_order import Holds, Place, Turn, place_of
from trishula_router.settings.limits import Limits
from trishula_router.store.interface import Store
from trishula_router.store.messages import URGENT, Accepted, State

__all__ = ["Intake"]


class Intake:
    """Accepts messages.

    Args:
        store: where they become durable.
        room: where places are reserved.
        receipts: writes what senders are told.
        arrived: told of what became durable.
        ack: settles what an ACK message names: (agent, positions).
        recipients: who may be written to, by whom.
        limits: sizes.
        rates: how fast.
        warning: of a capability: what to say if nobody who is present has it.
        check_answer: refuses the answer to a COMMAND that was cancelled.
        replies: who may answer what.
        naming: has messages name attachments.
        conversations: knows which have no end.
        mode: the bus's, in which messages may be refused.
        now_s: the clock of the rates.
        refused: told of refusals that tell of a wrong-doer: (agent, error, sentence, ``now_s``).
        default_ttl_ms: of a message that names none.
        ids_since: from when on ids are known at an instant (ms).

    Attributes:
        receipts: what senders were told.
        recipients: as given.
        waits: how many seconds each message that was stored, or was there already, waited for its receipt.
        duplicates: how many of them were there already.
        accepted: how many messages were stored; of a broadcast one for each recipient.
    """

    def __init__(
        self,
        store: Store,
        room: Room,
        receipts: Receipts,
        recipients: Recipients,
        limits: Limits,
        rates: Rates,
        *,
        warning: Callable[[str], str | None],
        check_answer: Callable[[Message], None],
        replies: Replies,
        naming: Naming,
        conversations: Conversations,
        mode: BusMode,
        now_s: Callable[[], float],
        refused: Callable[[str, type[TrishulaError], str, float], None],
        default_ttl_ms: int,
        ids_since: Callable[[int], int],
        arrived: Callable[[Sequence[Entry]], None],
        ack: Callable[[str, Sequence[int]], Awaitable[object]],
    ) -> None:
        self._store = store
        self._room = room
        self.receipts = self._receipts = receipts
        self.waits = Histogram(FAST_S)
        self.duplicates = self.accepted = 0
        self._arrived = arrived
        self._ack = ack
        self.recipients = recipients
        self._rates = rates
        self._warning = warning
        self._answering = replies
        self._mode = mode
        self._now_s = now_s
        self._refused = refused
        self._ids_since = ids_since
        self._inspection = Inspection(
            room,
            receipts,
            recipients,
            limits,
            check_answer=check_answer,
            replies=replies,
            naming=naming,
            conversations=conversations,
            now_s=now_s,
            default_ttl_ms=default_ttl_ms,
        )
        self._lines: dict[int, Line] = {}
        self._repeats = Repeats(store, receipts, recipients.of_broadcast, ids_since)
        self.holds = Holds()

    async def send(
        self,
        agent: str,
        session: int,
        batch: Batch,
        now: int,
    ) -> list[dict[str, Any]]:
        """Accept or refuse each message.

        Args:
            agent: the session's authid.
            session: in whose order the messages are.
            batch: the messages.
            now: ms.

        Returns:
            the receipts, in order.
        """
        raws = batch.raws
        line = self._lines.get(session)
        if line is None and not self._answering.unclear(agent, raws):
            # Nothing is awaited before the messages are on their way, so that calls keep their order.
            return await self._send(agent, session, batch, now, {}, _nothing)
        line = self._lines.setdefault(session, Line())
        leave = await line.enter()
        try:
            with self._answering.looking():
                judgements = await self._judge(agent, raws)
                return await self._send(agent, session, batch, now, judgements, leave)
        finally:
            leave()
            if line.is_idle:
                self._lines.pop(session, None)

    async def _judge(self, agent: str, raws: Sequence[object]) -> dict[int, Judgement]:
        judgements: dict[int, Judgement] = {}
        if self._rates.is_closed(agent, self._now_s()):
            # Who is refused all the same costs no look into the store.
            return judgements
        # Meanwhile something may have left the sender's window.
        while unclear := [index for index in self._answering.unclear(agent, raws) if index not in judgements]:
            judgements.update(await self._answering.judge(agent, {index: raws[index] for index in unclear}))
        return judgements

    async def _send(
        self,
        agent: str,
        session: int,
        batch: Batch,
        now: int,
        judgements: Mapping[int, Judgement],
        on_its_way: Callable[[], None],
    ) -> list[dict[str, Any]]:
        raws, copies = batch.raws, batch.copies
        receipts: list[dict[str, Any]] = [{}] * len(raws)
        checked: list[Admitted] = []
        acks: list[tuple[int, Message]] = []
        refused: dict[int, Message] = {}
        now_s = self._now_s()
        turn = self.holds.turn(session)
        for index, raw in enumerate(raws):
            try:
                is_broadcast = isinstance(raw, dict) and raw.get("to") == BROADCAST
                count = len(self.recipients.of_broadcast(agent)) if is_broadcast else None
                self._rates.admit(agent, now_s, recipients=count)
                message = self._inspection.read(agent, raw, index, copies, now)
                if message.type == "HEARTBEAT":
                    # A time that the node put in says nothing of the agent's clock.
                    own = isinstance(raw, dict) and raw.get("timestamp") is not None
                    batch.beat(message.timestamp if own else None)
                    receipts[index] = self._receipts.of(message.id, "accepted", self._store.high_water, copies=0)
                elif message.type == "ACK":
                    acks.append((index, message))
                else:
                    refused[index] = message
                    answers = message.reply_to is not None and is_reply(message)
                    turn.check(message.to, message.id, message.priority, now_s, answers=answers)
                    pledge = self._answering.pledge(agent, message, index, judgements) if answers else None
                    if self._mode.refuses and pledge is None:
                        raise self._mode.refusal(index)
                    checked.append(self._inspection.admit(agent, message, batch, index, now, pledge))
                    turn.passed(message.to, message.id)
                    del refused[index]
            except TrishulaError as error:
                receipts[index] = self._refuse(agent, raw, error)
                self._hold(turn, place_of(index, raw), error)
        try:
            # All are handed to the store at once, so that no later call's messages come between.
            parts = [(part, self._append(part, now)) for part in self._parts(checked)]
            on_its_way()
            await self._store_all(agent, parts, receipts, copies, turn)
            if checked:
                self.waits.observe(self._now_s() - now_s, len(checked))
            if refused:
                repeats = await self._repeats.among(agent, refused, now)
                for index, receipt in repeats.items():
                    receipts[index] = receipt
                turn.repeats({refused[index].id for index in repeats}, self._now_s())
            for index, message in acks:
                try:
                    receipts[index] = await self._acknowledge(agent, message, index)
                except TrishulaError as error:
                    receipts[index] = self._receipts.refusal(message.id, error)
        finally:
            turn.answered(self._now_s())
        return receipts

    def _parts(self, checked: Sequence[Admitted]) -> list[Sequence[Admitted]]:
        """What is stored together or not at all: of a store that is full for others the urgent ones by themselves."""
        urgent = [one for one in checked if one.draft.priority <= URGENT]
        if urgent and len(urgent) < len(checked) and self._store.condition().shortage is not None:
            return [[one for one in checked if one.draft.priority > URGENT], urgent]
        return [checked] if checked else []

    def _append(self, part: Sequence[Admitted], now: int) -> Awaitable[list[Accepted]]:
        try:
            return self._store.append([one.draft for one in part], now, ids_since=self._ids_since(now))
        except Exception:
            return fail()

    async def _store_all(
        self,
        agent: str,
        parts: Sequence[tuple[Sequence[Admitted], Awaitable[list[Accepted]]]],
        receipts: list[dict[str, Any]],
        copies: int | None,
        turn: Turn,
    ) -> None:
        failure: Exception | None = None
        for part, appending in parts:
            try:
                await self._store_part(agent, part, appending, receipts, copies, turn)
            except Exception as error:
                # What became of the other part is to be told all the same.
                failure = failure or error
        if failure is not None:
            raise failure

    async def _store_part(
        self,
        agent: str,
        checked: Sequence[Admitted],
        appending: Awaitable[list[Accepted]],
        receipts: list[dict[str, Any]],
        copies: int | None,
        turn: Turn,
    ) -> None:
        try:
            outcomes = await appending
        except Exception as error:
            known = error if isinstance(error, StorageFull | StorageFailed) else NodeFailed("its log says why")
            for one in checked:
                self._room.give_back(one.draft)
                self._fulfil(one, is_stored=False)
                self._hold(turn, Place(one.index, one.wire["to"], one.draft.id, one.draft.priority), known)
            if error is not known:
                raise
            for one in checked:
                receipts[one.index] = self._receipts.refusal(one.draft.id, known)
            return
        arrived: list[Entry] = []
        for one, outcome in zip(checked, outcomes, strict=True):
            if outcome.duplicate or outcome.earlier is not None:
                self._room.give_back(one.draft)
            else:
                arrived += _entries(one, outcome)
            self._fulfil(one, is_stored=outcome.earlier is None)
        self.accepted += len(arrived)
        self._arrived(arrived)
        warnings: dict[str, str | None] = {}
        await self._receipts.secure((position for outcome in outcomes for position in outcome.positions), copies)
        for one, outcome in zip(checked, outcomes, strict=True):
            if outcome.earlier is not None:
                reused_id = reused(agent, one.draft.id, one.index, outcome.earlier)
                receipts[one.index] = self._receipts.refusal(one.draft.id, reused_id)
                continue
            self.duplicates += outcome.duplicate
            status = "duplicate" if outcome.duplicate else "accepted"
            # A broadcast to nobody has no record; it is accepted all the same, because nothing of it is missing.
            position = outcome.positions[0] if outcome.positions else self._store.high_water
            receipts[one.index] = self._receipts.of(one.draft.id, status, position)
            self._receipts.owe(one.draft, position, copies)
            if not outcome.duplicate and (one.missed or is_capability(one.wire["to"])):
                receipts[one.index].update(self._remarks(one, warnings))
        broadcasts = {
            one.index: one.draft.id
            for one, outcome in zip(checked, outcomes, strict=True)
            if outcome.duplicate and one.wire["to"] == BROADCAST
        }
        if broadcasts:
            for index, missed in (await self._repeats.missed(agent, broadcasts)).items():
                receipts[index]["missed"] = missed

    def _fulfil(self, one: Admitted, *, is_stored: bool) -> None:
        if one.pledge is not None:
            (self._answering.stored if is_stored else self._answering.withdrawn)(one.pledge)

    def _remarks(self, one: Admitted, warnings: dict[str, str | None]) -> dict[str, Any]:
        """What else the receipt of an accepted message says; ``warnings`` are those of the same call."""
        if one.missed:
            faults = one.missed.items()
            return {"missed": [{"to": to, "error": fault.uri, "detail": fault.sentence} for to, fault in faults]}
        to = one.wire["to"]
        if to not in warnings:
            # To see who is present costs more than to accept a message.
            warnings[to] = self._warning(to)
        warning = warnings[to]
        return {} if warning is None else {"warning": warning}

    def _hold(self, turn: Turn, place: Place | None, error: TrishulaError) -> None:
        if place is None:
            return
        if error.temporary:
            turn.refused(place, error, self._now_s())
        else:
            turn.passed(place.to, place.id)

    async def _acknowledge(self, agent: str, message: Message, index: int) -> dict[str, Any]:
        found = [
            stored
            for stored in await self._store.with_ids([str(message.reply_to)])
            if got(agent, stored) and stored.sender == message.to
        ]
        if not found:
            raise MessageUnknown(
                f'messages[{index}].reply_to is "{message.reply_to}", and {agent} got no message of that id from '
                f"{message.to}"
            )
        if any(stored.state is not State.DONE for stored in found):
            await self._ack(agent, [stored.position for stored in found])
        return self._receipts.of(message.id, "accepted", found[0].position, copies=0)

    def _refuse(self, agent: str, raw: object, error: TrishulaError) -> dict[str, Any]:
        fields = raw if isinstance(raw, dict) else {}
        if isinstance(error, SenderFalse | RecipientForbidden | AnswerRefused | AnswerEarly | LoopQuarantined):
            self._refused(agent, type(error), error.sentence, self._now_s())
        return self._receipts.refusal(fields.get("id"), error)


def _nothing() -> None:
    pass


def _entries(one: Admitted, outcome: Accepted) -> list[Entry]:
    return [Entry.of_draft(one.draft, outcome, one.wire, index) for index in range(len(outcome.positions))]
