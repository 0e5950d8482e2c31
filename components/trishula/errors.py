"""Every error of the bus: one class each, the same one raised in the node and raised again in the client.

A class carries ``uri`` (its name on the wire), ``temporary`` (may the same request succeed later?) and, as its text,
the sentence a person reads: what happened, to which key, agent or id, and what to do. Where waiting helps,
``retry_after_s`` says how long. :func:`from_wire` turns what came over the wire back into its class; an unknown URI
becomes :class:`RemoteError`, never a bare Autobahn error.

The documentation's table of errors is made from the classes' docstrings: the first paragraph says what happened, the
one that begins "What to do:" the way out.

The tree: :class:`TrishulaError` → request errors (the sender is at fault, a repeat fails again), temporary errors (the
node is at fault or busy; the outbox tries again), session errors, and outcomes of calls.
"""

# Long because: every error of the contract stands here, once, and the reference is made from this one module.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "AgentUnknown",
    "AnswerEarly",
    "AnswerRefused",
    "ArgumentInvalid",
    "AttachmentAway",
    "AttachmentDamaged",
    "AttachmentTooLarge",
    "AttachmentUnknown",
    "AttachmentsFull",
    "AttachmentsOff",
    "BusUnreachable",
    "CallFailed",
    "CallsExceeded",
    "CapabilityForbidden",
    "ConnectionsExceeded",
    "CopiesUnavailable",
    "DeadLetter",
    "FallbackOn",
    "FetchesExceeded",
    "FileInvalid",
    "FolderUnusable",
    "ForwardingForbidden",
    "IdReused",
    "InstanceUnknown",
    "InstancesExceeded",
    "KeyUnknown",
    "LeaseTaken",
    "LeaseUnknown",
    "LeaseUnsure",
    "LeasesExceeded",
    "LoopQuarantined",
    "MailboxBusy",
    "MailboxFull",
    "MessageCancelled",
    "MessageExpired",
    "MessageInvalid",
    "MessageSetAside",
    "MessageUnknown",
    "NodeBusy",
    "NodeFailed",
    "NodeStopping",
    "NodeUnknown",
    "NotAllSent",
    "NotAllowed",
    "OutboxFull",
    "OutcomeUnknown",
    "PayloadNotJson",
    "PayloadTooLarge",
    "ProcedureUnknown",
    "RateLimited",
    "RecipientForbidden",
    "RecipientUnknown",
    "ReadsTooSlowly",
    "RegistrationsExceeded",
    "RemoteError",
    "RetainedExceeded",
    "SenderFalse",
    "StateBusy",
    "StateUnusable",
    "StorageFailed",
    "StorageFull",
    "SubscriptionsExceeded",
    "TakenOver",
    "TokenInvalid",
    "TokenMissing",
    "TrishulaError",
    "from_wire",
    "retry_after_in",
    "wire_errors",
]


class TrishulaError(Exception):
    """Whatever can go wrong on the bus.

    Attributes:
        uri: the error's name on the wire; ``None`` for what never travels.
        temporary: whether the same request may succeed later without a change.
        retry_after_s: when to try again, in seconds, if the node said so.
        data: what a procedure that raised it said beside the sentence: any JSON value of at most 64 KiB
            (:data:`trishula.contract.limits.ERROR_DATA_BYTES`); ``None`` if nothing. Its caller's error has the same.
    """

    uri: ClassVar[str | None] = None
    temporary: ClassVar[bool] = False
    data: Any = None

    def __init__(self, sentence: str, *, retry_after_s: float | None = None, data: Any = None) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s
        if data is not None:
            self.data = data

    @property
    def sentence(self) -> str:
        """What to show to a person."""
        return str(self.args[0])


# -- the request is at fault: a repeat fails again ---------------------------------------------------------------------


class MessageInvalid(TrishulaError):
    """A key of the message is missing or breaks its rule.

    What to do: mend the key that the sentence names; it says the rule.
    """

    uri = "trishula.error.message_invalid"


class KeyUnknown(TrishulaError):
    """The message or an argument has a key that the contract doesn't know.

    What to do: leave the key out, or spell it as the contract does.
    """

    uri = "trishula.error.key_unknown"


class IdReused(TrishulaError):
    """The sender's agent has used that id already, for another message.

    What to do: send under another id; ``trishula why ID`` tells of the first message.
    """

    uri = "trishula.error.id_reused"


class PayloadTooLarge(TrishulaError):
    """The payload is larger than the node takes.

    What to do: send less, or have the operator raise ``limits.payload``.
    """

    uri = "trishula.error.payload_too_large"


