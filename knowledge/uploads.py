"""Files on their way into a base: whole, or in pieces that each name their place; sealed as they come.

A file that the base has already is refused with the name of the document that has it, unless whoever sends it says that it
shall be there twice. Inside the tenant's scope; raises NotVisible, Refused and AuditUnavailable.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Max, Q
from django.utils.translation import gettext as _

from audit.cases.attachments import clean_file_name, sniff
from knowledge import access, sealing
from knowledge.bases import folder_of
from knowledge.documents import clean_tags, facts_of, name_of, require_days, seal_of, touch, version_of
from knowledge.models import Base, Document, Folder, Piece, Upload, Version
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.changes import change, record_change
from tenants.envelope import KeyDestroyed, Tampered
from tenants.errors import Refused
from tenants.ids import uuid7

PIECE_BYTES = 1 << 20  # Below what the web process takes as a body.
MOST_AT_ONCE = 50  # Of one person or program.
KEPT = timedelta(hours=24)  # An upload that nobody goes on with.


class WrongPlace(Exception):
    """The piece does not begin where the file ends. received: where it does."""

    def __init__(self, received: int) -> None:
        super().__init__(received)
        self.received = received


class Duplicate(Refused):
    """The base has this file already. document: the one that has it."""

    def __init__(self, document: Document) -> None:
        name = name_of(document)
        message = _("The same file is here already, as “%(name)s”.") % {"name": name}
        super().__init__("duplicate", message, "file")
        self.document_id, self.name = document.pk, name


# --- In pieces ----------------------------------------------------------------------------------------


def begin(
    *,
    actor: Actor,
    base_id: UUID,
    name: str,
    size: int,
    folder_id: UUID | None = None,
    document_id: UUID | None = None,
) -> Upload:
    """Announce a file: a document of its own, or a further version of `document_id`."""
    base, folder, document = _place(actor, base_id, folder_id, document_id)
    _require_size(size)
    if Upload.objects.filter(by_label=actor.label).count() >= MOST_AT_ONCE:
        message = _("You have %(most)d uploads open. Finish some of them, or wait a day.")
        raise Refused("too_many", message % {"most": MOST_AT_ONCE}, "file")
    key = uuid7()
    sealed = sealing.seal(clean_file_name(name), row=key, field="file_name", **_of(base))
    return Upload.objects.create(
        pk=key,
        base=base,
        folder=folder,
        document=document,
        by_label=actor.label,
        sealed_name=sealed,
        size=size,
    )


def add_piece(*, actor: Actor, upload_id: UUID, offset: int, content: bytes) -> int:
    """Append a piece; how many bytes are there now. Raises WrongPlace as well: two that send at once do not mix."""
    upload = upload_of(actor, upload_id)
    if offset != upload.received:
        raise WrongPlace(upload.received)
    if not 0 < len(content) <= PIECE_BYTES or offset + len(content) > upload.size:
        raise Refused("piece_invalid", _("A part of the file is not what was announced."), "file")
    if offset % PIECE_BYTES:
        raise Refused("piece_invalid", _("Only the last part of a file may be smaller."), "file")
    _keep(upload.base, content, offset // PIECE_BYTES, upload=upload)
    upload.received += len(content)
    upload.touched = clock.now()
    upload.save(update_fields=["received", "touched"])
    return upload.received


@change
def finish(
    *,
    actor: Actor,
    upload_id: UUID,
    valid_from: datetime.date | None = None,
    valid_until: datetime.date | None = None,
    twice: bool = False,
) -> Version:
    """All pieces are there: the file becomes a version, which a worker reads. Raises Duplicate as well.

    twice: also where the base has this file already. What was refused as a duplicate can be finished so, or dropped.
    """
    upload = upload_of(actor, upload_id)
    base, folder, document = _place(actor, upload.base_id, upload.folder_id, upload.document_id)
    if upload.received < upload.size:
        raise Refused("incomplete", _("The file is not there whole yet."), "file")
    require_days(valid_from, valid_until)
    pieces = Piece.objects.filter(upload=upload).order_by("number")
    digest, head = _digested(base, pieces.iterator(chunk_size=4))
    _require_new(actor, base, digest, twice)
    name = sealing.unseal(upload.sealed_name, row=upload.pk, field="file_name", **_of(base))
    version = _make_version(
        actor,
        base,
        folder,
        document,
        name=name,
        size=upload.size,
        media_type=sniff(head),
        digest=digest,
        days=(valid_from, valid_until),
    )
    Piece.objects.filter(upload=upload).update(version=version, upload=None)
    upload.delete()
    return version


def drop(*, actor: Actor, upload_id: UUID) -> None:
    """Give an upload up."""
    upload_of(actor, upload_id).delete()


def drop_abandoned() -> int:
    """Forget uploads that nobody has gone on with for a day; how many."""
    old = Upload.objects.filter(touched__lt=clock.now() - KEPT)
    count = old.count()
    old.delete()
    return count


# --- Whole --------------------------------------------------------------------------------------------


@change
def upload(
    *,
    actor: Actor,
    base_id: UUID,
    name: str,
    content: bytes,
    folder_id: UUID | None = None,
    document_id: UUID | None = None,
    tags: tuple[str, ...] = (),
    valid_from: datetime.date | None = None,
    valid_until: datetime.date | None = None,
    twice: bool = False,
) -> Version:
    """A file that is there whole: a document of its own, or a further version of `document_id`. Raises Duplicate."""
    base, folder, document = _place(actor, base_id, folder_id, document_id)
    _require_size(len(content))
    require_days(valid_from, valid_until)
    digest = sealing.digest_of(base, content)
    _require_new(actor, base, digest, twice)
    version = _make_version(
        actor,
        base,
        folder,
        document,
        name=clean_file_name(name),
        size=len(content),
        media_type=sniff(content),
        digest=digest,
        days=(valid_from, valid_until),
        tags=tags,
    )
    for number, start in enumerate(range(0, len(content), PIECE_BYTES)):
        _keep(base, content[start : start + PIECE_BYTES], number, version=version)
    return version


@change
def take(*, actor: Actor, version_id: UUID) -> tuple[str, bytes]:
    """A version's file as it came, with its name, after recording who takes it. Raises NotVisible, Refused."""
    version = version_of(actor, version_id)
    name = file_name_of(version)
    try:
        content = b"".join(content_of(version))
    except (Tampered, KeyDestroyed):
        content = b""
    if sealing.digest_of(version.document.base, content) != bytes(version.digest):
        raise Refused("file_lost", _("This file is not what was uploaded, so it is not given out."))
    detail = {"base": str(version.base_id), "file": name, "number": version.number}
    record_change(actor, "knowledge.document_taken", subject_id=version.document_id, detail=detail)
    return name, content


