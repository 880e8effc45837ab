"""What changes bases and their folders. Inside the tenant's scope; one audit record each.

Raises NotVisible, Refused and AuditUnavailable. Names stand in the sealed detail of records, ids alone in their columns.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from pydantic import ValidationError

from inference.registry.models import ModelVersion
from inference.registry.selectors import usable_routes
from knowledge import access, sealing
from knowledge.ingestion import queue
from knowledge.models import Base, Document, Folder
from knowledge.retrieval.options import Options
from tenants import clock
from tenants.access import Actor, Level, NotVisible, put_grant, require
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import User
from tenants.roles import KNOWLEDGE_CURATE
from tenants.words import clean_name, clean_text

MOST_DEEP = 8  # Folders in one another.
MOST_FOLDERS = 500


@change
def make_base(*, actor: Actor, name: str, description: str = "", embedding_model: str = "") -> Base:
    """A base of the actor's own, which nobody else reaches until they share it."""
    require(actor, KNOWLEDGE_CURATE)
    if actor.user_id is None:
        raise Refused("owner_missing", _("A base belongs to a person: make it with a key of your own."))
    key = uuid7()
    said = {"name": clean_name(name), "description": clean_text(description)}
    base = Base.objects.create(
        pk=key,
        owner_id=actor.user_id,
        embedding_model=_model(actor, embedding_model),
        **_sealed(actor.tenant_id, key, said),
    )
    put_grant(base, User.objects.get(pk=actor.user_id), Level.OWNER)
    after = {**said, "embedding_model": base.embedding_model}
    record_change(actor, "knowledge.base_created", subject_id=key, after=after)
    return base


@change
def change_base(
    *,
    actor: Actor,
    base_id: UUID,
    name: str | None = None,
    description: str | None = None,
    embedding_model: str | None = None,
    options: dict[str, Any] | None = None,
) -> Base:
    """None: as it is. With another model all that is ready is embedded anew; words find it meanwhile."""
    base = access.access_base(actor, base_id, access.DELETE)
    before = _facts(base)
    after = dict(before)
    if name is not None:
        after["name"] = clean_name(name)
    if description is not None:
        after["description"] = clean_text(description)
    if embedding_model is not None and embedding_model != base.embedding_model:
        after["embedding_model"] = _model(actor, embedding_model)
    if options is not None:
        after["options"] = _options(options)
    old, new = difference(before, after)
    if not new:
        return base
    base.embedding_model, base.options, base.updated = after["embedding_model"], after["options"], clock.now()
    said = {field: after[field] for field in ("name", "description")}
    for column, sealed in _sealed(base.tenant_id, base.pk, said).items():
        setattr(base, column, sealed)
    base.save()
    if "embedding_model" in new:
        queue.embed_again(base)
    record_change(actor, "knowledge.base_changed", subject_id=base.pk, before=old, after=new)
    return base


@change
def delete_base(*, actor: Actor, base_id: UUID) -> None:
    """With all documents, also those that the actor does not see."""
    base = access.access_base(actor, base_id, access.DELETE)
    before = {"name": sealing.name_of(base), "documents": Document.objects.filter(base=base).count()}
    base.delete()
    record_change(actor, "knowledge.base_deleted", subject_id=base_id, before=before)


# --- Folders ------------------------------------------------------------------------------------------


@change
def make_folder(*, actor: Actor, base_id: UUID, name: str, parent_id: UUID | None = None) -> Folder:
    """A folder in a base, or in another folder of it."""
    base = access.access_base(actor, base_id, access.CHANGE)
    parent = folder_of(base, parent_id) if parent_id else None
    if len(_above(parent)) >= MOST_DEEP:
        message = _("Folders stand at most %(most)d deep in one another.")
        raise Refused("too_deep", message % {"most": MOST_DEEP}, "parent")
    if Folder.objects.filter(base=base).count() >= MOST_FOLDERS:
        raise Refused("too_many", _("A base has at most %(most)d folders.") % {"most": MOST_FOLDERS}, "name")
    key, said = uuid7(), clean_name(name)
    _require_free(base, parent, said)
    folder = Folder.objects.create(pk=key, base=base, parent=parent, sealed_name=_seal_name(base, key, said))
    record_change(actor, "knowledge.folder_created", subject_id=base.pk, after={"name": said})
    return folder


