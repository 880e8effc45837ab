"""Knowledge bases and their documents, for keys of the scopes knowledge.read and knowledge.write of those who curate.

Programs reach what everyone was granted; a person's own key reaches what that person does.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Query, Router
from pydantic import BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Input, Page, Paged, Text, Word, left_out
from knowledge import access, bases, documents, selectors, uploads
from knowledge.models import Document, State, Upload, Version
from tenants.words import search_words

router = Router(tags=["Knowledge bases"])
files = Router(tags=["Documents"])
sending = Router(tags=["Uploads"])

_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class BaseOut(BaseModel):
    """`documents`: how many the key may read, by the state of their newest version."""

    id: UUID
    name: str
    description: str
    embedding_model: str = Field(description="A route to an embedding model; empty for words alone.")
    documents: dict[str, int]
    created: datetime
    updated: datetime


class NewBase(Input):
    name: Word
    description: Text = ""
    embedding_model: Word = ""


class BaseChange(Input):
    name: Word = left_out()
    description: Text = left_out()
    embedding_model: Word = left_out()


class VersionOut(BaseModel):
    """`valid_until`: that day not included. `error_code`: why it failed, or what it waits for."""

    id: UUID
    number: int
    state: State
    error_code: str
    media_type: str
    size: int
    passages: int
    valid_from: date | None
    valid_until: date | None
    created: datetime


class DocumentOut(BaseModel):
    """With its versions, the newest first; in lists the newest alone."""

    id: UUID
    base_id: UUID
    folder_id: UUID | None
    name: str
    tags: list[str]
    is_restricted: bool
    created: datetime
    updated: datetime
    versions: list[VersionOut]


class DocumentChange(Input):
    name: Word = left_out()
    tags: list[Word] = Field(default_factory=lambda: None, max_length=documents.MOST_TAGS)  # type: ignore[arg-type]


class Search(Input):
    search: Word = Field("", description="A part of the name.")


class DocumentSearch(Search):
    state: Literal["", "waiting", "parsing", "indexing", "ready", "failed", "cancelled"] = ""


class FileFacts(Input):
    """About the file in the body."""

    name: Word = Field("", description="Of the file, with its ending.")
    document_id: UUID | None = Field(None, description="Of which it is a further version.")
    valid_from: date | None = None
    valid_until: date | None = None
    twice: bool = Field(False, description="Also where the base has this file already.")


class NewUpload(Input):
    name: Word
    size: int = Field(description="Bytes.")
    document_id: UUID | None = Field(None, description="Of which it is a further version.")


class Offset(Input):
    offset: int = Field(0, ge=0, description="Where in the file the piece begins.")


class Finish(Input):
    valid_from: date | None = None
    valid_until: date | None = None
    twice: bool = Field(False, description="Also where the base has this file already.")


class UploadOut(BaseModel):
    """`received` bytes are there; pieces have `piece` bytes each, the last one what is left."""

    id: UUID
    size: int
    received: int
    piece: int


class Reindexed(BaseModel):
    versions: int


# --- Bases --------------------------------------------------------------------------------------------


@router.get("", response=Page[BaseOut], summary="List knowledge bases")
def list_bases(
    request: ManagementRequest, paging: Paged, wanted: Annotated[Search, Query()]
) -> Page[BaseOut]:
    found = selectors.bases_of(request.auth, search_words(wanted.search))
    start = (paging.page - 1) * paging.size
    shown = [_base(each) for each in found[start : start + paging.size]]
    return Page(items=shown, total=len(found), page=paging.page, size=paging.size)


@router.post("", response={201: BaseOut}, summary="Create a knowledge base")
def create_base(request: ManagementRequest, body: NewBase) -> BaseOut:
    """Of the person whose key it is; programs own none."""
    made = bases.make_base(actor=request.auth, **body.model_dump())
    return _base(selectors.one_base(request.auth, made.pk))


@router.get("/{uuid:base_id}", response=BaseOut, summary="Get a knowledge base")
def get_base(request: ManagementRequest, base_id: UUID) -> BaseOut:
    return _base(selectors.one_base(request.auth, base_id))


@router.patch("/{uuid:base_id}", response=BaseOut, summary="Change a knowledge base")
def change_base(request: ManagementRequest, base_id: UUID, body: BaseChange) -> BaseOut:
    bases.change_base(actor=request.auth, base_id=base_id, **body.model_dump(exclude_unset=True))
    return _base(selectors.one_base(request.auth, base_id))


@router.delete("/{uuid:base_id}", response={204: None}, summary="Delete a knowledge base")
def delete_base(request: ManagementRequest, base_id: UUID) -> None:
    """With all its documents."""
    bases.delete_base(actor=request.auth, base_id=base_id)


@router.post("/{uuid:base_id}/reindex", response=Reindexed, summary="Read all files of a base anew")
def reindex_base(request: ManagementRequest, base_id: UUID) -> Reindexed:
    return Reindexed(versions=documents.reindex_base(actor=request.auth, base_id=base_id))


@router.get("/{uuid:base_id}/documents", response=Page[DocumentOut], summary="List a base's documents")
def list_documents(
    request: ManagementRequest, base_id: UUID, paging: Paged, wanted: Annotated[DocumentSearch, Query()]
) -> Page[DocumentOut]:
    """The last changed first."""
    base = access.access_base(request.auth, base_id)
    found = selectors.documents_in(request.auth, base)
    if wanted.state:
        found = selectors.in_state(found, wanted.state)
    if words := search_words(wanted.search):
        found = found.filter(pk__in=selectors.matching(found, words))
    start = (paging.page - 1) * paging.size
    shown = selectors.listed(list(found[start : start + paging.size]))
    items = [_document(each.document, [each.version]) for each in shown]
    return Page(items=items, total=found.count(), page=paging.page, size=paging.size)


@router.post(
    "/{uuid:base_id}/documents",
    response={201: DocumentOut},
    summary="Upload a document",
    openapi_extra=_FILE,
)
def upload_document(
    request: ManagementRequest, base_id: UUID, about: Annotated[FileFacts, Query()]
) -> DocumentOut:
    """The body is the file, of at most 2 MB; larger ones are sent in pieces, see Uploads."""
    access.access_base(request.auth, base_id)
    version = uploads.upload(actor=request.auth, base_id=base_id, content=request.body, **about.model_dump())
    return _document(version.document, [version])


@router.post("/{uuid:base_id}/uploads", response={201: UploadOut}, summary="Begin an upload")
def begin_upload(request: ManagementRequest, base_id: UUID, body: NewUpload) -> UploadOut:
    access.access_base(request.auth, base_id)
    return _upload(uploads.begin(actor=request.auth, base_id=base_id, **body.model_dump()))


# --- Uploads ------------------------------------------------------------------------------------------


@sending.put(
    "/{uuid:upload_id}", response=UploadOut, summary="Send a piece of an upload", openapi_extra=_FILE
)
def add_piece(request: ManagementRequest, upload_id: UUID, at: Annotated[Offset, Query()]) -> UploadOut:
    """The body is the piece. One at another place than the file's end changes nothing: `received` says where to go on."""
    upload = uploads.upload_of(request.auth, upload_id)
    try:
        upload.received = uploads.add_piece(
            actor=request.auth, upload_id=upload_id, offset=at.offset, content=request.body
        )
    except uploads.WrongPlace as wrong:
        upload.received = wrong.received
    return _upload(upload)