def content_of(version: Version) -> Iterator[bytes]:
    """The file as it came, piece by piece. Raises envelope.Tampered or envelope.KeyDestroyed."""
    place = {"tenant_id": version.tenant_id, "base_id": version.base_id}
    for piece in Piece.objects.filter(version=version).order_by("number").iterator(chunk_size=4):
        yield sealing.unseal_bytes(piece.sealed, row=piece.pk, field="piece", **place)


def file_name_of(version: Version) -> str:
    place = {"tenant_id": version.tenant_id, "base_id": version.base_id}
    return sealing.unseal(version.sealed_file_name, row=version.pk, field="file_name", **place) or "file"


def most_bytes() -> int:
    return settings.KNOWLEDGE_FILE_BYTES


# --- Parts --------------------------------------------------------------------------------------------


def _of(base: Base) -> dict[str, Any]:
    return {"tenant_id": base.tenant_id, "base_id": base.pk}


def _place(
    actor: Actor, base_id: UUID, folder_id: UUID | None, document_id: UUID | None
) -> tuple[Base, Folder | None, Document | None]:
    """Where a file goes, if the actor may put it there."""
    if document_id is not None:
        document = access.access_document(actor, document_id, access.EDIT)
        if document.base_id != base_id:
            raise NotVisible("document")
        return document.base, document.folder, document
    base = access.access_base(actor, base_id, access.CHANGE)
    return base, folder_of(base, folder_id) if folder_id else None, None


