"""Files of a case: their kind is told by their first bytes, they are sealed as they came, and never parsed."""

import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from audit.cases import deeds, sealing
from audit.cases.access import case_of, may_work
from audit.cases.models import Case, CaseFile, Deed, Looked
from audit.cases.readings import record_reading
from tenants import envelope
from tenants.access import Actor, NotVisible
from tenants.changes import change
from tenants.errors import Refused
from tenants.ids import uuid7

MOST_BYTES = 10 * 1024 * 1024
MOST_NAME = 150
UNKNOWN = "application/octet-stream"

# By the bytes at an offset. What a browser would run, as HTML and SVG, is not among them: it stays unknown.
_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (4, b"ftyp", "video/mp4"),
    (0, b"RIFF", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
)


@dataclass(frozen=True, slots=True)
class File:
    """An attachment without its content. lost: why nothing but its size is known."""

    id: UUID
    size: int
    name: str = ""
    media_type: str = ""
    sha256: str = ""
    lost: str = ""


@change
def attach(*, actor: Actor, case_id: UUID, name: str, content: bytes) -> File:
    """Keep a file with the case. Raises NotVisible, Refused, AuditUnavailable."""
    case = case_of(actor, case_id)
    if not may_work(case, actor):
        raise NotVisible("case")
    deeds.require_open(case)
    if not content:
        raise Refused("file_empty", _("This file is empty. Choose another."), "file")
    if len(content) > MOST_BYTES:
        message = _("This file is larger than %(most)s. Split it, or attach an extract.")
        raise Refused("file_too_large", message % {"most": filesizeformat(MOST_BYTES)}, "file")
    row = uuid7()
    facts = {
        "name": clean_file_name(name),
        "media_type": sniff(content),
        "sha256": sha256(content).hexdigest(),
    }
    # Names of files say what is in them, so the event names the digest alone.
    seq = deeds.write(actor, case, Deed.FILE_ADDED, {"file": str(row), "size": len(content), **facts})
    place: dict[str, Any] = {"tenant_id": actor.tenant_id, "case_id": case.pk, "row": row}
    CaseFile.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        size=len(content),
        facts=sealing.seal(facts, field="facts", **place),
        content=sealing.seal_bytes(content, field="content", **place),
    )
    return File(row, len(content), **facts)


def files_of(case: Case) -> list[File]:
    """The attachments of a case, in the order in which they came; inside the tenant's scope."""
    return [_file(case, row) for row in CaseFile.objects.filter(case=case).defer("content").order_by("seq")]


def download(actor: Actor, *, case_id: UUID, file_id: UUID) -> tuple[File, bytes]:
    """A file with its content, after recording who takes it. Raises NotVisible, Refused, AuditUnavailable."""
    case = case_of(actor, case_id)
    row = CaseFile.objects.filter(case=case, pk=file_id).first()
    if row is None:
        raise NotVisible("file of the case")
    record_reading(actor, case, Looked.FILE, about=file_id)
    place: dict[str, Any] = {"tenant_id": actor.tenant_id, "case_id": case.pk, "row": row.pk}
    found = _file(case, row)
    try:
        content = sealing.unseal_bytes(row.content, field="content", **place)
    except (envelope.Tampered, envelope.KeyDestroyed):
        content = b""
    # What its facts say of it is sealed apart, so one of the two alone may have been altered.
    if found.lost or sha256(content).hexdigest() != found.sha256:
        raise Refused("file_lost", _("This file is not what was attached, so it is not given out."))
    return found, content


def sniff(content: bytes) -> str:
    """The media type that the first bytes tell; plain text where all of it is; else "application/octet-stream"."""
    for offset, mark, media_type in _KINDS:
        if content[offset : offset + len(mark)] == mark:
            return media_type
    head = content[:4096]
    if b"<" in head[:512]:
        return UNKNOWN
    try:
        # The cut may fall into the middle of a character.
        text = head.decode("utf-8", errors="strict" if len(content) <= 4096 else "ignore")
    except UnicodeDecodeError:
        return UNKNOWN
    is_plain = b"\x00" not in head and all(each.isprintable() or each in "\r\n\t\ufeff" for each in text)
    return "text/plain" if is_plain else UNKNOWN


def clean_file_name(name: str) -> str:
    """The last part of a path, in one normal form, without what could hide its ending or lead elsewhere."""
    last = unicodedata.normalize("NFC", name[:1000]).replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        "_" if unicodedata.category(each)[0] == "C" or each in '"<>|:*?' else each for each in last
    )
    kept = " ".join(kept.split()).strip(". ")
    if len(kept) > MOST_NAME:
        stem, dot, ending = kept.rpartition(".")
        ending = dot + ending if stem and len(ending) <= 10 else ""
        kept = kept[: MOST_NAME - len(ending)] + ending
    return kept or "file"


def _file(case: Case, row: CaseFile) -> File:
    facts = sealing.shown(row.facts, tenant_id=case.tenant_id, case_id=case.pk, row=row.pk, field="facts")
    return File(row.pk, row.size, **facts)