@sending.post("/{uuid:upload_id}/finish", response={201: DocumentOut}, summary="Finish an upload")
def finish_upload(request: ManagementRequest, upload_id: UUID, body: Finish) -> DocumentOut:
    version = uploads.finish(actor=request.auth, upload_id=upload_id, **body.model_dump())
    return _document(version.document, [version])


@sending.delete("/{uuid:upload_id}", response={204: None}, summary="Give an upload up")
def drop_upload(request: ManagementRequest, upload_id: UUID) -> None:
    uploads.drop(actor=request.auth, upload_id=upload_id)


# --- Documents ----------------------------------------------------------------------------------------


@files.get("/{uuid:document_id}", response=DocumentOut, summary="Get a document")
def get_document(request: ManagementRequest, document_id: UUID) -> DocumentOut:
    document = access.access_document(request.auth, document_id)
    return _document(document, selectors.versions_of(document))


@files.patch("/{uuid:document_id}", response=DocumentOut, summary="Change a document")
def change_document(request: ManagementRequest, document_id: UUID, body: DocumentChange) -> DocumentOut:
    changes = body.model_dump(exclude_unset=True)
    document = documents.change_document(actor=request.auth, document_id=document_id, **changes)
    return _document(document, selectors.versions_of(document))


@files.delete("/{uuid:document_id}", response={204: None}, summary="Delete a document")
def delete_document(request: ManagementRequest, document_id: UUID) -> None:
    """With all its versions."""
    documents.delete_document(actor=request.auth, document_id=document_id)


@files.post("/{uuid:document_id}/reindex", response=DocumentOut, summary="Read a document anew")
def reindex_document(request: ManagementRequest, document_id: UUID) -> DocumentOut:
    """Its newest version. Refused while that is at work."""
    document = access.access_document(request.auth, document_id)
    newest = selectors.versions_of(document)[0]
    documents.reindex(actor=request.auth, version_id=newest.pk)
    return _document(document, selectors.versions_of(document))


# --- Parts --------------------------------------------------------------------------------------------


def _base(listed: selectors.ListedBase) -> BaseOut:
    return BaseOut(
        id=listed.base.pk,
        name=listed.name,
        description=listed.description,
        embedding_model=listed.base.embedding_model,
        documents=listed.counts,
        created=listed.base.created,
        updated=listed.base.updated,
    )


def _document(document: Document, versions: list[Version]) -> DocumentOut:
    return DocumentOut(
        id=document.pk,
        base_id=document.base_id,
        folder_id=document.folder_id,
        name=documents.name_of(document),
        tags=documents.tags_of(document),
        is_restricted=document.is_restricted,
        created=document.created,
        updated=document.updated,
        versions=[_version(each) for each in versions],
    )


def _version(version: Version) -> VersionOut:
    return VersionOut(
        id=version.pk,
        number=version.number,
        state=State(version.state),
        error_code=version.error_code,
        media_type=version.media_type,
        size=version.size,
        passages=version.chunk_count,
        valid_from=version.valid_from,
        valid_until=version.valid_until,
        created=version.created,
    )


def _upload(upload: Upload) -> UploadOut:
    return UploadOut(id=upload.pk, size=upload.size, received=upload.received, piece=uploads.PIECE_BYTES)