class AttachmentTooLarge(TrishulaError):
    """The attachment is larger than the node takes.

    What to do: send it in parts, or have the operator raise ``attachments.size``.
    """

    uri = "trishula.error.attachment_too_large"


class AttachmentUnknown(TrishulaError):
    """The node has no such attachment, or none that the caller may know of.

    What to do: send the file with the message (``attachment=PATH``), or have its sender send it again.
    """

    uri = "trishula.error.attachment_unknown"


class AttachmentAway(TrishulaError):
    """The file of the attachment is at a linked node, and not here yet: it is being fetched, or that node is away.

    What to do: ask again; ``save_attachment`` does so by itself. If that node is gone for good, have the sender send
    the file again.
    """

    uri = "trishula.error.attachment_away"
    temporary = True


class AttachmentDamaged(TrishulaError):
    """The file of an attachment is not what its digest says.

    What to do: have its sender send it again, which replaces it; the node's operator looks at its disk.
    """

    uri = "trishula.error.attachment_damaged"


class AttachmentsOff(TrishulaError):
    """The node takes and hands out no attachments: its operator wants none, or it is of an earlier release.

    What to do: put the file where the recipient can fetch it, or have the operator set ``attachments.on``.
    """

    uri = "trishula.error.attachments_off"


class PayloadNotJson(TrishulaError):
    """The payload can't be written as JSON and read back the same.

    What to do: mend the value at the place that the sentence names.
    """

    uri = "trishula.error.payload_not_json"


class SenderFalse(TrishulaError):
    """The message says that it is from somebody else than the session that sends it.

    What to do: leave ``from`` out: the node sets it.
    """

    uri = "trishula.error.sender_false"


class RecipientUnknown(TrishulaError):
    """No agent of that name is registered.

    What to do: look at the name (``trishula agents``); an operator registers an agent with ``trishula token new``.
    """

    uri = "trishula.error.recipient_unknown"


class InstanceUnknown(TrishulaError):
    """The agent exists, but that instance of it is not there (any more).

    What to do: send to the agent itself, or ask who is there (``trishula agents``).
    """

    uri = "trishula.error.instance_unknown"


class RecipientForbidden(TrishulaError):
    """The sender's grants don't cover that recipient.

    What to do: have an operator add the recipient to ``send`` in ``agents.json``.
    """

    uri = "trishula.error.recipient_forbidden"


class CapabilityForbidden(TrishulaError):
    """The agent announces a capability that it is not granted to serve.

    What to do: have an operator grant it: ``trishula token grant NAME --serve CAPABILITY``.
    """

    uri = "trishula.error.capability_forbidden"


class AnswerRefused(TrishulaError):
    """The RESULT or ERROR answers a COMMAND that its sender was never given, or that is answered already.

    What to do: nothing: the COMMAND has its answer, or was given to somebody else.
    """

    uri = "trishula.error.answer_refused"


class ArgumentInvalid(TrishulaError):
    """An argument of a procedure of the wire contract breaks its rule.

    What to do: mend the argument that the sentence names; the contract has its rule.
    """

    uri = "trishula.error.argument_invalid"


class AgentUnknown(TrishulaError):
    """A question about an agent that is not registered.

    What to do: look at the name (``trishula agents``).
    """

    uri = "trishula.error.agent_unknown"


class NotAllowed(TrishulaError):
    """The session may not do that on that URI.

    What to do: join with a token that has the right, such as an operator's, or have ``call`` in ``agents.json``
    widened.
    """

    uri = "trishula.error.not_allowed"


class ForwardingForbidden(TrishulaError):
    """The call or event claims to be forwarded for somebody (``forward_for``), and its session is not a router link.

    What to do: leave ``forward_for`` out.
    """

    uri = "trishula.error.forwarding_forbidden"


class MessageUnknown(TrishulaError):
    """No message of that id is in the caller's mailbox.

    What to do: look at the id, and whether it was sent by or to this agent.
    """

    uri = "trishula.error.message_unknown"


class MailboxBusy(TrishulaError):
    """The mailbox is being consumed by a session that it pushes to; only one consumer at a time.

    What to do: let the running agent take its messages, stop it first, or only look (``trishula inbox --peek``).
    """

    uri = "trishula.error.mailbox_busy"


class SubscriptionsExceeded(TrishulaError):
    """The session, or the agent with all its sessions, has as many subscriptions as it may have at a time.

    What to do: unsubscribe from topics, or have ``limits.subscriptions`` raised.
    """

    uri = "trishula.error.subscriptions_exceeded"


