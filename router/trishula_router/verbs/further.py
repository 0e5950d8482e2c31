"""The procedures that have modules of their own, one for each noun."""

from __future__ import annotations

from trishula_router.verbs.attachments import AttachmentVerbs
from trishula_router.verbs.canaries import CanaryVerbs
from trishula_router.verbs.evidence import EvidenceVerbs
from trishula_router.verbs.fallback import FallbackVerbs
from trishula_router.verbs.leases import LeaseVerbs
from trishula_router.verbs.loops import LoopVerbs
from trishula_router.verbs.message_search import MessageSearchVerbs
from trishula_router.verbs.node_questions import NodeQuestions
from trishula_router.verbs.surfacing import SurfacingVerbs
from trishula_router.verbs.threads import ThreadVerbs
from trishula_router.verbs.turns import TurnVerbs

__all__ = ["FURTHER"]

FURTHER = (
    NodeQuestions,
    FallbackVerbs,
    EvidenceVerbs,
    SurfacingVerbs,
    LoopVerbs,
    CanaryVerbs,
    LeaseVerbs,
    ThreadVerbs,
    MessageSearchVerbs,
    TurnVerbs,
    AttachmentVerbs,
)
