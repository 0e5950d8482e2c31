"""Cells of a notebook: each is run by itself, in a loop that runs all the time."""

# %% Join. A notebook has no "async with" around all its cells, so it says start and, in the last cell, stop.
from pathlib import Path

import trishula

bus = trishula.AsyncClient()
await bus.start()
print("joined as", bus.address.agent)

# %% Ask.
total = await bus.call("agni", "add", 2, b=3)
print(total)

# %% Send. The message is on the node's disk when the cell is through.
receipt = await bus.send("agni", payload={"cell": 3})
print(receipt.status)

# %% Be an agent in the notebook. Handlers run between the cells and while they wait.
agent = trishula.Agent("notebook", token=Path("notebook.token").read_text().strip())
heard: list[object] = []


@agent.on("STATUS")
async def note(message: trishula.Message) -> None:
    heard.append(message.payload)


await agent.start()

# %% What others have sent meanwhile.
await bus.send("notebook", payload="from another cell")

# %%
print(heard)

# %% Leave.
await agent.stop()
await bus.stop()
