"""From deliveries to handlers and back: who runs, in which order, and when a message is acknowledged.

What happens to one message, and what the end of this process (kill -9) after each step leads to, with the agent's file
(:mod:`trishula.messaging.agent_file`) and without one:

====================================  ============================================  ==================================
step                                  the process ends after it: with the file      without (a script, ``state=False``)
====================================  ============================================  ==================================
1. the handler begins                 delivered again,                              the same
                                      ``attempt`` 2, runs again: nobody can know
                                      how far it came; the handler can see it
2. it returned                        the same: the first run is on no record       the same
3. one transaction: it is handled,    delivered again, not run again; the reply     delivered again, runs again; the
   and its reply is in the outbox     goes out when the agent runs again            second reply has the first one's id,
                                                                                    so the caller sees one
4. COMMAND: the reply is offered      the same; the reply is offered a second       the same
                                      time under its id, and stored once
5. COMMAND: the node has the reply    delivered again, not run again,               the same
   on disk                            acknowledged
6. the message is acknowledged        it is done                                    it is done
====================================  ============================================  ==================================

That a handler begins is noted in a file before (:mod:`trishula.session.begun`), so that a message which ends this
process each time is known by the note, and ends.

Between 2 and 3 nothing is waited for: the transaction is made at the end of the turn of the reactor in which the
handler is known to have returned. Where others of its sender wait, that is noted at once where its beginning is, and
the transaction is made for all of some milliseconds (:mod:`trishula.consumer.gathered_memory`). So the handler of a
message runs once, and a second time only if the process ended between 1 and 3; then ``current_delivery().attempt`` is
more than 1.

Why 6 waits for 5: the transaction survives this process, but not a power cut within its next seconds; so it is
acknowledged when somebody has the reply on *disk*: the node, or, if the reply's way is long because the caller's
mailbox is full, the file (it is asked to sync). A message without a reply is acknowledged right after 3.

A COMMAND is done when it is answered, by RESULT or by ERROR; whether to try again is the caller's choice. One whose
handler returns :data:`~trishula.consumer.handlers.LATER` is done at once, as a message without a reply is, and is
answered later. Any other message whose handler raises is given back and delivered again.

What is concurrent: COMMANDs with each other and with everything else. Messages of other types from one sender to an
``ordered`` handler run one after the other, in the order of delivery, also if the handler awaits; those of different
senders are concurrent (:mod:`trishula.consumer.lanes`). A plain function is never interrupted.

While a handler runs, or waits for its turn, its lease is extended: a long job is no failure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from trishula.consumer.handlers import LATER, Handler
from trishula.consumer.jobs import Jobs, Key, facts_of, key_of, log_fault, told_of
from trishula.consumer.lanes import Lanes
from trishula.consumer.leases import Leases
from trishula.consumer.loop_watch import Watch
from trishula.consumer.replies import Replies
from trishula.consumer.routes import Routes
from trishula.consumer.signatures import arguments_of
from trishula.consumer.unhandled import Unhandled
from trishula.contract.addresses import agent_of
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.contract.receipts import Receipt
from trishula.contract.signed import MEMORY_MS
from trishula.contract.texts import legible, one_line
from trishula.errors import ArgumentInvalid, TrishulaError
from trishula.messaging.deduplication import Inbox, Remembered, Treatment, content_of
from trishula.messaging.engine import Engine
from trishula.messaging.second_road import is_of_second_road
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock, Timer
from trishula.session.begun import Begun

if TYPE_CHECKING:
    # An agent without a file doesn't load SQLite.
    from trishula.consumer.gathered_memory import GatheredMemory
    from trishula.messaging.agent_file import AgentFile

__all__ = ["Dispatcher"]

_log = logging.getLogger("trishula")

_LEFT = "the agent left before its handler was through"


class Dispatcher:
    """Runs the handlers of one agent.

    Args:
        engine: takes acknowledgements and replies.
        routes: which handler takes which message.
        clock: timers and the clock for spans.
        now_ms: a wall clock that is not set.

    Attributes:
        endpoint, running: see :class:`trishula.consumer.jobs.Jobs`.
    """

    def __init__(self, engine: Engine, routes: Routes, clock: Clock, now_ms: Callable[[], int]) -> None:
        self._routes = routes
        self._engine = engine
        self._clock = clock
        self._now_ms = now_ms
        self._inbox = Inbox(age_ms=MEMORY_MS)  # As long as a signature may count: nobody can bring such a one back.
        self._replies = Replies(engine, self._inbox, now_ms, self._handled, self._check_idle)
        # Deliveries that wait until the file is there; None: they need not.
        self._held: list[Delivery] | None = None
        self._leases = Leases(engine, clock, self._inbox)
        self._jobs = Jobs(clock.seconds, self._leases.promise, self._leases.surfaced)
        self.endpoint, self.running = self._jobs.endpoint, self._jobs.told
        self._lanes = Lanes(self._run, self._check_idle, clock.seconds)
        engine.settling.backlog = lambda: self._lanes.backlog
        self._gathered: GatheredMemory | None = None
        self._stopping = False
        self._idle: Pending[None] | None = None
        self._timer: Timer | None = None
        self._unhandled = Unhandled(routes)
        self._watch: Watch | None = None

    # -- the agent's file ----------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Begin nothing before :meth:`release`: what was handled is not known yet."""
        self._held = []

    def release(self) -> None:
        """Begin what came meanwhile, and what comes."""
        held, self._held = self._held, None
        if held:
            self.take(held)

    def remember_in(
        self,
        file: AgentFile,
        handled: Iterable[Remembered],
        gathered: GatheredMemory | None = None,
        noted: Iterable[tuple[str, str, int]] = (),
    ) -> None:
        """Have a memory that outlives the process, by ``gathered`` if that is there.

        ``handled`` is what an earlier run left there, ``noted`` what it perhaps had no time to write.
        """
        self._replies.file, self._gathered = file, gathered
        self._inbox.restore(gathered or file, handled)
        for sender, message_id, content in noted:
            self._inbox.recover(sender, message_id, self._now_ms(), content)
        self._inbox.forget(self._now_ms())

    def note_in(self, begun: Begun) -> None:
        """Note what is begun where the end of the process can't take it along."""
        self._jobs.begun = begun

    def done_of(self, wire: dict[str, Any]) -> Callable[[Receipt | TrishulaError], object]:
        """Who hears what becomes of a message that an earlier run left in the outbox."""
        return self._replies.done_of(wire)

    # -- in ------------------------------------------------------------------------------------------------------------

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Deliveries came."""
        if self._held is not None:
            self._held.extend(deliveries)
            return
        inbox = self._inbox
        for delivery in deliveries:
            message = delivery.message
            treatment = inbox.admit(message.sender or "", message.id, delivery.token, content_of(message))
            if treatment is Treatment.HANDLED:
                self._engine.settling.ack(delivery.token)
            elif treatment is Treatment.RUNNING:
                self._leases.keep_promise(message)
            elif treatment is Treatment.FOREIGN:
                self._refuse(delivery)
            else:
                if self._stopping:
                    # Neither acknowledged nor given back: our leaving returns it without counting an attempt.
                    inbox.failed(message.sender or "", message.id)
                elif (reason := self._routes.unsigned(message)) is not None:
                    self._give_back(delivery, reason, requeue=False)
                elif message.type == "COMMAND":
                    self._command(delivery)
                else:
                    self._message(delivery)
        if self._timer is None and not self._stopping:
            self._timer = self._clock.callLater(self._leases.tick_s, self._tick)

    def _refuse(self, delivery: Delivery) -> None:
        """Give back for good what would be taken for another message: its sender is told."""
        message, whose = delivery.message, self._engine.address.agent
        reason = f"{whose} has got another message of {agent_of(message.sender or '')} under that id"
        what = "The %s %s from %s is refused: %s"
        _log.warning(what, message.type, message.id, message.sender, reason, extra=facts_of(message))
        self._engine.settling.nack(delivery.token, reason, False)

    def link_lost(self) -> None:
        """The session is gone: what runs goes on, with the token that its next delivery brings."""
        if self._held is not None:
            # Their tokens went with it.
            self._held.clear()
        self._inbox.link_lost()

    # -- messages that need no answer ----------------------------------------------------------------------------------

    def _message(self, delivery: Delivery) -> None:
        message = delivery.message
        handler = self._routes.handler_of(message)
        if handler is None:
            reason = self._unhandled.reason(message)
            if reason is None:
                self._handled(*key_of(message))
            else:
                self._give_back(delivery, reason, requeue=False)
        elif not handler.ordered:
            self._run(delivery, handler)
        else:
            self._lanes.put(delivery, handler)

    def _run(self, delivery: Delivery, handler: Handler, at_once: bool = False) -> Pending[Any] | None:
        """Run a handler; returns what is still to come, if it is not through yet."""
        try:
            args = handler.fit_message(delivery.message)
        except ArgumentInvalid as error:
            # It will not fit at the next attempt either.
            message = delivery.message
            facts = facts_of(message)
            _log.warning("%s %s from %s: %s", message.type, message.id, message.sender, error, extra=facts)
            self._give_back(delivery, "its payload doesn't fit" if message.encrypted else str(error), requeue=False)
            return None
        try:
            outcome = self._jobs.start(handler, delivery, args, {}, at_once)
        except Exception as error:
            self._failed(delivery, handler, error)
            return None
        if not isinstance(outcome, Pending):
            self._handled(*key_of(delivery.message))
            return None
        if outcome.done:
            self._ended(delivery, handler, outcome)
            return None
        outcome.when_done(lambda pending: self._ended(delivery, handler, pending))
        return outcome

    def _ended(self, delivery: Delivery, handler: Handler, outcome: Pending[Any]) -> None:
        error = outcome.error
        # Others end soon.
        gathered = self._gathered if error is None and self._lanes.backlog else None
        if not self._ran(delivery.message, outcome, gathered):
            return
        if error is None:
            self._handled(*key_of(delivery.message), gathered is not None)
        else:
            self._failed(delivery, handler, error)

    def _ran(self, message: Message, outcome: Pending[Any], gathered: GatheredMemory | None = None) -> bool:
        """A handler is through; whether anybody waits for what came of it."""
        self._leases.ended(message)
        if self._jobs.ended(message, outcome, gathered):
            return True
        self._drop(key_of(message))
        return False

    # -- cancelled by their senders ------------------------------------------------------------------------------------

    def recalled(self, sender: str, message_id: str) -> None:
        """The sender of a message that was delivered has cancelled it: for the node it is over."""
        key = agent_of(sender), message_id
        if self._held is not None:
            self._held[:] = [one for one in self._held if key_of(one.message) != key]
        if self._jobs.recall(key):
            return
        if self._lanes.recall(key):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        """A cancelled message is not to run again, and nothing is acknowledged: it is not done. A file of it goes."""
        for token in self._inbox.handled(*key, self._now_ms()):
            if is_of_second_road(token):
                self._engine.settling.ack(token)
        self._check_idle()

    def _handled(self, sender: str, message_id: str, is_on_record: bool = False) -> None:
        for token in self._inbox.handled(sender, message_id, self._now_ms()):
            self._engine.settling.ack(token, is_on_record)
        if self._idle is not None:
            self._check_idle()

    def _failed(self, delivery: Delivery, handler: Handler, error: BaseException) -> None:
        if self._stopping and not isinstance(error, Exception):
            self._give_back(delivery, _LEFT)
            return
        if not self._stopping:
            log_fault(handler, error, delivery.message)
        self._give_back(delivery, f"{handler.name} raised {told_of(error, delivery.message)}")

    def _give_back(self, delivery: Delivery, reason: str, *, requeue: bool = True) -> None:
        for token in self._inbox.failed(*key_of(delivery.message)):
            self._engine.settling.nack(token, one_line(legible(reason)), requeue)
        self._check_idle()

    # -- commands ------------------------------------------------------------------------------------------------------

    def _command(self, delivery: Delivery) -> None:
        message = delivery.message
        if self._engine.sending.is_full:
            # Its reply could not even be kept.
            self._give_back(delivery, "the agent's outbox is full, so it could not answer")
            return
        handler = self._routes.procedure_of(message)
        try:
            if handler is not None:
                outcome = self._jobs.start(handler, delivery, *handler.fit(*arguments_of(message)))
            elif (handler := self._routes.handler_of(message)) is not None:
                outcome = self._jobs.start(handler, delivery, handler.fit_message(message), {})
            else:
                raise self._routes.unknown(message)
        except Exception as error:
            log_fault(handler, error, delivery.message)
            self._replies.error(delivery.message, error)
            return
        if not isinstance(outcome, Pending):
            self._returned(delivery.message, outcome)
            return
        outcome.when_done(lambda pending: self._command_ended(delivery, handler, pending))

    def _command_ended(self, delivery: Delivery, handler: Handler, outcome: Pending[Any]) -> None:
        if not self._ran(delivery.message, outcome):
            return
        error = outcome.error
        if error is None:
            self._returned(delivery.message, outcome.result())
        elif self._stopping and not isinstance(error, Exception):
            # We cancelled it ourselves: it was not the command's fault, and another run may do it.
            self._give_back(delivery, _LEFT)
        else:
            log_fault(handler, error, delivery.message)
            self._replies.error(delivery.message, error)

    def _returned(self, command: Message, value: object) -> None:
        if value is LATER:
            self._handled(*key_of(command))
        else:
            self._replies.result(command, value)

    # -- time and the end ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Extend what runs; forget what is too old."""
        self._timer = None
        is_in_hand = self._leases.tick()
        self._inbox.forget(self._now_ms())
        if is_in_hand and not self._stopping:
            self._timer = self._clock.callLater(self._leases.tick_s, self._tick)

    def watch(self, whose: str, ask_loop: Callable[[Callable[[], object]], object] | None) -> None:
        """Have a handler that blocks the loop named in the log, until :meth:`give_up`.

        Args:
            whose: the agent's name.
            ask_loop: see :class:`trishula.runtime.surroundings.Surroundings`; ``None``: there is nothing to watch.
        """
        if ask_loop is not None:
            self._watch = Watch(whose, ask_loop, self._jobs.at_work)

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs and no reply is under way."""
        return self._inbox.is_idle

    def stop(self) -> Pending[None]:
        """Start nothing more; the outcome is there when all that runs is through."""
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        for delivery in self._lanes.clear():
            # As with new deliveries: our leaving returns them, and no attempt of theirs has begun.
            self._inbox.failed(*key_of(delivery.message))
        self._idle = Pending()
        self._check_idle()
        return self._idle

    def give_up(self) -> None:
        """Cancel what still runs and give it back."""
        if self._watch is not None:
            self._watch.stop()
        self._jobs.stop_all()
        for key, token in self._inbox.running():
            self._inbox.failed(*key)
            self._engine.settling.nack(token, _LEFT, True)

    def _check_idle(self) -> None:
        if self._idle is not None and self.is_idle:
            self._idle.resolve(None)
