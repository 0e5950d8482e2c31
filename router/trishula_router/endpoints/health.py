"""``/health``: the router worker turns. That it answers is the whole news; whether it can serve is ``/ready``."""

from __future__ import annotations

from typing import Any

from trishula_router.endpoints.page import Answer, Page

__all__ = ["HealthPage"]


class HealthPage(Page):
    """200 and a tiny map, for as long as the event loop of the worker comes around to answer."""

    def answer(self, request: Any) -> Answer:
        """The same for everybody."""
        return Answer(b'{"alive": true}\n')
