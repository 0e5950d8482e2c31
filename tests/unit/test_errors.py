"""The table of errors: what a client in any language may rely on, and what a person reads."""

from __future__ import annotations

import pytest

import trishula
from trishula import errors
from trishula.errors import OutcomeUnknown, RecipientUnknown, RemoteError, TrishulaError, from_wire, wire_errors

#: Class → (URI below trishula.error., temporary, its sentence). Part of the contract: a change here is a change of it.
TABLE = {
    "MessageInvalid": ("message_invalid", False, "A key of the message is missing or breaks its rule."),
    "KeyUnknown": ("key_unknown", False, "The message or an argument has a key that the contract doesn't know."),
    "AttachmentTooLarge": ("attachment_too_large", False, "The attachment is larger than the node takes."),
    "AttachmentUnknown": (
        "attachment_unknown",
        False,
        "The node has no such attachment, or none that the caller may know of.",
    ),
    "AttachmentAway": (
        "attachment_away",
        True,
        "The file of the attachment is at a linked node, and not here yet: it is being fetched, or that node is away.",
    ),
    "AttachmentDamaged": (
        "attachment_damaged",
        False,
        "The file of an attachment is not what its digest says.",
    ),
    "AttachmentsOff": (
        "attachments_off",
        False,
        "The node takes and hands out no attachments: its operator wants none, or it is of an earlier release.",
    ),
    "AttachmentsFull": (
        "attachments_full",
        True,
        "The node keeps as much of attachments as it may, of that agent or of all, or its disk has no room for them.",
    ),
    "PayloadTooLarge": ("payload_too_large", False, "The payload is larger than the node takes."),
    "PayloadNotJson": ("payload_not_json", False, "The payload can't be written as JSON and read back the same."),
    "SenderFalse": (
        "sender_false",
        False,
        "The message says that it is from somebody else than the session that sends it.",
    ),
    "RecipientUnknown": ("recipient_unknown", False, "No agent of that name is registered."),
    "InstanceUnknown": (
        "instance_unknown",
        False,
        "The agent exists, but that instance of it is not there (any more).",
    ),
    "RecipientForbidden": ("recipient_forbidden", False, "The sender's grants don't cover that recipient."),
    "ArgumentInvalid": (
        "argument_invalid",
        False,
        "An argument of a procedure of the wire contract breaks its rule.",
    ),
    "AgentUnknown": ("agent_unknown", False, "A question about an agent that is not registered."),
    "NotAllowed": ("not_allowed", False, "The session may not do that on that URI."),
    "ForwardingForbidden": (
        "forwarding_forbidden",
        False,
        "The call or event claims to be forwarded for somebody (``forward_for``), and its session is not a router "
        "link.",
    ),
    "IdReused": ("id_reused", False, "The sender's agent has used that id already, for another message."),
    "MessageUnknown": ("message_unknown", False, "No message of that id is in the caller's mailbox."),
    "LeaseUnknown": (
        "lease_unknown",
        False,
        "The agent has no such work lease: it was released, lost or never claimed.",
    ),
    "LeaseUnsure": (
        "lease_unsure",
        True,
        "A work lease was to be sure, and not all linked nodes can be reached to confirm it.",
    ),
    "LeasesExceeded": (
        "leases_exceeded",
        False,
        "The agent has as many work leases and waiting claims as it may have.",
    ),
    "LoopQuarantined": (
        "loop_quarantined",
        False,
        "The message goes on with a conversation of agents that answered each other without an end.",
    ),
    "MailboxBusy": (
        "mailbox_busy",
        False,
        "The mailbox is being consumed by a session that it pushes to; only one consumer at a time.",
    ),
    "MailboxFull": (
        "mailbox_full",
        True,
        "The recipient's mailbox holds as much as the node keeps for one address.",
    ),
    "RateLimited": ("rate_limited", True, "The sender sends faster than the node lets it."),
    "ConnectionsExceeded": (
        "connections_exceeded",
        True,
        "The agent has as many connections to the node as it may have at a time.",
    ),
    "SubscriptionsExceeded": (
        "subscriptions_exceeded",
        False,
        "The session, or the agent with all its sessions, has as many subscriptions as it may have at a time.",
    ),
    "RegistrationsExceeded": (
        "registrations_exceeded",
        False,
        "The session, or the agent with all its sessions, has registered as many procedures as it may.",
    ),
    "RetainedExceeded": (
        "retained_exceeded",
        False,
        "The agent has as many retained events at the node, or as large ones, as it may have.",
    ),
    "CallsExceeded": (
        "calls_exceeded",
        True,
        "The caller waits for as many answers as it may at a time, or the callee owes as many.",
    ),
    "FetchesExceeded": (
        "fetches_exceeded",
        True,
        "The session, or the agent with all its sessions, has as many fetches that wait as it may have.",
    ),
    "InstancesExceeded": (
        "instances_exceeded",
        True,
        "The session, or the agent, has as many instances as it may have at a time.",
    ),
    "ReadsTooSlowly": (
        "reads_too_slowly",
        True,
        "The agent's connection was ended, because more waited for it than a node keeps for one connection.",
    ),
    "NodeBusy": (
        "node_busy",
        True,
        "Very many clients join the node at this moment; it takes this one a little later.",
    ),
    "StorageFull": (
        "storage_full",
        True,
        "The node's disk, or the share of it that its config allows, is full.",
    ),
    "StorageFailed": ("storage_failed", True, "The node could not write to or read from its store."),
    "CapabilityForbidden": (
        "capability_forbidden",
        False,
        "The agent announces a capability that it is not granted to serve.",
    ),
    "AnswerRefused": (
        "answer_refused",
        False,
        "The RESULT or ERROR answers a COMMAND that its sender was never given, or that is answered already.",
    ),
    "AnswerEarly": (
        "answer_early",
        True,
        "The node doesn't know yet whether its sender was given the COMMAND to a capability that the message answers.",
    ),
    "CopiesUnavailable": (
        "copies_unavailable",
        True,
        "The sender insists on more copies than there are nodes to keep them now.",
    ),
    "NodeFailed": (
        "node_failed",
        True,
        "The node met a fault of its own at this request; its log has the details.",
    ),
    "FallbackOn": (
        "fallback_on",
        True,
        "An operator has put the bus into fallback: its nodes deliver what they have, and take nothing new.",
    ),
    "NodeUnknown": ("node_unknown", False, "A question about a node of which nothing is known here."),
    "NodeStopping": ("node_stopping", True, "The node is shutting down and accepts nothing more."),
    "TokenMissing": ("token_missing", False, "The client tried to join without a token, and without a key."),
    "TokenInvalid": ("token_invalid", False, "The token, or the key, is wrong, expired, revoked or another agent's."),
    "TakenOver": (
        "taken_over",
        False,
        "A newer session of the same agent consumes the mailbox now; this one was closed.",
    ),
    "BusUnreachable": ("bus_unreachable", True, "No node of the client's list could be reached."),
    "CallFailed": ("call_failed", False, "The called agent ran the procedure and it failed."),
    "ProcedureUnknown": ("procedure_unknown", False, "The called agent has no procedure of that name."),
    "DeadLetter": (
        "dead_letter",
        False,
        "The message could not be handled, and is in the node's dead letters; its sender is told by an ERROR message.",
    ),
    "MessageExpired": (
        "message_expired",
        False,
        "The COMMAND's time to live or deadline was over before it was done; its sender is told by an ERROR message.",
    ),
    "MessageCancelled": (
        "message_cancelled",
        False,
        "The message was cancelled by its sender; no answer to it is delivered any more.",
    ),
    "OutcomeUnknown": (
        "outcome_unknown",
        False,
        "The call was accepted, and its answer did not come in time: it may have run, run now or run later.",
    ),
}


