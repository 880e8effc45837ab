"""Keeping how requests end that are part of a rollout."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import UUID

from django import db

from inference.rollouts import metrics
from inference.rollouts.models import Arm, Observation
from tenants.database import in_database

if TYPE_CHECKING:
    from inference.generation.run import Ending, Order

logger = logging.getLogger(__name__)


# These end an answer for reasons that lie here, not with whoever was asked.
_OURS = ("audit_lost", "audit_not_closed", "stream_unavailable", "shutting_down")


async def note_ending(order: Order, ending: Ending) -> None:
    """Keep how a request ended that was part of a rollout, where that says something of who answered.

    A person who stops or leaves says nothing, nor does a request that is refused for what it asks. A full waiting line is
    a failure, except to a copy, which stands behind everybody else.
    """
    resolved = order.resolved
    if resolved.rollout_id is None:
        return
    is_full = ending.error_code == "inference_busy" and not order.is_shadow
    failed = is_full or ending.status in ("failed", "interrupted", "timed_out")
    if ending.error_code in _OURS or not (failed or ending.status == "completed"):
        return
    timings = ending.timings
    await note(
        resolved.rollout_id,
        Arm.BASELINE if resolved.arm == Arm.BASELINE else Arm.CANDIDATE,
        failed=failed,
        error_code=ending.error_code,
        ttft_ms=timings.ttft_ms,
        itl_ms=timings.itl_p50_ms,
    )


async def note(
    rollout_id: UUID,
    arm: str,
    *,
    failed: bool,
    error_code: str = "",
    ttft_ms: float | None = None,
    itl_ms: float | None = None,
) -> None:
    """Keep one. What cannot be kept is left out: nobody's answer depends on it."""
    metrics.observations.labels(arm, "failed" if failed else "ok").inc()
    try:
        await in_database(
            Observation.objects.create,
            rollout_id=rollout_id,
            arm=Arm(arm),
            failed=failed,
            error_code=error_code[:60],
            ttft_ms=ttft_ms,
            itl_ms=itl_ms,
        )
    except db.Error:
        logger.warning("how a request of rollout %s ended could not be kept", rollout_id)
