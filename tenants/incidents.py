"""What happens and changes nothing, and what somebody will want to know of, as a key that was refused.

The audit lies above this package, so it registers itself as the place where these go too (as in tenants.changes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from tenants.actors import Actor
    from tenants.changes import Sink

_sink: Sink | None = None


def register(sink: Sink) -> None:
    """Where incidents are recorded from now on."""
    global _sink
    _sink = sink


def record_incident(actor: Actor, kind: str, *, subject_id: UUID, detail: dict[str, Any]) -> None:
    """Record that `kind` ("key.refused") happened. Inside the tenant's scope; raises when it cannot be recorded."""
    if _sink is None:
        raise RuntimeError("no audit is there to record what happens")
    _sink(actor=actor, kind=kind, subject_id=subject_id, client_address=actor.address, detail=detail)
