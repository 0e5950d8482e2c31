"""An agent that calls another one like it when it is told to, for ``test_skew.py``; a program, not a test.

``TALKER`` is its name. It uses no more of :mod:`trishula` than the earlier release had, for it runs under that one too.
"""

from __future__ import annotations

import asyncio
import os

from trishula import Agent

agent = Agent(os.environ["TALKER"], state=False)
ran: list[int] = []


@agent.procedure()
async def double(number: int) -> int:
    ran.append(number)
    return 2 * number


@agent.procedure()
async def talk(other: str, count: int) -> list[int]:
    """Call the other one, all at once; its answers in order."""
    calls = [agent.call(other, "double", number, timeout=60.0) for number in range(count)]
    answers: list[int] = await asyncio.gather(*calls)
    return answers


@agent.procedure()
async def all_that_ran() -> list[int]:
    return sorted(ran)


@agent.procedure()
async def home() -> str:
    """Where the trishula lies that this runs under."""
    import trishula

    return str(trishula.__file__)


if __name__ == "__main__":
    agent.run()
