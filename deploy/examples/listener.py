"""An agent that listens to another agent's topic."""

from trishula import Agent

agent = Agent("dc")


@agent.subscribe("celsius", of="thermometer")
def heard(celsius: float, room: str) -> None:
    print(f"{room}: {'warm' if celsius > 0 else 'cold'}", flush=True)
