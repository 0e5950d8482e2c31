"""What the file of agents says: its text to records and back, and every fault of it with its key path. No I/O.

JSON lets pass what can't be meant, and none of that may hold: a key that stands twice (the last one would win in
silence), NaN, instants that no calendar has, such as milliseconds where seconds belong.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from trishula.contract.addresses import AGENT_RULE, BROADCAST, CAPABILITY_RULE, Address, is_agent_name, is_capability
from trishula.contract.signing_key import is_sound_key
from trishula.contract.texts import LINE_RULE, is_line
from trishula_router.agents.grants import ACTS, ANYBODY, TimedGrant
from trishula_router.agents.procedure_names import is_procedure_name, is_topic_name
from trishula_router.agents.tokens import TokenEntry, key_entry
from trishula_router.settings.faults import MISSING, TWICE, WHOLE, ConfigError, Fault
from trishula_router.store.json_text import keys_twice

__all__ = ["ANYBODY", "AgentEntry", "grant_rule", "is_servable", "parse_agents", "render_agents"]

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
#: The year 10000, in seconds since the epoch: no calendar of Python's goes further.
_END_OF_TIME_S = 253_402_300_800


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """One agent, as the file has it.

    Attributes:
        operator: whether it may ask about everybody's messages, and administer the node.
        send: to whom it may send.
        call: whose procedures it may call.
        serve: which capabilities it may announce; ``None`` if the record says nothing of it, because it was written by
            an earlier release: then those that no other record names.
        tokens: what it may join with, tokens and keys.
        observer: whether it may ask how everybody's messages stand, and see none of them.
        subscribe: whose topics it may hear.
        timed: those of its grants that end or have a reason, of every act.
    """

    operator: bool = False
    send: tuple[str, ...] = (ANYBODY,)
    call: tuple[str, ...] = (ANYBODY,)
    tokens: tuple[TokenEntry, ...] = ()
    serve: tuple[str, ...] | None = None
    observer: bool = False
    subscribe: tuple[str, ...] = (ANYBODY,)
    timed: tuple[TimedGrant, ...] = ()

    def lasting(self, act: str) -> tuple[str, ...]:
        """The grants for an act that neither end nor have a reason."""
        return {"send": self.send, "call": self.call, "serve": self.serve or (), "subscribe": self.subscribe}[act]


def render_agents(agents: Mapping[str, AgentEntry]) -> str:
    """The file's text: sorted and indented, because people read and edit it."""
    raw = {
        "agents": {
            name: {
                "operator": record.operator,
                # Left out where it says nothing: a node of an earlier release refuses keys that it doesn't know.
                **({"observer": True} if record.observer else {}),
                "send": _show_grants(record, "send"),
                "call": _show_grants(record, "call"),
                **({} if record.serve is None else {"serve": _show_grants(record, "serve")}),
                **({} if (heard := _show_grants(record, "subscribe")) == [ANYBODY] else {"subscribe": heard}),
                "tokens": [
                    {
                        **({"sha256": token.sha256} if token.ed25519 is None else {"ed25519": token.ed25519}),
                        "created_at": _show_instant(token.created_at),
                        "not_before": _show_instant(token.not_before),
                        "expires_at": _show_instant(token.expires_at),
                    }
                    for token in record.tokens
                ],
            }
            for name, record in sorted(agents.items())
        }
    }
    return json.dumps(raw, indent=2) + "\n"


def _show_grants(record: AgentEntry, act: str) -> list[object]:
    timed = [
        {"grant": one.grant, "until": _show_instant(one.until), "reason": one.reason}
        for one in record.timed
        if one.act == act
    ]
    return [*record.lasting(act), *timed]


