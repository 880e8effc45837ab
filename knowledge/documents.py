"""What changes documents and their versions. Inside the tenant's scope; one audit record each.

Raises NotVisible, Refused and AuditUnavailable. Files arrive by `knowledge.uploads`, whole or in pieces.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from knowledge import access, sealing
from knowledge.bases import folder_of
from knowledge.ingestion import queue
from knowledge.models import Base, Document, Folder, State, Version
from tenants import clock
from tenants.access import Actor, Level, NotVisible, put_grant
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.models import User
from tenants.words import clean_name, clean_text

MOST_TAGS = 20
MOST_TAG = 40
MOST_NAME = 200

_BEGUN_AGAIN = (State.READY, State.FAILED, State.CANCELLED)


@change
def change_document(
    *,
    actor: Actor,
    document_id: UUID,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    folder_id: UUID | None = None,
    to_top: bool = False,
) -> Document:
    """Rename it, tag it, move it into a folder (folder_id) or out of all (to_top); None: as it is."""
    document = access.access_document(actor, document_id, access.EDIT)
    before = facts_of(document)
    after = dict(before)
    if name is not None:
        after["name"] = clean_name(name, most=MOST_NAME)
    if tags is not None:
        after["tags"] = clean_tags(tags)
    folder: Folder | None = document.folder
    if to_top:
        folder = None
    elif folder_id is not None:
        folder = folder_of(document.base, folder_id)
    after["folder"] = str(folder.pk) if folder else None
    old, new = difference(before, after)
    if not new:
        return document
    document.folder, document.updated = folder, clock.now()
    document.sealed_name = seal_of(document, "name", after["name"])
    document.sealed_tags = seal_of(document, "tags", after["tags"])
    document.save()
    record_change(actor, "knowledge.document_changed", subject_id=document.pk, before=old, after=new)
    return document


@change
def restrict(*, actor: Actor, document_id: UUID) -> Document:
    """From now on only whom it is granted to reads it; whoever restricts it owns it."""
    document = access.access_document(actor, document_id, access.OWN)
    if document.is_restricted:
        return document
    if actor.user_id is None:
        raise Refused("owner_missing", _("A person restricts a document: they keep access to it."))
    Document.objects.filter(pk=document.pk).update(is_restricted=True, updated=clock.now())
    put_grant(document, User.objects.get(pk=actor.user_id), Level.OWNER)
    _record(actor, "knowledge.document_restricted", document)
    document.is_restricted = True
    return document


@change
def unrestrict(*, actor: Actor, document_id: UUID) -> Document:
    """From now on everyone reads it who may ask its base; grants on it stay."""
    document = access.access_document(actor, document_id, access.OWN)
    if document.is_restricted:
        Document.objects.filter(pk=document.pk).update(is_restricted=False, updated=clock.now())
        _record(actor, "knowledge.document_opened", document)
        document.is_restricted = False
    return document


@change
def delete_document(*, actor: Actor, document_id: UUID) -> None:
    """With all versions, and what was indexed of them."""
    document = access.access_document(actor, document_id, access.OWN)
    before = {**facts_of(document), "versions": Version.objects.filter(document=document).count()}
    base_id = document.base_id
    document.delete()
    detail = {"base": str(base_id)}
    record_change(actor, "knowledge.document_deleted", subject_id=document_id, before=before, detail=detail)


# --- Versions -----------------------------------------------------------------------------------------


@change
def set_validity(
    *,
    actor: Actor,
    version_id: UUID,
    valid_from: datetime.date | None,
    valid_until: datetime.date | None,
) -> Version:
    """On which days a version holds, the last one not included; None: without an end on that side."""
    version = version_of(actor, version_id, access.EDIT)
    require_days(valid_from, valid_until)
    before = _days(version)
    version.valid_from, version.valid_until = valid_from, valid_until
    old, new = difference(before, _days(version))
    if new:
        version.save(update_fields=["valid_from", "valid_until"])
        detail = {"number": version.number}
        record_change(
            actor,
            "knowledge.version_validity_set",
            subject_id=version.document_id,
            before=old,
            after=new,
            detail=detail,
        )
    return version


@change
def delete_version(*, actor: Actor, version_id: UUID) -> None:
    """One version of several; the only one goes with its document."""
    version = version_of(actor, version_id, access.OWN)
    if not Version.objects.filter(document=version.document).exclude(pk=version.pk).exists():
        raise Refused("only_version", _("It is the only version. Delete the document instead."))
    version.delete()
    _record(actor, "knowledge.version_deleted", version.document, number=version.number)


@change
def reindex(*, actor: Actor, version_id: UUID) -> Version:
    """Read a version anew: a further try of one that failed or was cancelled, too."""
    version = version_of(actor, version_id, access.EDIT)
    if not queue.put(Version.objects.filter(pk=version.pk, state__in=_BEGUN_AGAIN)):
        message = _("It is at work on this file already. Cancel it first.")
        raise Refused("wrong_state", message)
    _record(actor, "knowledge.version_reindexed", version.document, number=version.number)
    return version


@change
def reindex_base(*, actor: Actor, base_id: UUID) -> int:
    """Read all files of a base anew; how many versions it is. What was found is found until then."""
    base = access.access_base(actor, base_id, access.CHANGE)
    count = queue.put(Version.objects.filter(base=base, state__in=_BEGUN_AGAIN))
    record_change(actor, "knowledge.base_reindexed", subject_id=base.pk, after={"versions": count})
    return count


@change
def cancel(*, actor: Actor, version_id: UUID) -> Version:
    """Stop reading a file."""
    version = version_of(actor, version_id, access.EDIT)
    if not queue.cancel(Version.objects.filter(pk=version.pk)):
        raise Refused("wrong_state", _("Nothing is at work on this file any more."))
    _record(actor, "knowledge.version_cancelled", version.document, number=version.number)
    return version


def version_of(actor: Actor, version_id: UUID, permission: str = access.READ) -> Version:
    """A version of a document that the actor may read (or do that with), without its text. Raises NotVisible."""
    found = Version.objects.filter(pk=version_id).defer("sealed_text", "sealed_layout", "lengths").first()
    if found is None:
        raise NotVisible("version")
    found.document = access.access_document(actor, found.document_id, permission)
    return found


# --- Parts --------------------------------------------------------------------------------------------


def facts_of(document: Document) -> dict[str, Any]:
    """{"name", "tags", "folder"} of a document."""
    return {
        "name": name_of(document),
        "tags": tags_of(document),
        "folder": str(document.folder_id) if document.folder_id else None,
    }


def name_of(document: Document) -> str:
    return _unsealed(document, document.sealed_name, "name") or ""


def tags_of(document: Document) -> list[str]:
    return _unsealed(document, document.sealed_tags, "tags") or []


def clean_tags(tags: Sequence[str]) -> list[str]:
    """Each once, as words of a list. Raises Refused."""
    cleaned = [clean_text(tag, field="tags", most=MOST_TAG) for tag in tags]
    found = list(dict.fromkeys(tag for tag in cleaned if tag))
    if len(found) > MOST_TAGS:
        raise Refused("too_many", _("Use at most %(most)d tags.") % {"most": MOST_TAGS}, "tags")
    return found


def require_days(valid_from: datetime.date | None, valid_until: datetime.date | None) -> None:
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise Refused("days_reversed", _("It must end after the day on which it begins."), "valid_until")


def seal_of(document: Document, field: str, value: Any) -> bytes:
    return sealing.seal(
        value, tenant_id=document.tenant_id, base_id=document.base_id, row=document.pk, field=field
    )


def _unsealed(document: Document, sealed: bytes | memoryview, field: str) -> Any:
    return sealing.unseal(
        sealed, tenant_id=document.tenant_id, base_id=document.base_id, row=document.pk, field=field
    )


def _days(version: Version) -> dict[str, str | None]:
    return {
        name: day.isoformat() if day else None
        for name, day in (("valid_from", version.valid_from), ("valid_until", version.valid_until))
    }


def _record(actor: Actor, kind: str, document: Document, **after: Any) -> None:
    after = {"name": name_of(document), **after}
    detail = {"base": str(document.base_id)}
    record_change(actor, kind, subject_id=document.pk, after=after, detail=detail)


def touch(base: Base) -> None:
    Base.objects.filter(pk=base.pk).update(updated=clock.now())
