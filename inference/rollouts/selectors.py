"""Reading rollouts: who answers a request, and how the two compare so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from threading import Lock
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from inference.registry.models import Deployment
from inference.rollouts.models import OPEN, Arm, Observation, Rollout, RolloutStep, State
from inference.rollouts.sequential import Comparison, Share
from tenants import clock
from tenants.actors import NotVisible

# A rollback is in force everywhere after so long.
REMEMBERED_S = 1.0
CRITERIA = ("errors", "slow_start", "slow_tokens")
# The baseline's observations of which the limits of what is slow are made: their 90th of a hundred, and half as much again.
FIRST = 30
SLOW_QUANTILE, SLOW_FACTOR = 0.9, 1.5
IN_A_ROW = 5
# For so long an alert says that one was rolled back.
ALERTED = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Diverted:
    """Which part of a rollout a request is. deployment: who answers; shadow: who gets a copy besides."""

    rollout_id: UUID
    arm: Arm
    deployment: Deployment
    shadow: Deployment | None = None


class _Open:
    """The open rollouts by their baselines, read again every second."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._until = 0.0
        self._found: dict[UUID, Rollout] = {}

    def get(self, deployment_id: UUID) -> Rollout | None:
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = {rollout.baseline_id: rollout for rollout in open_rollouts()}
                self._until = time.monotonic() + REMEMBERED_S
            return self._found.get(deployment_id)

    def forget(self) -> None:
        with self._lock:
            self._until = 0.0


remembered = _Open()


def divert(deployment_id: UUID, unit: str) -> Diverted | None:
    """What becomes of a request for a deployment; None where it is the baseline of no open rollout.

    unit: whoever is to keep to one side: a conversation, a person, a key.
    """
    rollout = remembered.get(deployment_id)
    if rollout is None:
        return None
    chosen = is_chosen(rollout, unit)
    if rollout.state == State.SHARE and chosen:
        return Diverted(rollout.pk, Arm.CANDIDATE, rollout.candidate)
    shadow = rollout.candidate if rollout.state == State.SHADOW and chosen else None
    return Diverted(rollout.pk, Arm.BASELINE, rollout.baseline, shadow)


def is_chosen(rollout: Rollout, unit: str) -> bool:
    """Stable: a unit that is chosen stays so while the share grows, and other rollouts choose others."""
    number = int.from_bytes(sha256(f"{rollout.pk} {unit}".encode()).digest()[:8], "big")
    return number % 10_000 < rollout.percent * 100


def open_rollouts() -> list[Rollout]:
    return list(_rollouts().filter(state__in=OPEN).order_by("began"))


def rollouts() -> QuerySet[Rollout]:
    """All of them, the newest first."""
    return _rollouts().order_by("-began")


def rollout_by_id(rollout_id: UUID) -> Rollout:
    """Raises NotVisible."""
    found = _rollouts().filter(pk=rollout_id).first()
    if found is None:
        raise NotVisible(str(rollout_id))
    return found


def rolled_back_lately() -> int:
    """How many Custos itself has rolled back in the time that an alert of it lasts."""
    since = clock.now() - ALERTED
    return RolloutStep.objects.filter(state=State.ROLLED_BACK, is_automatic=True, when__gte=since).count()


def ended_by_state() -> dict[str, int]:
    """How many have ended, by how."""
    ended = Rollout.objects.exclude(state__in=OPEN).values_list("state").annotate(Count("pk"))
    return {state.value: 0 for state in State if state not in OPEN} | dict(ended)


# --- Comparing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One arm so far. Medians in ms; None: nothing measured yet."""

    requests: int
    failed: int
    ttft_ms: float | None
    itl_ms: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Both sides, and each criterion that can be compared by now."""

    baseline: Side
    candidate: Side
    comparisons: dict[str, Comparison]

    def told(self) -> dict[str, object]:
        """As steps keep it, ready for JSON."""
        return {
            arm: {
                "requests": side.requests,
                "failed": side.failed,
                "ttft_ms": side.ttft_ms,
                "itl_ms": side.itl_ms,
            }
            for arm, side in (("baseline", self.baseline), ("candidate", self.candidate))
        }


def standing_of(rollout: Rollout) -> Standing:
    observed = Observation.objects.filter(rollout=rollout)
    if rollout.shared is not None:
        # What the shadow showed was of other requests than those that people waited for.
        observed = observed.filter(at__gte=rollout.shared)
    sides = {arm: _side(observed.filter(arm=arm)) for arm in Arm}
    baseline, candidate = sides[Arm.BASELINE], sides[Arm.CANDIDATE]
    alpha = rollout.alpha / len(CRITERIA)
    found = {
        "errors": Comparison(
            Share(baseline.failed, baseline.requests),
            Share(candidate.failed, candidate.requests),
            rollout.error_rise,
            alpha,
        )
    }
    for name, column, limit in (
        ("slow_start", "ttft_ms", rollout.slow_ttft_ms),
        ("slow_tokens", "itl_ms", rollout.slow_itl_ms),
    ):
        if limit is not None:
            after = observed.filter(pk__gt=rollout.limits_after, **{f"{column}__isnull": False})
            found[name] = Comparison(
                _slow(after, Arm.BASELINE, column, limit),
                _slow(after, Arm.CANDIDATE, column, limit),
                rollout.slow_rise,
                alpha,
            )
    return Standing(baseline, candidate, found)


def failed_in_a_row(rollout: Rollout) -> bool:
    """Whether the candidate's last requests all failed, which needs no statistics."""
    observed = Observation.objects.filter(rollout=rollout, arm=Arm.CANDIDATE)
    last = list(observed.order_by("-pk").values_list("failed", flat=True)[:IN_A_ROW])
    return len(last) == IN_A_ROW and all(last)


def quantile(values: Sequence[float], share: float) -> float:
    """Of values that are not empty: the least of which at least that share is not above."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _side(observed: QuerySet[Observation]) -> Side:
    counts = observed.aggregate(requests=Count("pk"), failed=Count("pk", filter=Q(failed=True)))
    return Side(**counts, ttft_ms=_median(observed, "ttft_ms"), itl_ms=_median(observed, "itl_ms"))


def _median(observed: QuerySet[Observation], column: str) -> float | None:
    values = (
        observed.filter(**{f"{column}__isnull": False}).order_by("-pk").values_list(column, flat=True)[:1000]
    )
    found = list(values)
    return quantile(found, 0.5) if found else None


def _slow(observed: QuerySet[Observation], arm: Arm, column: str, limit: float) -> Share:
    counts = observed.filter(arm=arm).aggregate(
        trials=Count("pk"), hits=Count("pk", filter=Q(**{f"{column}__gt": limit}))
    )
    return Share(counts["hits"], counts["trials"])


def _rollouts() -> QuerySet[Rollout]:
    return Rollout.objects.select_related("baseline__version__model", "candidate__version__model")