class RegistrationsExceeded(TrishulaError):
    """The session, or the agent with all its sessions, has registered as many procedures as it may.

    What to do: unregister procedures, or have ``limits.registrations`` raised.
    """

    uri = "trishula.error.registrations_exceeded"


class RetainedExceeded(TrishulaError):
    """The agent has as many retained events at the node, or as large ones, as it may have.

    What to do: replace retained events rather than add topics, or have ``limits.retained`` raised.
    """

    uri = "trishula.error.retained_exceeded"


# -- temporary: the same request may succeed later ---------------------------------------------------------------------


class MailboxFull(TrishulaError):
    """The recipient's mailbox holds as much as the node keeps for one address.

    What to do: wait: the outbox tries again by itself. The recipient has to take its messages, or ``limits.mailbox`` to
    be raised.
    """

    uri = "trishula.error.mailbox_full"
    temporary = True


class RateLimited(TrishulaError):
    """The sender sends faster than the node lets it.

    To a client that wants to join: too many wrong tokens came from where it is.

    What to do: wait for ``retry_after_s``: the outbox does so by itself. An operator may raise ``limits.rate``.
    """

    uri = "trishula.error.rate_limited"
    temporary = True


class LoopQuarantined(TrishulaError):
    """The message goes on with a conversation of agents that answered each other without an end.

    What to do: don't answer. An operator looks at the conversation (``trishula loop list``), and lets it go on with
    ``trishula loop release ID``, or raises ``limits.conversation_hops``.
    """

    uri = "trishula.error.loop_quarantined"


class LeaseTaken(TrishulaError):
    """Others have what was to be leased, and did not give it back in time.

    What to do: work on something else, wait longer, or ask those whom the sentence names.
    """

    temporary = True


class LeaseUnknown(TrishulaError):
    """The agent has no such work lease: it was released, lost or never claimed.

    What to do: stop the work that it was for, and claim it anew.
    """

    uri = "trishula.error.lease_unknown"


class LeaseUnsure(TrishulaError):
    """A work lease was to be sure, and not all linked nodes can be reached to confirm it.

    What to do: try again, or do without ``sure``: the lease is provisional then.
    """

    uri = "trishula.error.lease_unsure"
    temporary = True


class LeasesExceeded(TrishulaError):
    """The agent has as many work leases and waiting claims as it may have.

    What to do: release some (``trishula lease list --mine``), or claim a pattern that covers several.
    """

    uri = "trishula.error.leases_exceeded"


class ConnectionsExceeded(TrishulaError):
    """The agent has as many connections to the node as it may have at a time.

    What to do: close connections that are not needed, or have ``limits.connections`` raised.
    """

    uri = "trishula.error.connections_exceeded"
    temporary = True


class CallsExceeded(TrishulaError):
    """The caller waits for as many answers as it may at a time, or the callee owes as many.

    What to do: wait for answers before you call again, or have ``limits.calls`` raised.
    """

    uri = "trishula.error.calls_exceeded"
    temporary = True


class FetchesExceeded(TrishulaError):
    """The session, or the agent with all its sessions, has as many fetches that wait as it may have.

    What to do: wait for a fetch to end before the next one, or have ``limits.fetches`` raised.
    """

    uri = "trishula.error.fetches_exceeded"
    temporary = True


class InstancesExceeded(TrishulaError):
    """The session, or the agent, has as many instances as it may have at a time.

    What to do: end scripts that are not needed; a lost one goes after ``delivery.instance_grace``.
    """

    uri = "trishula.error.instances_exceeded"
    temporary = True


class ReadsTooSlowly(TrishulaError):
    """The agent's connection was ended, because more waited for it than a node keeps for one connection.

    What to do: read faster, ask for a smaller ``window``, or have ``limits.connection_queue`` raised; clients join
    again by themselves.
    """

    uri = "trishula.error.reads_too_slowly"
    temporary = True


class NodeBusy(TrishulaError):
    """Very many clients join the node at this moment; it takes this one a little later.

    What to do: try again after ``retry_after_s``: clients do so by themselves.
    """

    uri = "trishula.error.node_busy"
    temporary = True


class StorageFull(TrishulaError):
    """The node's disk, or the share of it that its config allows, is full.

    What to do: make room on the node's disk, raise ``limits.store``, or let agents take what waits; the outbox tries
    again by itself.
    """

    uri = "trishula.error.storage_full"
    temporary = True


