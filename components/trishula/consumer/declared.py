"""What an agent is declared to do, before it starts: its procedures, its handlers, what runs when it has joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from trishula.consumer.handlers import Handler
from trishula.consumer.routes import Routes, SubjectPattern
from trishula.consumer.run import Part
from trishula.contract.message import MailType
from trishula.contract.uris import procedure_of

__all__ = ["Declared"]

F = TypeVar("F", bound=Callable[..., Any])


class Declared:
    """The decorators of :class:`trishula.agent.Agent`."""

    name: str
    _routes: Routes
    _part: Part

    @property
    def _runs(self) -> bool:
        raise NotImplementedError

    def procedure(
        self, name: str | None = None, *, thread: bool = False, require_signature: bool = False
    ) -> Callable[[F], F]:
        """Offer a function as a procedure: by live RPC, and by COMMANDs that name it.

        Its return value must be JSON and becomes the RESULT; what it raises becomes the ERROR.

        Args:
            name: if not the function's own.
            thread: run it in a thread, because it blocks.
            require_signature: run it only by COMMANDs that their senders have signed, and never by live RPC.
        """

        def decorate(function: F) -> F:
            self.add_procedure(function, name=name, thread=thread, require_signature=require_signature)
            return function

        return decorate

    def add_procedure(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        thread: bool = False,
        require_signature: bool = False,
    ) -> None:
        """:meth:`procedure` without the decorator."""
        chosen = name or function.__name__
        procedure_of(self.name, chosen)
        if chosen in self._routes.procedures:
            raise ValueError(f"{self.name} has a procedure {chosen} already")
        if self._runs:
            raise RuntimeError(f"{self.name} runs already; procedures are added before")
        self._routes.procedures[chosen] = Handler(
            function, name=chosen, thread=thread, requires_signature=require_signature
        )

    def on(
        self,
        *types: MailType,
        subject: str | None = None,
        thread: bool = False,
        ordered: bool = True,
        require_signature: bool = False,
    ) -> Callable[[F], F]:
        """Handle messages of these types; the function takes the :class:`~trishula.contract.message.Message`.

        If it raises, the message is given back and delivered again; when it returns, the message is done. For COMMAND
        it gets those whose procedure is none of ours, and its return value is the RESULT.

        Handlers with a ``subject`` are tried first, in the order in which they are declared; what fits none of them
        goes to the handler of the type without one (:mod:`trishula.consumer.routes`).

        Args:
            types: STATUS, RESULT, ERROR, COMMAND.
            subject: only messages whose subject fits this pattern, in which ``*`` stands for any run of characters:
                ``"deploy.*"``.
            thread: run it in a thread, because it blocks.
            ordered: one message of a sender at a time, in order; ``False`` to begin with each as it comes.
            require_signature: refuse those of these messages that their senders have not signed by a known key.

        Raises:
            ValueError: there is no such type, the pattern is none, or another handler takes all of it.
        """
        pattern = None if subject is None else SubjectPattern(subject)
        self._routes.check(types, pattern)

        def decorate(function: F) -> F:
            handler = Handler(
                function,
                name=function.__name__,
                thread=thread,
                ordered=ordered,
                requires_signature=require_signature,
            )
            self._routes.add(types, pattern, handler)
            return function

        return decorate

    def on_start(self, function: F) -> F:
        """Run a function without arguments once, when the agent has joined for the first time."""
        self._part.on_start.append(Handler(function, name=function.__name__))
        return function

    def on_mode(self, function: F) -> F:
        """Run a function with each new mode of the agent: ``"live"``, ``"degraded"`` or ``"fallback"``.

        The first one is ``"live"`` when the agent has joined; :attr:`trishula.agent.Agent.mode` says what each means.
        """
        self._part.on_mode.append(Handler(function, name=function.__name__))
        return function
