"""What Custos does with open rollouts by itself. Called every second by whoever looks after deployments."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from inference.deployments.selectors import endpoints_of
from inference.registry.operators import Operator
from inference.rollouts import services
from inference.rollouts.models import Arm, Observation, Rollout, State
from inference.rollouts.selectors import (
    FIRST,
    SLOW_FACTOR,
    SLOW_QUANTILE,
    failed_in_a_row,
    open_rollouts,
    quantile,
    standing_of,
)
from tenants import clock
from tenants.errors import Refused

logger = logging.getLogger(__name__)

CUSTOS = Operator(label="Custos")
# Observations are of use while somebody may want to know why.
KEPT = timedelta(days=30)
# A candidate that restarts is not gone at once.
GONE_AFTER = timedelta(seconds=10)

_missed: dict[UUID, datetime] = {}  # Since when a candidate has had no instance that is ready.


def tick() -> None:
    """Take every open rollout as far as it can be taken now."""
    for rollout in open_rollouts():
        try:
            _decide(rollout)
        except Refused as refused:
            logger.warning("rollout %s stays as it is: %s", rollout.pk, refused.message)


def prune() -> None:
    """Let go of observations of rollouts that ended long ago."""
    Observation.objects.filter(rollout__ended__lt=clock.now() - KEPT).delete()


def _decide(rollout: Rollout) -> None:
    if failed_in_a_row(rollout):
        return _back(rollout, "in_a_row")
    if _is_gone(rollout):
        return _back(rollout, "gone")
    if rollout.limits_after is None:
        _set_limits(rollout)
    standing = standing_of(rollout)
    for name, comparison in standing.comparisons.items():
        if comparison.is_worse:
            return _back(rollout, name)
    proven = len(standing.comparisons) == 3 and all(
        each.is_no_worse for each in standing.comparisons.values()
    )
    if (
        rollout.state == State.SHARE
        and rollout.promotes_itself
        and proven
        and standing.candidate.requests >= rollout.least
    ):
        services.promote(by=CUSTOS, rollout_id=rollout.pk, reason="no_worse", is_automatic=True)
    elif clock.now() - rollout.began > timedelta(hours=rollout.longest_hours):
        services.give_up(by=CUSTOS, rollout_id=rollout.pk, reason="time")


def _back(rollout: Rollout, reason: str) -> None:
    logger.warning("rollout %s is rolled back: %s", rollout.pk, reason)
    services.roll_back(by=CUSTOS, rollout_id=rollout.pk, reason=reason, is_automatic=True)


def _is_gone(rollout: Rollout) -> bool:
    if any(endpoint.is_ready for endpoint in endpoints_of(rollout.candidate)):
        _missed.pop(rollout.pk, None)
        return False
    since = _missed.setdefault(rollout.pk, clock.now())
    return clock.now() - since >= GONE_AFTER


def _set_limits(rollout: Rollout) -> None:
    """What slow is, once there is enough of the baseline: fixed before what is compared by it."""
    observed = Observation.objects.filter(rollout=rollout, arm=Arm.BASELINE, ttft_ms__isnull=False)
    if rollout.shared is not None:
        observed = observed.filter(at__gte=rollout.shared)
    first = list(observed.order_by("pk").values_list("pk", "ttft_ms", "itl_ms")[:FIRST])
    if len(first) < FIRST:
        return
    starts = [ttft for _pk, ttft, _itl in first if ttft is not None]
    gaps = [itl for _pk, _ttft, itl in first if itl is not None]
    rollout.slow_ttft_ms = quantile(starts, SLOW_QUANTILE) * SLOW_FACTOR
    rollout.slow_itl_ms = quantile(gaps, SLOW_QUANTILE) * SLOW_FACTOR if gaps else None
    rollout.limits_after = first[-1][0]
    rollout.save(update_fields=["slow_ttft_ms", "slow_itl_ms", "limits_after"])
