"""Beginning rollouts, and what people and Custos itself do with them. Each is recorded in every tenant."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from inference.deployments.selectors import deployment_by_id, endpoints_of
from inference.registry.models import Deployment, Route, Stage
from inference.registry.operators import Operator, change, record
from inference.registry.selectors import stage_of
from inference.rollouts.models import OPEN, Rollout, RolloutStep, State
from inference.rollouts.selectors import remembered, rollout_by_id, standing_of
from inference.routing.models import Target
from tenants import clock
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.scope import tenant_scope
from tenants.words import clean_text

BOUNDS: dict[str, tuple[float, float]] = {
    "alpha": (0.001, 0.2),
    "error_rise": (0.0, 0.5),
    "slow_rise": (0.01, 0.9),
    "least": (20, 100_000),
    "longest_hours": (1, 24 * 30),
}


@change
def begin(
    *,
    by: Operator,
    baseline_id: UUID,
    candidate_id: UUID,
    in_shadow: bool = True,
    percent: int = 10,
    reason: str = "",
    **limits: Any,
) -> Rollout:
    """A candidate beside the baseline: in the shadow, or at once for a share. limits: by Rollout's fields. Raises Refused."""
    baseline, candidate = deployment_by_id(baseline_id), deployment_by_id(candidate_id)
    if baseline.pk == candidate.pk:
        raise Refused(
            "same", _("Choose another deployment than the one that it may replace."), "candidate_id"
        )
    if baseline.version.kind != candidate.version.kind:
        raise Refused("kind", _("Both have to make the same of a text."), "candidate_id")
    if candidate.version.context_tokens < baseline.version.context_tokens and candidate.max_context is None:
        raise Refused(
            "context", _("The candidate’s context is smaller, so some requests would fail."), "candidate_id"
        )
    for deployment in (baseline, candidate):
        if Rollout.objects.filter(state__in=OPEN, candidate=deployment).exists():
            raise Refused(
                "taken",
                _("“%(name)s” is the candidate of a rollout already.") % {"name": deployment},
                "candidate_id",
            )
    _may_answer(candidate)
    _check(percent, limits)
    rollout = Rollout(
        baseline=baseline,
        candidate=candidate,
        state=State.SHADOW if in_shadow else State.SHARE,
        percent=percent,
        shared=None if in_shadow else clock.now(),
        began_by=by.label,
        **limits,
    )
    try:
        with transaction.atomic():
            rollout.save(force_insert=True)
    except IntegrityError:
        raise Refused("open", _("A rollout of this baseline is under way already."), "baseline_id") from None
    return _noted(by, rollout, "rollout.begun", reason=clean_text(reason, field="reason") or "begun")


@change
def set_share(*, by: Operator, rollout_id: UUID, percent: int, reason: str = "") -> Rollout:
    """Let the candidate answer so many of a hundred requests: out of the shadow, or more or fewer. Raises Refused."""
    rollout = _open(rollout_id)
    _check(percent, {})
    _may_answer(rollout.candidate)
    rollout.percent = percent
    if rollout.state == State.SHADOW:
        rollout.state, rollout.shared = State.SHARE, clock.now()
        # What is slow is told anew, of requests that people wait for.
        rollout.slow_ttft_ms = rollout.slow_itl_ms = rollout.limits_after = None
    rollout.save()
    return _noted(by, rollout, "rollout.share_set", reason=clean_text(reason, field="reason"))


@change
def roll_back(*, by: Operator, rollout_id: UUID, reason: str, is_automatic: bool = False) -> Rollout:
    """The baseline answers all; of what was promoted too, as far as routes still lead to the candidate. Raises Refused."""
    rollout = _locked(rollout_id)
    if rollout.state == State.PROMOTED:
        if Rollout.objects.filter(baseline=rollout.candidate, state__in=OPEN).exists():
            raise Refused("open", _("The candidate is the baseline of another rollout. End that first."))
        _may_answer(rollout.baseline)
        promoted = rollout.steps.filter(state=State.PROMOTED).latest("pk")
        # Not those that led to the candidate before, nor those that lead elsewhere by now.
        _lead(rollout.candidate, rollout.baseline, promoted.figures["moved"])
    elif not rollout.is_open:
        raise Refused("ended", _("This rollout has ended."))
    return _ended(by, rollout, State.ROLLED_BACK, reason, is_automatic)


