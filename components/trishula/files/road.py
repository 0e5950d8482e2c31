"""The mode of an agent that runs, and its second road: files that somebody else moves, while no node is there.

:mod:`trishula.files.mode_policy` decides the mode from what happens; here is what follows. In ``fallback`` each message
of the outbox is written as a file as well (:mod:`trishula.files.filing`). The inbox is read in every mode
(:mod:`trishula.files.reading`), so that a file that was on its way when a node came back is not left lying. Both roads
meet at the receiver's memory of ids: what comes by both is handled once, and settled on both.

An agent without a folder is ``live`` or ``degraded``, and has no second road.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from trishula.errors import FallbackOn, TrishulaError
from trishula.files.errands import Errands
from trishula.files.filing import Filing
from trishula.files.mail_folder import MailFolder
from trishula.files.mode_policy import Event, Mode, ModePolicy
from trishula.files.reading import Reading
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Surroundings, Timer
from trishula.settings import Settings

__all__ = ["Roads"]

_log = logging.getLogger("trishula")

#: How often to say that the folder can't be used, in seconds.
_COMPLAIN_EVERY_S = 30.0

_WORDS = {
    Mode.LIVE: "%s is live: its messages go to its node",
    Mode.DEGRADED: "%s is degraded: it has no node, and its messages wait in its outbox",
    Mode.FALLBACK: "%s is in fallback: %s, and each message of its outbox is written to %s as well",
}


class Roads:
    """See the module's docstring.

    Args:
        engine: the first road.
        settings: who the agent is, where its folder is if it has one, and when it falls back.
        around: clocks, randomness and threads.
        window: how many messages from files may be in the agent's hands at a time.
        changed: told of each new mode.

    Attributes:
        fallen_back: resolved when it is in fallback for the first time.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        around: Surroundings,
        window: int,
        changed: Callable[[Mode], object],
    ) -> None:
        self._agent = settings.agent
        self._engine = engine
        self._clock = clock = around.clock
        self._now_ms = around.now_ms
        self._changed = changed
        self._directory = settings.files
        self._policy = ModePolicy(
            clock.seconds(), has_folder=settings.files is not None, fallback_after_s=settings.fallback_after_s
        )
        self._timer: Timer | None = None
        self._complained_at_s: float | None = None
        self._is_over = False
        self._bus_said = ""
        self.fallen_back: Pending[None] = Pending()
        self._folder: MailFolder | None = None
        if settings.files is not None:
            self._folder = folder = MailFolder(
                settings.files, settings.agent, settings.secret, settings.files_unsigned, seconds=clock.seconds
            )
            self._errands = errands = Errands(around.in_thread)
            self._filing = Filing(engine.sending, folder, errands, clock, around.now_ms, self._complain)
            self._reading = Reading(
                engine.receiving.take,
                folder,
                errands,
                clock,
                around.now_ms,
                around.random,
                window,
                self._complain,
            )

    @property
    def mode(self) -> Mode:
        """The mode now."""
        return self._policy.mode

    @property
    def has_folder(self) -> bool:
        """Whether files are a road at all."""
        return self._folder is not None

    # -- life ----------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder's directories, before the agent joins.

        Raises:
            FolderUnusable: they can't be made.
        """
        if self._folder is None:
            return
        self._folder.prepare()
        self._engine.open_second_road(self)
        self._engine.member.canaries = ["live", "files"]
        self._engine.receiving.file_canary = self._write_canary
        self._reading.canary_came = self._engine.receiving.tell_of_canary
        self._engine.sending.refused_for_now = self._refused
        self._set_timer()

    def read(self, begun_before: Iterable[tuple[str, str]]) -> None:
        """Take messages from the inbox from now on: the agent's memory of ids is there.

        Args:
            begun_before: (sender, id) of what an earlier run of the agent had begun and not ended.
        """
        if self._folder is not None and not self._is_over:
            self._reading.begin(begun_before)

    def end(self) -> None:
        """The agent leaves, or is gone: begin nothing more. What is settled until then is still put away."""
        self._is_over = True
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self._folder is not None:
            self._filing.end()
            self._reading.stop()

    def settled_all(self) -> Pending[None]:
        """The end of all that is under way in the folder."""
        self.flush()
        return self._errands.idle()

    # -- what happens --------------------------------------------------------------------------------------------------

    def attached(self, report: object = None) -> None:
        """There is a session with a node; ``report``: the mode of the bus, while that is not live."""
        self._heard(Event.ATTACHED)
        if report is not None:
            self.bus_said(report)

    def lost(self) -> None:
        """The session is gone."""
        self._heard(Event.LOST)

    def bus_said(self, report: object = None, *_: object) -> None:
        """A node tells the mode of the bus."""
        mode = report.get("mode") if isinstance(report, Mapping) else None
        if mode == Mode.FALLBACK:
            self._bus_said = "the bus is in fallback"
            self._heard(Event.BUS_IN_FALLBACK)
        elif mode == Mode.LIVE:
            self._heard(Event.BUS_LIVE)

    def _refused(self, error: TrishulaError) -> None:
        if isinstance(error, FallbackOn):
            self._bus_said = "its node takes no messages, for the bus is in fallback"
            self._heard(Event.BUS_IN_FALLBACK)

    def _heard(self, event: Event) -> None:
        if self._is_over:
            return
        before = self.mode
        if self._policy.heard(event, self._clock.seconds()):
            self._follow(before)
        if event in (Event.ATTACHED, Event.LOST) and self._folder is not None:
            self._reading.has_session(event is Event.ATTACHED)
        self._set_timer()

    def _tick(self) -> None:
        self._timer = None
        before = self.mode
        if self._policy.tick(self._clock.seconds()):
            self._bus_said = "no node is there"
            self._follow(before)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer, due_s = None, self._policy.due_s
        if due_s is not None and not self._is_over:
            self._timer = self._clock.callLater(max(due_s - self._clock.seconds(), 0.0), self._tick)

    def _follow(self, before: Mode) -> None:
        """The mode is another one."""
        mode = self.mode
        if mode is Mode.FALLBACK:
            _log.warning(_WORDS[mode], self._agent, self._bus_said, self._directory)
            self._filing.begin()
            if not self.fallen_back.done:
                self.fallen_back.resolve(None)
        else:
            _log.info(_WORDS[mode], self._agent)
            if before is Mode.FALLBACK:
                self._filing.end()
        self._changed(mode)

    def _write_canary(self, canary: str, to: str) -> None:
        folder, now_ms = self._folder, self._now_ms()
        if folder is None or self._is_over:
            return

        def written(outcome: Pending[None]) -> None:
            if isinstance(outcome.error, TrishulaError):
                # It is not sent, and so lost; who can't write files has no second road.
                self._complain(outcome.error)
            elif outcome.error is not None:
                raise outcome.error
            else:
                self._engine.receiving.tell_of_canary(canary)

        self._errands.do(lambda: folder.canaries.write(canary, to, now_ms), written)

    def _complain(self, error: TrishulaError) -> None:
        now_s = self._clock.seconds()
        if self._complained_at_s is None or now_s - self._complained_at_s >= _COMPLAIN_EVERY_S:
            self._complained_at_s = now_s
            _log.warning("%s can't use its folder: %s; it keeps trying", self._agent, error)

    # What the engine tells (trishula.messaging.second_road.SecondRoad).

    def settled(self, token: str) -> None:
        self._reading.settled(token)

    def given_back(self, token: str, reason: str, requeue: bool) -> None:
        self._reading.given_back(token, reason, requeue)

    def flush(self) -> None:
        if self._folder is not None:
            self._reading.flush()
