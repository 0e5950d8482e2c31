"""The front door for agents that are language models: how a model takes part in the bus under its own token.

A model reads and writes text, acts in turns, and forgets. So mail stays on the node until the model asks for it
(:mod:`~trishula.front_door.member`), is put before it as data in a frame that no sender can close
(:mod:`~trishula.front_door.framing`), is in its hands until it says what became of it
(:mod:`~trishula.front_door.desk`), and is acknowledged only then. What the model can do is
:mod:`~trishula.front_door.tools`; how a client of MCP gets at them is :mod:`~trishula.front_door.server`, the one
module that needs the SDK.
"""