class AttachmentsFull(TrishulaError):
    """The node keeps as much of attachments as it may, of that agent or of all, or its disk has no room for them.

    What to do: wait until messages that name the earlier ones are handled and forgotten (``retention.bodies``), or have
    the operator raise ``attachments.agent`` or ``attachments.total``, or make room on the disk.
    """

    uri = "trishula.error.attachments_full"
    temporary = True


class StorageFailed(TrishulaError):
    """The node could not write to or read from its store.

    What to do: look into the node's log, and at its disk (``trishula node verify``); the outbox tries again by itself.
    """

    uri = "trishula.error.storage_failed"
    temporary = True


class CopiesUnavailable(TrishulaError):
    """The sender insists on more copies than there are nodes to keep them now.

    What to do: wait until a second node is there, or send with fewer ``copies``.
    """

    uri = "trishula.error.copies_unavailable"
    temporary = True


class AnswerEarly(TrishulaError):
    """The node doesn't know yet whether its sender was given the COMMAND to a capability that the message answers.

    What to do: wait: the outbox tries again by itself.
    """

    uri = "trishula.error.answer_early"
    temporary = True


class FallbackOn(TrishulaError):
    """An operator has put the bus into fallback: its nodes deliver what they have, and take nothing new.

    The sentence has the operator's reason and name. Answers to COMMANDs (RESULT, ERROR), ACKs and heartbeats are taken.

    What to do: wait until the bus is live again (``trishula fallback status``): the outbox tries again by itself.
    """

    uri = "trishula.error.fallback_on"
    temporary = True


class NodeUnknown(TrishulaError):
    """A question about a node of which nothing is known here.

    What to do: look at the name; ``trishula node status`` names the peers.
    """

    uri = "trishula.error.node_unknown"


class NodeFailed(TrishulaError):
    """The node met a fault of its own at this request; its log has the details.

    What to do: try again; if that fails too, report it with what the node's log says.
    """

    uri = "trishula.error.node_failed"
    temporary = True


class NodeStopping(TrishulaError):
    """The node is shutting down and accepts nothing more.

    What to do: wait until the node is back, or go to another one: clients do so by themselves.
    """

    uri = "trishula.error.node_stopping"
    temporary = True


# -- the session -------------------------------------------------------------------------------------------------------


class TokenMissing(TrishulaError):
    """The client tried to join without a token, and without a key.

    What to do: set ``TRISHULA_TOKEN``, or name the token in a profile; ``trishula token new NAME`` makes one.
    """

    uri = "trishula.error.token_missing"


class TokenInvalid(TrishulaError):
    """The token, or the key, is wrong, expired, revoked or another agent's.

    What to do: take the agent's own, newest one; an operator makes a token, or adds a key, with ``trishula token new
    NAME``.
    """

    uri = "trishula.error.token_invalid"


class TakenOver(TrishulaError):
    """A newer session of the same agent consumes the mailbox now; this one was closed.

    What to do: leave one of the two processes stopped; the sentence says where the other one runs.
    """

    uri = "trishula.error.taken_over"


class BusUnreachable(TrishulaError):
    """No node of the client's list could be reached.

    What to do: look whether the node runs (``trishula node status``), and at ``TRISHULA_URL``.
    """

    uri = "trishula.error.bus_unreachable"
    temporary = True


# -- the agent's own file: these never travel --------------------------------------------------------------------------


class OutboxFull(TrishulaError):
    """So much waits for a node's receipt already that the agent's outbox takes no more."""

    temporary = True


class NotAllSent(TrishulaError):
    """Of the messages of one ``send_many`` some have no receipt.

    Attributes:
        outcomes: for each message, in order, its receipt or its error.
        errors: the errors among them.
    """

    def __init__(self, outcomes: Sequence[Any]) -> None:
        self.outcomes = list(outcomes)
        self.errors = [one for one in self.outcomes if isinstance(one, TrishulaError)]
        index, first = next((i, one) for i, one in enumerate(self.outcomes) if isinstance(one, TrishulaError))
        super().__init__(
            f"{len(self.errors)} of {len(self.outcomes)} messages have no receipt (the error's .outcomes has what "
            f"became of each); the first of them, number {index}: {first.sentence}"
        )


class MessageSetAside(TrishulaError):
    """Each time that the message was under way alone the node ended the session, so it is offered no more."""


class StateUnusable(TrishulaError):
    """The agent's file can't be used: it is damaged, newer than this program, or something else."""


class StateBusy(StateUnusable):
    """Another process uses the agent's file."""


class FileInvalid(TrishulaError):
    """A file is no message of TRISHULA v1.

    What to do: correct the key that the sentence names, and put a file that was set aside into its folder again.
    """


