"""What a model says to a tool: arguments that several tools have, with the note that the model reads of each."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

__all__ = ["LONGEST_WAIT_S", "Data", "FromAgent", "MessageId", "OwnId", "Priority", "Text"]

#: What clients wait for a tool without asking their user.
LONGEST_WAIT_S = 110.0

MessageId = Annotated[str, Meta(description="The message's id.")]
FromAgent = Annotated[str | None, Meta(description="Its sender, if several senders use that id.")]
Text = Annotated[str | None, Meta(description="What to say, as text.")]
Data = Annotated[Any, Meta(description="What to say as a JSON value, in place of text.")]
Priority = Annotated[int, Meta(description="1 (most urgent) to 5.", ge=1, le=5)]
OwnId = Annotated[str | None, Meta(description="An id of your own; the same one again is the same message.")]