def _require_size(size: int) -> None:
    if size <= 0:
        raise Refused("file_empty", _("This file is empty. Choose another."), "file")
    if size > most_bytes():
        message = _("This file is larger than %(most)d MB. Split it.")
        raise Refused("file_too_large", message % {"most": most_bytes() // 1_000_000}, "file")


def _require_new(actor: Actor, base: Base, digest: bytes, twice: bool) -> None:
    """Of documents that the actor may not read nothing is said."""
    if twice:
        return
    same = Version.objects.filter(base=base, digest=digest).values("document_id")
    found = access.visible_documents(actor, [base.pk]).filter(pk__in=same).order_by("pk").first()
    if found is not None:
        raise Duplicate(found)


def upload_of(actor: Actor, upload_id: UUID) -> Upload:
    """The actor's own, locked. Raises NotVisible."""
    found = Upload.objects.filter(pk=upload_id, by_label=actor.label)
    upload = found.select_for_update(of=("self",)).select_related("base").first()
    if upload is None:
        raise NotVisible("upload")
    if upload.document_id is None:
        access.access_base(actor, upload.base_id, access.CHANGE)
    else:
        access.access_document(actor, upload.document_id, access.EDIT)
    return upload


def _keep(base: Base, content: bytes, number: int, **of: Any) -> None:
    key = uuid7()
    sealed = sealing.seal_bytes(content, row=key, field="piece", **_of(base))
    Piece.objects.create(pk=key, number=number, sealed=sealed, **of)


def _digested(base: Base, pieces: Iterator[Piece]) -> tuple[bytes, bytes]:
    """The keyed digest of a file, and its first piece."""
    hashed, head = hashlib.sha256(), b""
    for piece in pieces:
        content = sealing.unseal_bytes(piece.sealed, row=piece.pk, field="piece", **_of(base))
        head = head or content
        hashed.update(content)
    return sealing.digest_of_hash(base, hashed.digest()), head


def _make_version(
    actor: Actor,
    base: Base,
    folder: Folder | None,
    document: Document | None,
    *,
    name: str,
    size: int,
    media_type: str,
    digest: bytes,
    days: tuple[datetime.date | None, datetime.date | None],
    tags: tuple[str, ...] = (),
) -> Version:
    kind = "knowledge.version_added"
    if document is None:
        kind = "knowledge.document_added"
        document = _make_document(actor, base, folder, name, tags)
    last = Version.objects.filter(document=document).aggregate(last=Max("number"))["last"] or 0
    ended = _end_earlier(document, days[0])
    key = uuid7()
    version = Version.objects.create(
        pk=key,
        base=base,
        document=document,
        number=last + 1,
        sealed_file_name=sealing.seal(name, row=key, field="file_name", **_of(base)),
        media_type=media_type,
        size=size,
        digest=digest,
        valid_from=days[0],
        valid_until=days[1],
        created_by_id=actor.user_id,
    )
    Document.objects.filter(pk=document.pk).update(updated=clock.now())
    touch(base)
    detail = {"base": str(base.pk), "file": name, "size": size, "number": version.number}
    after = {**facts_of(document), "valid_from": days[0] and days[0].isoformat()}
    record_change(actor, kind, subject_id=document.pk, after=after, detail={**detail, "ended_earlier": ended})
    return version


def _make_document(
    actor: Actor, base: Base, folder: Folder | None, file_name: str, tags: tuple[str, ...]
) -> Document:
    """Programs own nothing: what they bring is the base's owner's."""
    document = Document(
        base=base, folder=folder, owner_id=actor.user_id or base.owner_id, tenant_id=base.tenant_id
    )
    document.sealed_name = seal_of(document, "name", file_name)
    document.sealed_tags = seal_of(document, "tags", clean_tags(tags))
    document.save(force_insert=True)
    return document


def _end_earlier(document: Document, day: datetime.date | None) -> int:
    """What held without an end holds until a version that begins on a day; how many that ends."""
    if day is None:
        return 0
    before = Q(valid_from=None) | Q(valid_from__lt=day)
    return Version.objects.filter(before, document=document, valid_until=None).update(valid_until=day)
