"""Which of an agent's handlers takes a message.

1. A COMMAND that names a procedure of the agent runs that, whatever its subject.
2. Else the handlers of its type that have a *subject pattern* are tried in the order in which they were declared; the
   first whose pattern fits the message's subject takes it. A message without a subject fits none.
3. Else the handler of its type without a pattern takes it.

In a pattern ``*`` stands for any run of characters, also for none; everything else stands for itself, case included:
``deploy.*`` fits ``deploy.eu`` and ``deploy.eu.west``, and not ``deploy``. So ``*`` alone fits every subject. A pattern
that could never take anything, because one before it takes all of it, is refused as it is declared.
"""

from __future__ import annotations

from collections.abc import Sequence

from trishula.consumer.handlers import Handler
from trishula.contract.message import MAIL_TYPES, SIGNAL_TYPES, SUBJECT_LENGTH, Message
from trishula.contract.signed import SIGNATURE_REFUSED
from trishula.contract.texts import LINE_RULE, is_line, show_value
from trishula.errors import ProcedureUnknown

__all__ = ["Routes", "SubjectPattern"]


class SubjectPattern:
    """See the module's docstring.

    Raises:
        ValueError: the text is no pattern; the sentence says why.
    """

    __slots__ = ("_first", "_last", "_least", "_middle", "text")

    def __init__(self, text: str) -> None:
        if not is_line(text) or not 1 <= len(text) <= SUBJECT_LENGTH:
            raise ValueError(
                f"subject is {show_value(text)}; a pattern of subjects is a string of 1 to {SUBJECT_LENGTH} "
                f'characters, {LINE_RULE}, such as "deploy.*"'
            )
        if "**" in text:
            raise ValueError(f"subject is {show_value(text)}; one * stands for any run of characters, so write one")
        self.text = text
        self._first, *rest = text.split("*")
        self._last = rest.pop() if rest else None
        self._middle = rest
        self._least = len(text) - text.count("*")

    def fits(self, subject: str) -> bool:
        """Whether a subject fits; in one pass, for patterns are the agent's and subjects are anybody's."""
        if self._last is None:
            return subject == self.text
        if len(subject) < self._least or not subject.startswith(self._first) or not subject.endswith(self._last):
            return False
        at, end = len(self._first), len(subject) - len(self._last)
        for part in self._middle:
            found = subject.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def covers(self, other: SubjectPattern) -> bool:
        """Whether every subject that fits the other one fits this one."""
        # A * of the other one can only be met by a * of ours.
        return self.fits(other.text)


class Routes:
    """See the module's docstring.

    Attributes:
        procedures: by name.
    """

    def __init__(self, whose: str) -> None:
        self.procedures: dict[str, Handler] = {}
        self._whose = whose
        self._by_type: dict[str, Handler] = {}
        self._by_subject: dict[str, list[tuple[SubjectPattern, Handler]]] = {}

    def procedure_of(self, message: Message) -> Handler | None:
        """The procedure that a COMMAND names, if it is one of the agent's."""
        if message.type != "COMMAND" or message.procedure is None:
            # A procedure that another message names is only a word in it.
            return None
        return self.procedures.get(message.procedure)

    def unknown(self, message: Message) -> ProcedureUnknown:
        """What is answered to a COMMAND that nothing takes."""
        known = ", ".join(sorted(self.procedures)) or "none"
        if message.procedure is None:
            return ProcedureUnknown(f"the COMMAND {message.id} to {self._whose} names no procedure; it has: {known}")
        return ProcedureUnknown(f"{self._whose} has no procedure {message.procedure}; it has: {known}")

    def handler_of(self, message: Message) -> Handler | None:
        """The handler that takes a message which names no procedure of the agent's."""
        if self._by_subject and message.subject is not None:
            for pattern, handler in self._by_subject.get(message.type, ()):
                if pattern.fits(message.subject):
                    return handler
        return self._by_type.get(message.type)

    def unsigned(self, message: Message) -> str | None:
        """Why a message must not be handled, because its handler takes signed ones alone; ``None`` if it may be."""
        if message.signed_by is not None:
            return None
        handler = self.procedure_of(message) or self.handler_of(message)
        if handler is None or not handler.requires_signature:
            return None
        fault = message.signature_fault or "nobody looks at signatures here"
        return f"{SIGNATURE_REFUSED}: {handler.name} of {self._whose} takes signed messages alone, and {fault}"

    @property
    def requires_signatures(self) -> bool:
        """Whether there are handlers that take signed messages alone."""
        patterned = (handler for found in self._by_subject.values() for _, handler in found)
        handlers = (*self.procedures.values(), *self._by_type.values(), *patterned)
        return any(handler.requires_signature for handler in handlers)

    def sorts(self, type: str) -> bool:
        """Whether there are handlers of the type that look at subjects."""
        return type in self._by_subject

    def add(self, types: Sequence[str], pattern: SubjectPattern | None, handler: Handler) -> None:
        """Have a handler take messages of these types, of those that fit a pattern.

        Raises:
            ValueError: as :meth:`check`.
        """
        self.check(types, pattern)
        for type in types:
            if pattern is None:
                self._by_type[type] = handler
            else:
                self._by_subject.setdefault(type, []).append((pattern, handler))

    def check(self, types: Sequence[str], pattern: SubjectPattern | None) -> None:
        """See that these types, with that pattern, can be handled.

        Raises:
            ValueError: there is no such type, none is given, or it is handled already.
        """
        if not types:
            raise ValueError(f'no type is given; write for example @agent.on("STATUS"): {", ".join(MAIL_TYPES)}')
        for type in types:
            self._check_type(type)
            if pattern is None and type in self._by_type:
                raise ValueError(f"{self._whose} handles {type} already")
            for before, handler in self._by_subject.get(type, ()) if pattern is not None else ():
                if pattern is not None and before.covers(pattern):
                    raise ValueError(
                        f"no {type} would come to subject={show_value(pattern.text)}: the handler {handler.name}, "
                        f"declared before with subject={show_value(before.text)}, takes them all; declare the narrower "
                        "pattern first"
                    )

    def _check_type(self, type: str) -> None:
        if type in SIGNAL_TYPES:
            raise ValueError(
                f"{type} can't be handled: a node takes it as a sign and delivers it to nobody; the types that agents "
                f"get are {', '.join(MAIL_TYPES)}"
            )
        if callable(type):
            raise ValueError('a decorator is missing its type: write @agent.on("STATUS"), not @agent.on')
        if type not in MAIL_TYPES:
            raise ValueError(f"{type!r} is no type of message: {', '.join(MAIL_TYPES)}")