def test_the_table_is_complete() -> None:
    # Of the module, not of all subclasses: a test elsewhere may define one.
    there = {cls.__name__ for cls in wire_errors().values() if cls.__module__ == errors.__name__}
    assert there == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_class(name: str) -> None:
    uri, temporary, sentence = TABLE[name]
    cls = getattr(errors, name)
    assert issubclass(cls, TrishulaError)
    assert cls.uri == f"trishula.error.{uri}"
    assert cls.temporary is temporary
    assert (cls.__doc__ or "").strip().partition("\n")[0] == sentence


def test_everything_is_exported() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TrishulaError) and value.__module__ == errors.__name__
    }
    assert defined | {"from_wire", "retry_after_in", "wire_errors"} == set(errors.__all__)


def test_no_two_classes_share_a_uri() -> None:
    uris = [getattr(errors, name).uri for name in TABLE]
    assert len(set(uris)) == len(uris)


@pytest.mark.parametrize("name", TABLE)
def test_an_error_comes_back_as_it_went(name: str) -> None:
    cls = getattr(errors, name)
    error = from_wire(cls.uri, "what happened", {"retry_after_s": 2})
    assert type(error) is cls
    assert error.sentence == str(error) == "what happened"
    assert error.retry_after_s == 2.0


def test_outcome_unknown_names_the_message() -> None:
    error = from_wire("trishula.error.outcome_unknown", "no answer", {"message_id": "m1"})
    assert isinstance(error, OutcomeUnknown)
    assert error.message_id == "m1"
    assert error.retry_after_s is None


def test_an_unknown_uri_stays_readable() -> None:
    error = from_wire("com.example.broken", "the disk is gone")
    assert isinstance(error, RemoteError)
    assert (error.remote_uri, error.sentence, error.temporary) == ("com.example.broken", "the disk is gone", False)


@pytest.mark.parametrize("retry", [None, "2", [], {}])
def test_a_strange_retry_after_is_none(retry: object) -> None:
    assert from_wire(str(RecipientUnknown.uri), "x", {"retry_after_s": retry}).retry_after_s is None


@pytest.mark.parametrize(
    ("sentence", "retry_after_s"),
    [
        ("64 clients join this node just now; try again in 1.5 s", 1.5),
        ("try again in 3 s, or later", 3.0),
        ("try again later", None),
        ("try again in 3 seconds", None),
        ("try again in 99999999 s", None),
        ("try again in nan s", None),
    ],
)
def test_when_to_try_again_is_read_out_of_a_sentence(sentence: str, retry_after_s: float | None) -> None:
    assert errors.retry_after_in(sentence) == retry_after_s


def test_each_error_can_be_had_from_the_package() -> None:
    classes = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert [name for name in (*classes, "SettingsInvalid") if name not in trishula.__all__] == []
    assert trishula.MailboxFull is errors.MailboxFull
