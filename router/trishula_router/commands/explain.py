"""``trishula node check --explain AGENT``: what an agent may do, by which line of the file of agents, and what not.

What it may not is asked of the policy that a node asks, and shown with the sentence that the agent would read.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import msgspec

from trishula.contract import uris
from trishula.contract.addresses import BROADCAST
from trishula.contract.message import Message
from trishula.errors import TrishulaError
from trishula.exit_codes import Exit
from trishula_router.agents.authorizer import OBSERVERS_ASK, Authorizer
from trishula_router.agents.file import AgentsFileError
from trishula_router.agents.grants import ACTS
from trishula_router.agents.principals import Principal, Principals
from trishula_router.agents.serving import Serving
from trishula_router.agents.text import ANYBODY, AgentEntry
from trishula_router.commands.state_dir import CommandFailed, agents_file_of, check_agents_file
from trishula_router.commands.token_words import no_agent, shown_here
from trishula_router.mail.recipients import Recipients
from trishula_router.store.json_text import lines_of

__all__ = ["explain"]

_WIDTH = 80
#: Stands for a procedure, topic or capability that no grant names.
_SOME = "some_name"
_EVERYBODY = {
    "send": "everybody, and broadcasts",
    "call": "every live procedure of everybody",
    "serve": "every capability",
    "subscribe": "every topic of everybody",
}


class Grant(msgspec.Struct, frozen=True):
    """One grant.

    Attributes:
        act: what may be done.
        grant: with whom.
        line: of the file; ``None``: the file says nothing, and this is so without a word.
        until: when it ends, seconds since the epoch; ``None``: never.
        reason: why it was given.
        is_over: whether its end has come.
    """

    act: str
    grant: str
    line: int | None = None
    until: float | None = None
    reason: str | None = None
    is_over: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """What an agent may not: the act, with whom, and the sentence that it reads of the first of them."""

    act: str
    of: list[str]
    sentence: str


def explain(state_dir: Path, name: str, *, as_json: bool) -> None:
    """Say what the agent of that name may do.

    Raises:
        CommandFailed: there is no such agent, or its file can't be used.
    """
    path = agents_file_of(state_dir)
    now_s = time.time()
    try:
        check_agents_file(state_dir, path)
        principals = Principals(path)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    principals.heed_time(now_s)
    principal, record = principals.get(name), principals.records.get(name)
    if principal is None or record is None:
        raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
    lines = lines_of(path.read_text(encoding="utf-8-sig"))
    grants = [] if principal.only_looks else list(_grants(name, record, lines, now_s))
    refusals = list(_refusals(principals, principal))
    role = "operator" if record.operator else "observer" if record.observer else "agent"
    if as_json:
        told = {
            "grants": [msgspec.structs.asdict(one) for one in grants],
            "refused": [msgspec.structs.asdict(one) for one in refusals],
        }
        click.echo(json.dumps({"agent": name, "agents_file": str(path), "role": role, **told}))
        return
    _say(f"{name} is an {role}, by line {lines.get(('agents', name))} of {path}", "")
    if principal.only_looks:
        asked = ", ".join(sorted(uri.removeprefix("trishula.") for uri in OBSERVERS_ASK))
        _say(f"It may ask {asked}, and hear the events: how all stands, and no payload.", "")
    for one in grants:
        _say(_words_of(one), "  ")
    if not principal.only_looks:
        _say("It may also, as every agent: write to itself, call and hear its own names, publish under them.", "")
    if refusals:
        click.echo("Refused:")
    for refusal in refusals:
        _say(f"{refusal.act} {', '.join(refusal.of)}", "  ")
        _say(refusal.sentence, "      ")


def _grants(name: str, record: AgentEntry, lines: Mapping[tuple[str | int, ...], int], now_s: float) -> Iterator[Grant]:
    for act in ACTS:
        # In the order of the file, which may mix both kinds.
        listed = [at for at in lines if at[:3] == ("agents", name, act) and len(at) == 4]
        timed_at = [at for at in listed if (*at, "grant") in lines]
        lasting_at = [at for at in listed if at not in timed_at]
        places = dict(zip(record.lasting(act), (lines[at] for at in lasting_at), strict=False))
        if act == "serve" and record.serve is None:
            yield Grant(act, "what no other agent is granted")
        for grant in record.lasting(act):
            yield Grant(act, grant, places.get(grant))
        for one, at in zip((one for one in record.timed if one.act == act), timed_at, strict=False):
            yield Grant(act, one.grant, lines[at], one.until, one.reason, one.is_over(now_s))


def _words_of(one: Grant) -> str:
    what = _EVERYBODY[one.act] if one.grant == ANYBODY else one.grant
    end = "" if one.until is None else f" until {shown_here(one.until)}{' (over)' if one.is_over else ''}"
    reason = "" if one.reason is None else f": {one.reason}"
    place = "the file says nothing else" if one.line is None else f"line {one.line}"
    return f"{one.act:<10}{what}{end}{reason}  ({place})"


def _refusals(principals: Principals, principal: Principal) -> Iterator[Refusal]:
    """What it may not, of what it might try with each agent of the file."""
    name = principal.name
    others = [one for one in principals.names() if one != name]
    recipients = Recipients(principals, lambda address: True, lambda address: None)
    authorizer = Authorizer(principals)
    serving = Serving(principals, now_s=lambda: 0.0, refused=lambda *_: None)

    def sent(to: str) -> str | None:
        message = Message(type="STATUS", id="some-id", sender=name, to=to, timestamp=0, payload=None)
        try:
            recipients.find(name, message, 0)
        except TrishulaError as error:
            return error.sentence
        return None

    def asked(uri: str, action: str) -> str | None:
        session = {"authid": name, "authrole": principal.role}
        denial = authorizer.decide(session, uri, action, {})
        return None if denial is None else f"{denial.action} {denial.uri}: {denial.reason}"

    def served(capability: str) -> str | None:
        try:
            serving.check(name, [capability])
        except TrishulaError as error:
            return error.sentence
        return None

    if principal.only_looks:
        refused = asked(uris.MAILBOX_SEND, "call")
        if refused is not None:
            yield Refusal("anything else", ["of the bus"], refused)
        return
    tried = {
        "send": {to: sent(to) for to in (*others, BROADCAST)},
        "call": {f"{one}.{_SOME}": asked(uris.procedure_of(one, _SOME), "call") for one in others},
        "serve": {_SOME: served(_SOME)},
        "subscribe": {f"{one}.{_SOME}": asked(uris.topic_of(one, _SOME), "subscribe") for one in others},
        "ask of the node, as an operator": {"node.status": asked(uris.NODE_STATUS, "call")},
    }
    for act, answers in tried.items():
        # What is refused for one reason is told in one.
        alike: dict[str, Refusal] = {}
        for what, sentence in answers.items():
            if sentence is not None:
                alike.setdefault(sentence.replace(what, "…"), Refusal(act, [], sentence)).of.append(what)
        yield from alike.values()


def _say(text: str, indent: str) -> None:
    further = f"{indent}    "
    # Nothing that is to be copied, such as a path, is torn apart.
    told = textwrap.TextWrapper(
        _WIDTH, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False, break_long_words=False
    )
    click.echo(told.fill(text))