@change
def promote(*, by: Operator, rollout_id: UUID, reason: str, is_automatic: bool = False) -> Rollout:
    """Every tenant's routes and rules that led to the baseline lead to the candidate. Raises Refused."""
    rollout = _open(rollout_id)
    _may_answer(rollout.candidate)
    if stage_of(rollout.candidate.version) != Stage.PRODUCTION:
        raise Refused("stage", _("The candidate’s version is not in production. Bring it there first."))
    moved = _lead(rollout.baseline, rollout.candidate)
    return _ended(by, rollout, State.PROMOTED, reason, is_automatic, moved)


@change
def give_up(*, by: Operator, rollout_id: UUID, reason: str) -> Rollout:
    """End it without a decision: the baseline stays. Raises Refused."""
    return _ended(by, _open(rollout_id), State.UNDECIDED, reason, True)


def described(rollout: Rollout) -> dict[str, Any]:
    """What the audit keeps of a rollout."""
    return {
        "baseline": rollout.baseline.name,
        "candidate": rollout.candidate.name,
        "candidate_version": str(rollout.candidate.version),
        "state": rollout.state,
        "percent": rollout.percent,
    }


def _ended(
    by: Operator,
    rollout: Rollout,
    state: State,
    reason: str,
    is_automatic: bool,
    moved: list[str] | None = None,
) -> Rollout:
    rollout.state, rollout.ended = state, clock.now()
    rollout.save()
    reason = reason if is_automatic else clean_text(reason, field="reason")
    return _noted(by, rollout, _ENDS[state], reason=reason, is_automatic=is_automatic, moved=moved)


_ENDS = {
    State.PROMOTED: "rollout.promoted",
    State.ROLLED_BACK: "rollout.rolled_back",
    State.UNDECIDED: "rollout.undecided",
}


def _noted(
    by: Operator,
    rollout: Rollout,
    kind: str,
    *,
    reason: str,
    is_automatic: bool = False,
    moved: list[str] | None = None,
) -> Rollout:
    figures = standing_of(rollout).told()
    if moved is not None:
        figures["moved"] = moved
    RolloutStep.objects.create(
        rollout=rollout,
        state=rollout.state,
        percent=rollout.percent,
        is_automatic=is_automatic,
        reason=reason,
        figures=figures,
        by_label=by.label,
    )
    after = {**described(rollout), "reason": reason, "figures": figures}
    record(by, kind, subject_id=rollout.pk, after=after)
    transaction.on_commit(remembered.forget)
    return rollout


def _lead(old: Deployment, new: Deployment, only: list[str] | None = None) -> list[str]:
    """Routes and rules from one deployment to another, each tenant's in its own scope; the ids of those that were moved."""
    moved: list[str] = []
    for tenant in Tenant.objects.exclude(status=Tenant.Status.DELETED).order_by("pk"):
        with tenant_scope(tenant.pk):
            for model in (Route, Target):
                rows = model.objects.filter(deployment=old)
                if only is not None:
                    rows = rows.filter(pk__in=only)
                moved += [str(pk) for pk in rows.values_list("pk", flat=True)]
                rows.update(deployment=new)
    return moved


def _open(rollout_id: UUID) -> Rollout:
    rollout = _locked(rollout_id)
    if not rollout.is_open:
        raise Refused("ended", _("This rollout has ended."))
    return rollout


def _locked(rollout_id: UUID) -> Rollout:
    """The row, locked until the change is made. Raises NotVisible."""
    Rollout.objects.select_for_update().filter(pk=rollout_id).first()
    return rollout_by_id(rollout_id)


def _may_answer(deployment: Deployment) -> None:
    if not any(endpoint.is_ready for endpoint in endpoints_of(deployment)):
        raise Refused(
            "not_ready", _("“%(name)s” is not ready. Start it, and wait until it is.") % {"name": deployment}
        )


def _check(percent: int, limits: dict[str, Any]) -> None:
    if not 1 <= percent <= 100:
        raise Refused("percent", _("Write a share from 1 to 100."), "percent")
    for name, (least, most) in BOUNDS.items():
        if name in limits and not least <= limits[name] <= most:
            message = _("Write a number from %(least)s to %(most)s.") % {"least": least, "most": most}
            raise Refused("bounds", message, name)
