"""The stages of a version: draft, staged, production, archived. Each change is a row, and a record in every tenant."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from inference.registry.models import Deployment, ModelVersion, Stage, StageChange
from inference.registry.operators import Operator, change, record
from inference.registry.selectors import pending_of, stage_of, version_by_id
from tenants.errors import Refused
from tenants.words import clean_text

NEXT: dict[str, tuple[Stage, ...]] = {
    Stage.DRAFT: (Stage.STAGED, Stage.ARCHIVED),
    Stage.STAGED: (Stage.PRODUCTION, Stage.DRAFT, Stage.ARCHIVED),
    Stage.PRODUCTION: (Stage.STAGED, Stage.ARCHIVED),
    Stage.ARCHIVED: (Stage.DRAFT,),
}


@change
def move(*, by: Operator, version_id: UUID, stage: str, reason: str) -> StageChange:
    """Bring a version to a stage; to production, where two people are wanted, only ask for it. Raises Refused."""
    version = version_by_id(version_id)
    now = stage_of(version)
    if pending_of(version) is not None:
        raise Refused("pending", _("Somebody has asked for production. Approve or decline that first."))
    if stage not in NEXT[now]:
        message = _("The version is “%(stage)s”, from which this is not possible.")
        raise Refused("wrong_state", message % {"stage": Stage(now).label}, "stage")
    if stage in (Stage.ARCHIVED, Stage.DRAFT) and _is_deployed(version):
        raise Refused("deployed", _("It is deployed, so people may be using it. End the deployment first."))
    asks = stage == Stage.PRODUCTION and settings.MODELS_FOUR_EYES
    return _add(by, version, stage=Stage(stage), reason=reason, is_proposal=asks)


@change
def approve(*, by: Operator, version_id: UUID, reason: str) -> StageChange:
    """Bring into production what another person has asked for. Raises Refused."""
    version = version_by_id(version_id)
    asked = _asked(version)
    if by.user_id is None or asked.by_id == by.user_id:
        message = _("You asked for it yourself. Another platform administrator has to approve.")
        raise Refused("own_proposal", message)
    return _add(by, version, stage=Stage.PRODUCTION, reason=reason)


@change
def decline(*, by: Operator, version_id: UUID, reason: str) -> StageChange:
    """Leave the version where it is, although production was asked for; also by whoever asked. Raises Refused."""
    version = version_by_id(version_id)
    _asked(version)
    return _add(by, version, stage=Stage(stage_of(version)), reason=reason)


def _is_deployed(version: ModelVersion) -> bool:
    return version.deployments.filter(enabled=True).exclude(wanted=Deployment.Wanted.STOPPED).exists()


def _asked(version: ModelVersion) -> StageChange:
    asked = pending_of(version)
    if asked is None:
        raise Refused("not_asked", _("Nobody has asked to bring this version into production."))
    return asked


def _add(
    by: Operator, version: ModelVersion, *, stage: Stage, reason: str, is_proposal: bool = False
) -> StageChange:
    before = stage_of(version)
    last = version.stage_changes.order_by("-number").values_list("number", flat=True).first() or 0
    row = StageChange(
        version=version,
        number=last + 1,
        stage=stage,
        is_proposal=is_proposal,
        by_id=by.user_id,
        by_label=by.label,
        reason=clean_text(reason, field="reason"),
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise Refused("changed", _("Somebody else changed it just now. Look again.")) from None
    kind = "model.production_asked" if is_proposal else "model.stage_changed"
    after = {"version": str(version), "digest": version.digest, "stage": str(stage), "reason": row.reason}
    record(by, kind, subject_id=version.pk, before={"stage": before}, after=after)
    return row
