"""What a wake starts in ``test_waking.py``: a model that does what its line says, played by the official SDK's client.

It runs in the environment of that SDK.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters


async def main() -> None:
    told = re.search(r"Call the tool (\w+) of the server trishula\.", os.environ["TRISHULA_WAKE_TEXT"])
    assert told is not None, "the wake names no tool"
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "trishula.cli.main", "mcp"], env=dict(os.environ)
    )
    async with Client(server) as client:
        result = await client.call_tool(told[1], {})
    sys.stderr.write("\n".join(getattr(block, "text", "") for block in result.content))


if __name__ == "__main__":
    asyncio.run(main())
