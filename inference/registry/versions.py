"""Writing models and their versions: registered once, never changed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from inference.registry.models import Evaluation, Model, ModelVersion
from inference.registry.operators import Operator, change, record
from inference.registry.selectors import version_by_id
from tenants.changes import difference
from tenants.errors import Refused
from tenants.words import clean_name, clean_text

PRECISIONS = ("bfloat16", "int8", "float32")
MOST_DESCRIPTION = 50_000


@change
def register(*, by: Operator, name: str, title: str = "", **facts: Any) -> ModelVersion:
    """A new version of the model of that name, which is made if there is none; as a draft.

    facts: by the names of ModelVersion's fields. Raises Refused when the very same is registered already.
    """
    model, _made = Model.objects.get_or_create(
        name=name, defaults={"title": title or name, "licence": facts.get("licence", "")}
    )
    last = model.versions.aggregate(last=Max("number"))["last"] or 0
    version = ModelVersion(model=model, number=last + 1, created_by=by.label, **facts)
    try:
        with transaction.atomic():
            version.save(force_insert=True)
    except IntegrityError:
        same = model.versions.filter(
            revision=version.revision,
            digest=version.digest,
            precision=version.precision,
            adapter=version.adapter,
        ).first()
        if same is None:  # But the next number.
            raise Refused("changed", _("Somebody else changed it just now. Look again.")) from None
        message = _("This is registered already as %(version)s.") % {"version": same}
        raise Refused("exists", message, "precision") from None
    record(by, "model.registered", subject_id=version.pk, after=described(version))
    return version


@change
def derive(*, by: Operator, version_id: UUID, precision: str) -> ModelVersion:
    """A version of the same files in another precision, which the engine makes of them as it loads. Nothing is copied."""
    parent = version_by_id(version_id)
    if precision not in PRECISIONS:
        raise Refused("precision_unknown", _("Choose one of the precisions."), "precision")
    same = (
        "kind",
        "source_kind",
        "source",
        "revision",
        "digest",
        "adapter",
        "served_id",
        "context_tokens",
        "architecture",
        "parameters",
        "licence",
        "training_run",
        "files",
        "settings",
        "card",
        "location",
    )
    facts = {field: getattr(parent, field) for field in same}
    return register(by=by, name=parent.model.name, precision=precision, parent=parent, **facts)


@change
def describe(*, by: Operator, model_id: UUID, title: str, licence: str, description: str) -> Model:
    """Change what is said about a model; its versions stay as they are."""
    model = Model.objects.get(pk=model_id)
    before = _said(model)
    if len(description) > MOST_DESCRIPTION:
        message = _("The description is longer than %(most)d characters.")
        raise Refused("too_long", message % {"most": MOST_DESCRIPTION}, "description")
    model.title, model.licence = clean_name(title, field="title", most=100), clean_text(licence, most=100)
    model.description = description.replace("\r\n", "\n").replace("\x00", "").strip()
    model.save(update_fields=["title", "licence", "description"])
    old, new = difference(before, _said(model))
    if new:
        record(by, "model.described", subject_id=model.pk, before=old, after=new)
    return model


@change
def evaluate(*, by: Operator, version_id: UUID, suite: str, figures: dict[str, float]) -> list[Evaluation]:
    """Note what was measured of a version. figures: by metric, as in `labels.METRICS`, or others."""
    version = version_by_id(version_id)
    rows = [
        Evaluation(version=version, metric=metric, value=value, suite=suite[:200], by_label=by.label)
        for metric, value in figures.items()
    ]
    Evaluation.objects.bulk_create(rows)
    after = {"version": str(version), "suite": suite[:200], "figures": figures}
    record(by, "model.evaluated", subject_id=version.pk, after=after)
    return rows


def described(version: ModelVersion) -> dict[str, Any]:
    """What the audit keeps of a version."""
    return {
        "version": str(version),
        "source": f"{version.source_kind}:{version.source}@{version.revision}",
        "digest": version.digest,
        "precision": version.precision,
        "architecture": version.architecture,
        "licence": version.licence,
        "parent": str(version.parent) if version.parent else "",
    }


def _said(model: Model) -> dict[str, str]:
    return {"title": model.title, "licence": model.licence, "description": model.description}