class FolderUnusable(TrishulaError):
    """The folder for messages as files can't be used now: it is full, read-only, gone, or not ours to use.

    What to do: what the sentence says; nothing in the folder is lost, and whoever uses it tries again.
    """

    temporary = True


# -- outcomes of calls -------------------------------------------------------------------------------------------------


class CallFailed(TrishulaError):
    """The called agent ran the procedure and it failed.

    What to do: read the error that the procedure raised, in the sentence.

    A procedure may raise it as well: ``raise CallFailed("the disk is full", data={"free_bytes": 0})``.
    """

    uri = "trishula.error.call_failed"


class ProcedureUnknown(TrishulaError):
    """The called agent has no procedure of that name.

    What to do: look at the name, and whether that agent's version has the procedure.
    """

    uri = "trishula.error.procedure_unknown"


class DeadLetter(TrishulaError):
    """The message could not be handled, and is in the node's dead letters; its sender is told by an ERROR message.

    What to do: an operator looks at it (``trishula dead show``), and puts it back when its cause is mended (``trishula
    dead replay``).
    """

    uri = "trishula.error.dead_letter"


class MessageExpired(TrishulaError):
    """The COMMAND's time to live or deadline was over before it was done; its sender is told by an ERROR message.

    What to do: send it again if it still matters, with a longer ``ttl_ms``.
    """

    uri = "trishula.error.message_expired"


class MessageCancelled(TrishulaError):
    """The message was cancelled by its sender; no answer to it is delivered any more.

    What to do: nothing: somebody with the sender's token wanted that.
    """

    uri = "trishula.error.message_cancelled"


class OutcomeUnknown(TrishulaError):
    """The call was accepted, and its answer did not come in time: it may have run, run now or run later.

    What to do: ask ``trishula why ID``, or call again under the same id: nothing runs twice.

    Attributes:
        message_id: the id to ask about (``trishula why ID``), or to call with again: a repeat under the same id runs
            nothing twice. ``None`` if the request never became a message.
    """

    uri = "trishula.error.outcome_unknown"

    def __init__(self, sentence: str, *, message_id: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(sentence, retry_after_s=retry_after_s)
        self.message_id = message_id


class RemoteError(TrishulaError):
    """An error that is not in this tree, for example one that an agent's procedure raised.

    A procedure raises it with a name of its own: ``raise RemoteError("no room", remote_uri="org.example.disk_full")``.

    Attributes:
        remote_uri: its URI as it came; it has a dot in it.
    """

    def __init__(self, sentence: str, *, remote_uri: str, retry_after_s: float | None = None, data: Any = None) -> None:
        super().__init__(sentence, retry_after_s=retry_after_s, data=data)
        self.remote_uri = remote_uri


def _all_below(cls: type[TrishulaError]) -> list[type[TrishulaError]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_all_below(sub))]


def wire_errors() -> dict[str, type[TrishulaError]]:
    """Each error's URI → its class; the table of the docs is made from it."""
    return {cls.uri: cls for cls in _all_below(TrishulaError) if cls.uri is not None}


_BY_URI = wire_errors()


#: How our sentences say it.
_RETRY = re.compile(r"try again in ([0-9]{1,6}(?:\.[0-9]{1,6})?) s\b")


def retry_after_in(sentence: str) -> float | None:
    """When to try again, in seconds, as a sentence says it ("…; try again in 1.5 s"); ``None`` if it doesn't.

    For an ABORT, which in WAMP has a reason and a sentence, and in most libraries nothing else that a client can read.
    """
    found = _RETRY.search(sentence)
    return None if found is None else float(found[1])


def from_wire(uri: str, sentence: str, details: Mapping[str, Any] | None = None) -> TrishulaError:
    """The error that came over the wire, as the class it was raised as.

    Args:
        uri: the WAMP error's URI, or a receipt's ``error``.
        sentence: the error's first argument, or a receipt's ``detail``.
        details: the WAMP error's keyword arguments, the payload of an ERROR message, or the receipt; only
            ``retry_after_s``, ``message_id`` and ``data`` count.
    """
    details = details or {}
    retry = details.get("retry_after_s")
    retry_after_s = float(retry) if isinstance(retry, int | float) else None
    cls = _BY_URI.get(uri)
    if cls is None:
        return RemoteError(sentence, remote_uri=uri, retry_after_s=retry_after_s, data=details.get("data"))
    if cls is OutcomeUnknown:
        return OutcomeUnknown(sentence, message_id=details.get("message_id"), retry_after_s=retry_after_s)
    return cls(sentence, retry_after_s=retry_after_s, data=details.get("data"))
