"""Exit codes of the command line, by name; scripts and monitors may rely on them."""

from __future__ import annotations

from enum import IntEnum

from trishula import errors
from trishula.settings import SettingsInvalid

__all__ = ["Exit", "exit_for"]


class Exit(IntEnum):
    """What the process's exit code says."""

    #: It did what it should.
    OK = 0
    #: It failed, and none of the codes below says it better: for example, the called procedure raised an error.
    FAILED = 1
    #: The command line is wrong, or an agent's own file that it names.
    USAGE = 2
    #: The node refused the request: a repeat of it fails again.
    REFUSED = 3
    #: No token, a wrong one, or one without the right to do that.
    FORBIDDEN = 4
    #: No such agent, instance, message, procedure, dead letter or node.
    NOT_FOUND = 5
    #: No node could be reached, or not all nodes that something is to hold at.
    UNREACHABLE = 6
    #: The message was accepted, and its outcome was not known in time: ask ``trishula why ID``.
    OUTCOME_UNKNOWN = 7
    #: The bench lost a message, or one was refused.
    LOSS = 8
    #: A bug in the command line itself (EX_SOFTWARE).
    BUG = 70
    #: The node can't now; the same command may succeed later (EX_TEMPFAIL).
    TRY_LATER = 75
    #: A configuration, a state directory or a token file breaks a rule, or is not there (EX_CONFIG).
    CONFIG = 78
    #: Another process runs as the same agent, and its mailbox is that one's: don't start this one again.
    TAKEN_OVER = 79
    #: Ctrl-C (128 + SIGINT).
    INTERRUPTED = 130


_BY_CLASS: tuple[tuple[type[errors.TrishulaError], Exit], ...] = (
    (SettingsInvalid, Exit.USAGE),
    (errors.StateUnusable, Exit.CONFIG),
    (errors.BusUnreachable, Exit.UNREACHABLE),
    (errors.TakenOver, Exit.TAKEN_OVER),
    (errors.TokenMissing, Exit.FORBIDDEN),
    (errors.TokenInvalid, Exit.FORBIDDEN),
    (errors.NotAllowed, Exit.FORBIDDEN),
    (errors.RecipientForbidden, Exit.FORBIDDEN),
    (errors.RecipientUnknown, Exit.NOT_FOUND),
    (errors.InstanceUnknown, Exit.NOT_FOUND),
    (errors.AgentUnknown, Exit.NOT_FOUND),
    (errors.MessageUnknown, Exit.NOT_FOUND),
    (errors.AttachmentUnknown, Exit.NOT_FOUND),
    (errors.ProcedureUnknown, Exit.NOT_FOUND),
    (errors.NodeUnknown, Exit.NOT_FOUND),
    (errors.OutcomeUnknown, Exit.OUTCOME_UNKNOWN),
    (errors.CallFailed, Exit.FAILED),
    (errors.DeadLetter, Exit.FAILED),
    (errors.MessageExpired, Exit.FAILED),
    (errors.MessageCancelled, Exit.FAILED),
    (errors.RemoteError, Exit.FAILED),
)


def exit_for(error: errors.TrishulaError) -> Exit:
    """The exit code that belongs to an error of the bus."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    if error.temporary:
        return Exit.TRY_LATER
    return Exit.REFUSED if error.uri is not None else Exit.FAILED