def _show_instant(instant_s: float | None) -> str | None:
    if instant_s is None:
        return None
    return datetime.fromtimestamp(instant_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_agents(raw: object) -> dict[str, AgentEntry]:
    """Check what the file says.

    Raises:
        ConfigError: with every fault.
    """
    faults = [Fault(at, WHOLE, TWICE) for at in keys_twice(raw)]
    top = _Map(raw, "the file", "", faults)
    listed = _Map(top.take("agents", MISSING), "agents", "agents", faults)
    top.close()
    agents: dict[str, AgentEntry] = {}
    for name in listed.names():
        if not is_agent_name(name):
            faults.append(Fault("agents", name, f"it is no agent's name: that is {AGENT_RULE}"))
            continue
        agents[name] = _parse_agent(listed.take(name, {}), f"agents.{name}", faults)
    faults += _shared_keys(agents)
    if faults:
        raise ConfigError(tuple(faults))
    return agents


def _shared_keys(agents: Mapping[str, AgentEntry]) -> Iterator[Fault]:
    """A key says who somebody is, so it is one agent's, and stands there once."""
    seen: dict[str, str] = {}
    for name, record in agents.items():
        for index, token in enumerate(record.tokens):
            at = f"agents.{name}.tokens[{index}].ed25519"
            if token.ed25519 is not None and seen.setdefault(token.ed25519, at) != at:
                yield Fault(at, token.ed25519, f"it must be another key than {seen[token.ed25519]}")


class _Map:
    """One map of the file; notices the keys that nobody asked for."""

    def __init__(self, raw: object, shown: str, path: str, faults: list[Fault]) -> None:
        if not isinstance(raw, Mapping):
            faults.append(Fault(shown, raw, "it must be a map"))
            raw = {}
        self._raw: Mapping[str, object] = raw
        self._prefix = f"{path}." if path else ""
        self._faults = faults
        self._known: list[str] = []

    def names(self) -> tuple[str, ...]:
        return tuple(self._raw)

    def take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._raw.get(key, default)

    def close(self) -> None:
        for key, value in self._raw.items():
            if key not in self._known:
                known = ", ".join(self._known)
                self._faults.append(
                    Fault(self._prefix + key, value, f"it is an unknown key; the known keys are {known}")
                )


def _parse_agent(raw: object, path: str, faults: list[Fault]) -> AgentEntry:
    entry = _Map(raw, path, path, faults)
    operator = entry.take("operator", False)
    if not isinstance(operator, bool):
        faults.append(Fault(f"{path}.operator", operator, "it must be true or false"))
    observer = entry.take("observer", False)
    if not isinstance(observer, bool):
        faults.append(Fault(f"{path}.observer", observer, "it must be true or false"))
    lasting: dict[str, tuple[str, ...] | None] = {}
    timed: list[TimedGrant] = []
    for act in ACTS:
        said = entry.take(act, MISSING if act == "serve" else [ANYBODY])
        lasting[act] = None if said is MISSING else _parse_grants(said, f"{path}.{act}", act, timed, faults)
    listed = entry.take("tokens", [])
    if not isinstance(listed, list):
        faults.append(Fault(f"{path}.tokens", listed, "it must be a list of tokens"))
        listed = []
    tokens = [_parse_token(item, f"{path}.tokens[{index}]", faults) for index, item in enumerate(listed)]
    entry.close()
    return AgentEntry(
        operator is True,
        lasting["send"] or (),
        lasting["call"] or (),
        tuple(tokens),
        lasting["serve"],
        observer is True,
        lasting["subscribe"] or (),
        tuple(timed),
    )


def _parse_grants(raw: object, path: str, act: str, timed: list[TimedGrant], faults: list[Fault]) -> tuple[str, ...]:
    if not isinstance(raw, list):
        faults.append(Fault(path, raw, 'it must be a list of grants, such as ["*"]'))
        return ()
    grants: list[str] = []
    for index, item in enumerate(raw):
        if isinstance(item, Mapping):
            timed.append(_parse_timed(item, f"{path}[{index}]", act, faults))
        elif (rule := grant_rule(act, item)) is None:
            grants.append(str(item))
        else:
            faults.append(Fault(f"{path}[{index}]", item, f"it must be {rule}"))
    return tuple(grants)


def _parse_timed(raw: Mapping[str, object], path: str, act: str, faults: list[Fault]) -> TimedGrant:
    entry = _Map(raw, path, path, faults)
    grant, reason = entry.take("grant", MISSING), entry.take("reason", None)
    if (rule := grant_rule(act, grant)) is not None:
        faults.append(Fault(f"{path}.grant", grant, f"it must be {rule}"))
    until = _parse_instant(entry.take("until", None), f"{path}.until", faults)
    if reason is not None and (not isinstance(reason, str) or not reason or not is_line(reason)):
        faults.append(Fault(f"{path}.reason", reason, f"it must be a text, {LINE_RULE}, or null"))
    entry.close()
    return TimedGrant(act, str(grant), until, str(reason) if reason else None)


def grant_rule(act: str, grant: object) -> str | None:
    """What a grant for an act must be, if it is not; ``None`` if it is."""
    is_one, rule = _RULES[act]
    return None if isinstance(grant, str) and is_one(grant) else rule


def _is_recipient(grant: str) -> bool:
    if grant in (ANYBODY, BROADCAST) or is_agent_name(grant):
        return True
    return is_capability(grant) and is_servable(grant.partition(":")[2])


def is_servable(grant: str) -> bool:
    """Whether a text can be the grant to announce a capability, or all."""
    if grant == ANYBODY:
        return True
    try:
        return Address.parse(f"capability:{grant}").capability == grant
    except ValueError:
        return False


def _is_callable(grant: str) -> bool:
    agent, dot, procedure = grant.partition(".")
    return grant == ANYBODY or (is_agent_name(agent) and (not dot or is_procedure_name(procedure)))


def _is_topic(grant: str) -> bool:
    agent, dot, topic = grant.partition(".")
    return grant == ANYBODY or (is_agent_name(agent) and (not dot or is_topic_name(topic)))


#: Of each act what can be granted, and the rule in words.
_RULES: dict[str, tuple[Callable[[str], bool], str]] = {
    "send": (_is_recipient, '"*", "broadcast", an agent or "capability:" and a name'),
    "call": (_is_callable, '"*", an agent or agent.procedure'),
    "serve": (is_servable, f'"*" or the name of a capability: {CAPABILITY_RULE}'),
    "subscribe": (_is_topic, '"*", an agent or agent.topic'),
}


def _parse_token(raw: object, path: str, faults: list[Fault]) -> TokenEntry:
    entry = _Map(raw, path, path, faults)
    sha256, public_key = entry.take("sha256", MISSING), entry.take("ed25519", MISSING)
    if public_key is not MISSING and sha256 is not MISSING:
        faults.append(Fault(f"{path}.ed25519", WHOLE, "it must go, or sha256 must: an entry is a key or a token"))
    elif public_key is not MISSING and not is_sound_key(public_key):
        # Not shown: it might be the private one.
        rule = "it must be a public key, 64 hexadecimal digits in lower case, as `trishula token key` prints it"
        faults.append(Fault(f"{path}.ed25519", "…", rule))
    elif public_key is MISSING and (not isinstance(sha256, str) or _SHA256.match(sha256) is None):
        # The value is not shown: it might be a token that somebody pasted where its hash belongs.
        faults.append(
            Fault(f"{path}.sha256", MISSING if sha256 is MISSING else "…", "it must be 64 hexadecimal digits")
        )
    created_at = _parse_instant(entry.take("created_at", 0), f"{path}.created_at", faults) or 0.0
    not_before = _parse_instant(entry.take("not_before", None), f"{path}.not_before", faults)
    expires_at = _parse_instant(entry.take("expires_at", None), f"{path}.expires_at", faults)
    entry.close()
    if is_sound_key(public_key):
        return key_entry(str(public_key), created_at, not_before, expires_at)
    return TokenEntry(str(sha256), created_at, not_before, expires_at)


def _parse_instant(raw: object, path: str, faults: list[Fault]) -> float | None:
    if raw is None:
        return None
    instant_s: float | None = None
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        # Compared before it becomes a float, which not every whole number can.
        instant_s = float(raw) if abs(raw) < 1000 * _END_OF_TIME_S else math.inf
    elif isinstance(raw, str):
        # An instant of the year 1 with an offset may lie before all time.
        with contextlib.suppress(ValueError, OverflowError):
            instant = datetime.fromisoformat(raw)
            # Without an offset it would mean another instant on each machine.
            if instant.tzinfo is not None:
                instant_s = instant.timestamp()
    if instant_s is not None and 0 <= instant_s < _END_OF_TIME_S:
        return instant_s
    rule = (
        'it must be an instant such as "2026-02-10T00:02:00Z", seconds since the epoch before the year 10000, or null'
    )
    if instant_s is not None and _END_OF_TIME_S <= instant_s < math.inf:
        rule = f"it must be in seconds since the epoch, and this looks like milliseconds: {int(instant_s // 1000)}"
    faults.append(Fault(path, raw, rule))
    return None
