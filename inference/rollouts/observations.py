"""Keeping how requests end that are part of a rollout."""

from __future__ import annotations

import logging
from uuid import UUID

from django.db import DatabaseError

from inference.rollouts import metrics
from inference.rollouts.models import Arm, Observation
from tenants.database import in_database

logger = logging.getLogger(__name__)


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
    except DatabaseError:
        logger.warning("how a request of rollout %s ended could not be kept", rollout_id)