@change
def change_folder(
    *,
    actor: Actor,
    base_id: UUID,
    folder_id: UUID,
    name: str | None = None,
    parent_id: UUID | None = None,
    to_top: bool = False,
) -> Folder:
    """Rename it, move it into another one (parent_id), or out of all (to_top)."""
    base = access.access_base(actor, base_id, access.CHANGE)
    folder = folder_of(base, folder_id)
    called = name_of_folder(folder)
    before = {"name": called, "parent": str(folder.parent_id) if folder.parent_id else None}
    said = called if name is None else clean_name(name)
    parent = None if to_top else folder_of(base, parent_id) if parent_id else folder.parent
    above = _above(parent)
    if folder.pk in {each.pk for each in above}:
        raise Refused("in_itself", _("A folder cannot stand in itself."), "parent")
    if len(above) + _height(folder) > MOST_DEEP:
        message = _("Folders stand at most %(most)d deep in one another.")
        raise Refused("too_deep", message % {"most": MOST_DEEP}, "parent")
    after = {"name": said, "parent": str(parent.pk) if parent else None}
    old, new = difference(before, after)
    if new:
        _require_free(base, parent, said, but=folder)
        folder.parent, folder.sealed_name = parent, _seal_name(base, folder.pk, said)
        folder.save()
        record_change(actor, "knowledge.folder_changed", subject_id=base.pk, before=old, after=new)
    return folder


@change
def delete_folder(*, actor: Actor, base_id: UUID, folder_id: UUID) -> None:
    """What stands in it comes to stand where it stood: nothing is lost."""
    base = access.access_base(actor, base_id, access.CHANGE)
    folder = folder_of(base, folder_id)
    before = {"name": name_of_folder(folder)}
    Document.objects.filter(folder=folder).update(folder=folder.parent)
    Folder.objects.filter(parent=folder).update(parent=folder.parent)
    folder.delete()
    record_change(actor, "knowledge.folder_deleted", subject_id=base.pk, before=before)


def folder_of(base: Base, folder_id: UUID) -> Folder:
    """A folder of the base. Raises NotVisible."""
    folder = Folder.objects.filter(base=base, pk=folder_id).first()
    if folder is None:
        raise NotVisible("folder")
    return folder


def name_of_folder(folder: Folder) -> str:
    place: dict[str, Any] = {"tenant_id": folder.tenant_id, "base_id": folder.base_id}
    return sealing.unseal(folder.sealed_name, row=folder.pk, field="name", **place) or ""


def _seal_name(base: Base, row: UUID, name: str) -> bytes:
    return sealing.seal(name, tenant_id=base.tenant_id, base_id=base.pk, row=row, field="name")


def _above(folder: Folder | None) -> list[Folder]:
    """The folder and those that it stands in."""
    found = []
    while folder is not None:
        found.append(folder)
        folder = folder.parent
    return found


def _height(folder: Folder) -> int:
    """How many folders stand in one another from this one down."""
    below, height = [folder.pk], 0
    while below:
        height += 1
        below = list(Folder.objects.filter(parent__in=below).values_list("pk", flat=True))
    return height


def _require_free(base: Base, parent: Folder | None, name: str, but: Folder | None = None) -> None:
    beside = Folder.objects.filter(base=base, parent=parent)
    if any(name_of_folder(each) == name for each in beside if but is None or each.pk != but.pk):
        raise Refused("exists", _("A folder of this name is here already."), "name")


# --- Parts --------------------------------------------------------------------------------------------


def _sealed(tenant_id: UUID, base_id: UUID, said: dict[str, str]) -> dict[str, bytes]:
    place: dict[str, Any] = {"tenant_id": tenant_id, "base_id": base_id, "row": base_id}
    return {f"sealed_{field}": sealing.seal(text, field=field, **place) for field, text in said.items()}


def description_of(base: Base) -> str:
    place: dict[str, Any] = {"tenant_id": base.tenant_id, "base_id": base.pk, "row": base.pk}
    return sealing.unseal(base.sealed_description, field="description", **place) or ""


def embedding_models(actor: Actor) -> list[str]:
    """The routes to embedding models that the actor may use."""
    kind = ModelVersion.Kind.EMBEDDING
    return [route.name for route in usable_routes(actor) if route.deployment.version.kind == kind]


def _model(actor: Actor, name: str) -> str:
    if name and name not in embedding_models(actor):
        raise Refused(
            "model_unknown", _("Choose one of the embedding models, or words alone."), "embedding_model"
        )
    return name


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return Options.model_validate(asked).model_dump()
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0]) if error.errors()[0]["loc"] else None
        raise Refused("option_invalid", _("Enter a number within the limits."), field) from error


def _facts(base: Base) -> dict[str, Any]:
    return {
        "name": sealing.name_of(base),
        "description": description_of(base),
        "embedding_model": base.embedding_model,
        "options": base.options,
    }
