"""``trishula audit redact``: the payload of a message is deleted, and the journal says so."""

from __future__ import annotations

import click

from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.words import local_time, plain
from trishula.contract import uris

__all__ = ["redact"]


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stays in the journal.")
@click.option("--from", "sender", metavar="ADDRESS", help="Whose message, if several senders used the id.")
@json_option
@click.pass_obj
def redact(state: State, message_id: str, reason: str, sender: str | None) -> None:
    """Delete the payload of the message ID for ever, here and at linked nodes (operators only).

    The message must be settled. That it was there, its times and the checksum of what it was stay in the journal, whose
    chain stays whole; `trishula why ID` says who had it deleted. A linked node that is away deletes its copy when it is
    back. Copies outside of the nodes (backups, exports with --bodies, what its recipient kept) stay.

    \b
    Examples:
      trishula audit redact 7d1f0c.1 --reason "a customer's name was in it"
    """
    with state.bus() as bus:
        options = {"reason": reason} | ({} if sender is None else {"from": sender})
        told = ask_newer(bus, uris.AUDIT_REDACT, message_id, options)
    if told["already"] and not told["redacted"]:
        said = (
            f"the payload of {plain(message_id)} is redacted already, since {local_time(told['at'])}, by "
            f"{plain(told['by'])} because: {plain(told['reason'])}"
        )
    elif told["redacted"]:
        said = f"the payload of {plain(message_id)} is deleted; linked nodes delete theirs when they copy that"
    else:
        said = (
            f"this node had no payload of {plain(message_id)} any more; linked nodes delete theirs when they copy that"
        )
    state.show(told, lambda: said)
