"""A web application on the bus: FastAPI owns the loop. Start it with ``uvicorn web_app:app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from trishula import Agent, Message

agent = Agent("dc")  # TRISHULA_URL and TRISHULA_TOKEN say where the bus is
heard: list[Any] = []


@agent.on("STATUS")
async def note(message: Message) -> None:
    heard.append(message.payload)


@asynccontextmanager
async def on_the_bus(app: FastAPI) -> AsyncIterator[None]:
    async with agent:
        yield


app = FastAPI(lifespan=on_the_bus)
app.get("/")(lambda: heard)


@app.post("/send/{to}")
async def send(to: str, payload: dict[str, Any]) -> dict[str, Any]:
    receipt = await agent.send(to, payload=payload)
    return {"id": receipt.id, "status": receipt.status}
