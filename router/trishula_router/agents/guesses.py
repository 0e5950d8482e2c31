"""Wrong tokens: who sends them waits longer and longer, and whoever has the right one does not wait for them.

A token has 160 random bits and is not guessed at any rate; but whoever tries costs the node time, and may have a
thousand old secrets from somewhere. So wrong ones are counted, for each IP address (:mod:`trishula_router.client_ips`)
and for each *name* that came from it:

- **A name from an address.** :data:`_FREE` wrong tokens are answered as such. After each one more nothing is looked at
  that comes for that name from that address, for 1 s, 2 s, 4 s, … up to :data:`_LONGEST_S`, three a minute.
- **An address.** After :data:`_FREE_OF_ALL` wrong ones for whatever names nobody there learns for such a time whether a
  token is wrong. The right one is let in.

So an agent that has its token never waits for what others send under its name from elsewhere, nor for what is sent
under other names from its own address, such as a NAT's. Where both are the same, as on one machine, it waits
:data:`_LONGEST_S` at most, unless it got in from there with that very token before: those tokens are known. A delay for
a name wherever it comes from was rejected: with it anybody could lock out any agent.

For names of nobody the same is counted and said, so that they can't be told from others. All that is bounded: so many
names of an address, so many addresses and names in all, of which those are forgotten first that were quiet for longest.

Policy only; instants are seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["Guesses"]

#: So many wrong tokens cost nothing: somebody pastes an old one, and then another.
_FREE = 3
_FREE_OF_ALL = 20
_FIRST_S, _LONGEST_S = 1.0, 20.0
#: After so long without a wrong token all is forgotten.
_FORGET_S = 900.0
#: Names of nobody that are counted for one address; names of agents are counted beside them.
_NAMES = 32
#: Addresses and names in all, and tokens that are known.
_MOST = 20_000


@dataclass(slots=True)
class _Count:
    wrong: int = 0
    last_s: float = 0.0
    until_s: float = 0.0

    def add(self, now_s: float, free: int) -> None:
        if now_s - self.last_s > _FORGET_S:
            self.wrong = 0
        self.wrong, self.last_s = self.wrong + 1, now_s
        if self.wrong >= free:
            self.until_s = now_s + min(_FIRST_S * 2.0 ** min(self.wrong - free, 30), _LONGEST_S)

    def wait_s(self, now_s: float) -> float:
        return max(0.0, self.until_s - now_s)


@dataclass(slots=True)
class _Source:
    all: _Count = field(default_factory=_Count)
    names: dict[str, _Count] = field(default_factory=dict)


class Guesses:
    """What wrong tokens came lately, from where and for whom."""

    def __init__(self) -> None:
        # The one first that was quiet for longest.
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._counted = 0
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    def wait_s(self, client_ip: str, name: str, digest: str | None, now_s: float) -> float:
        """How long nothing is looked at that comes for a name from an address; 0 if it is.

        Args:
            client_ip: where it comes from.
            name: who it says it is.
            digest: of the token that it brings, if it brings one.
            now_s: the clock.
        """
        there = self._sources.get(client_ip)
        count = None if there is None else there.names.get(name)
        if count is None or (digest is not None and self._known.get((client_ip, name)) == digest):
            return 0.0
        return count.wait_s(now_s)

    def wrong(self, client_ip: str, name: str, now_s: float, *, is_agent: bool) -> float:
        """A token was looked at, and is wrong.

        Args:
            client_ip: where it came from.
            name: who it says it is.
            now_s: the clock.
            is_agent: whether there is somebody of that name.

        Returns:
            How long nobody at that address is to learn that a token is wrong, this one included; 0 if it may be told.
        """
        there = self._sources.get(client_ip)
        if there is None:
            there = self._sources[client_ip] = _Source()
            self._counted += 1
        self._sources.move_to_end(client_ip)
        wait_s = there.all.wait_s(now_s)
        there.all.add(now_s, _FREE_OF_ALL)
        count = there.names.get(name)
        if count is None and (is_agent or len(there.names) < _NAMES):
            count = there.names[name] = _Count()
            self._counted += 1
        if count is not None:
            count.add(now_s, _FREE)
        self._forget()
        return wait_s

    def right(self, client_ip: str, name: str, digest: str) -> None:
        """An agent got in with a token."""
        self._known[(client_ip, name)] = digest
        self._known.move_to_end((client_ip, name))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        there = self._sources.get(client_ip)
        if there is not None and there.names.pop(name, None) is not None:
            self._counted -= 1

    def _forget(self) -> None:
        while self._counted > _MOST:
            _, there = self._sources.popitem(last=False)
            self._counted -= 1 + len(there.names)
