"""Bases, documents and their versions, and what is indexed of them.

Names, tags and texts are sealed; the rest are plain columns. The index holds keyed hashes of words (`Posting`) and
vectors (`Vector`): docs/security.md says what those give away.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from pgvector.django import HalfVectorField

from tenants import clock
from tenants.access import GroupGrant, Kind, UserGrant, register
from tenants.models import TenantModel, TenantOwned
from tenants.roles import API_USE, CHAT_USE, KNOWLEDGE_CURATE


class Base(TenantModel):
    """A collection of documents that is asked as one. Viewers ask it, editors fill it, owners share and delete it.

    embedding_model: by which its chunks are compared with questions; "" for words alone. options: see retrieval.options.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    sealed_name = models.BinaryField()
    sealed_description = models.BinaryField(default=b"")
    embedding_model = models.CharField(max_length=200, blank=True, default="")
    options = models.JSONField(default=dict)
    created = models.DateTimeField(default=clock.now)
    updated = models.DateTimeField(default=clock.now)
    served = models.DateTimeField(
        null=True, help_text="When a worker last worked for it: whose turn is next."
    )

    class Meta:
        verbose_name = _("knowledge base")
        verbose_name_plural = _("knowledge bases")

    def __str__(self) -> str:
        return str(self.pk)


class BaseUserGrant(UserGrant):
    """What a person may do with a base."""

    content_object = models.ForeignKey(Base, on_delete=models.CASCADE)


class BaseGroupGrant(GroupGrant):
    """What a group's people may do with a base."""

    content_object = models.ForeignKey(Base, on_delete=models.CASCADE)


BASES = register(
    Kind(
        model=Base,
        user_grants=BaseUserGrant,
        group_grants=BaseGroupGrant,
        requires=frozenset({CHAT_USE, API_USE, KNOWLEDGE_CURATE}),
        describe=lambda base: f"{base.owner.email} · {base.pk.hex[-6:]} · {base.created:%Y-%m-%d}",
        related=("owner",),
        search=("owner__email", "owner__name"),
        ordering=("-updated", "-pk"),
        owner_field="owner",
    )
)


class Folder(TenantModel):
    """A place for documents in a base; folders stand in one another."""

    base = models.ForeignKey(Base, on_delete=models.CASCADE, related_name="folders")
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="folders")
    sealed_name = models.BinaryField()
    created = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return str(self.pk)


class Document(TenantModel):
    """Something that people know by one name, whatever becomes of its text: see `Version`.

    is_restricted: only whom it is granted to reads it, of those who may ask the base; otherwise everyone of them.
    """

    base = models.ForeignKey(Base, on_delete=models.CASCADE, related_name="documents")
    folder = models.ForeignKey(Folder, null=True, on_delete=models.SET_NULL, related_name="documents")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    sealed_name = models.BinaryField()
    sealed_tags = models.BinaryField(default=b"", help_text="JSON: a list of words.")
    is_restricted = models.BooleanField(default=False)
    created = models.DateTimeField(default=clock.now)
    updated = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        indexes = [models.Index(fields=["base", "-updated"], name="knowledge_document_recent")]

    def __str__(self) -> str:
        return str(self.pk)


class DocumentUserGrant(UserGrant):
    """What a person may do with a restricted document."""

    content_object = models.ForeignKey(Document, on_delete=models.CASCADE)


class DocumentGroupGrant(GroupGrant):
    """What a group's people may do with a restricted document."""

    content_object = models.ForeignKey(Document, on_delete=models.CASCADE)


DOCUMENTS = register(
    Kind(
        model=Document,
        user_grants=DocumentUserGrant,
        group_grants=DocumentGroupGrant,
        requires=frozenset({CHAT_USE, API_USE, KNOWLEDGE_CURATE}),
        describe=lambda document: (
            f"{document.owner.email} · {document.pk.hex[-6:]} · {document.created:%Y-%m-%d}"
        ),
        related=("owner",),
        search=("owner__email", "owner__name"),
        ordering=("-updated", "-pk"),
        owner_field="owner",
    )
)


class State(models.TextChoices):
    WAITING = "waiting", pgettext_lazy("state of a document", "Waiting")
    PARSING = "parsing", pgettext_lazy("state of a document", "Being read")
    INDEXING = "indexing", pgettext_lazy("state of a document", "Being indexed")
    READY = "ready", pgettext_lazy("state of a document", "Ready")
    FAILED = "failed", pgettext_lazy("state of a document", "Failed")
    CANCELLED = "cancelled", pgettext_lazy("state of a document", "Cancelled")


class Version(TenantModel):
    """One file of a document, and how far it has come. Its text never changes; a further file is a further version.

    valid_from, valid_until: the days on which it holds, the second not included; None for always. The version that holds
    today is what is asked, unless a question names a day. digest: a keyed hash of the file, to find duplicates in a base.
    lengths: terms of each chunk, as little-endian 16-bit numbers. sealed_text: the whole text, which chunks index into.
    done, total: pieces of the present step. attempt: counts who worked on it, so that work that was overtaken changes
    nothing. due: from when a worker may take it up; the one that works keeps it ahead of now. deaths: of workers while
    they read it.
    """

    base = models.ForeignKey(Base, on_delete=models.CASCADE, related_name="versions")
    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    sealed_file_name = models.BinaryField()
    media_type = models.CharField(max_length=100, blank=True, default="")
    size = models.PositiveBigIntegerField()
    digest = models.BinaryField()
    valid_from = models.DateField(null=True)
    valid_until = models.DateField(null=True)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    error_code = models.CharField(max_length=40, blank=True, default="")
    attempt = models.PositiveIntegerField(default=1)
    deaths = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    language = models.CharField(max_length=8, blank=True, default="")
    characters = models.PositiveIntegerField(default=0)
    chunk_count = models.PositiveIntegerField(default=0)
    page_count = models.PositiveIntegerField(default=0)
    sealed_text = models.BinaryField(default=b"")
    sealed_layout = models.BinaryField(default=b"", help_text="JSON: blocks, pages, title, warnings.")
    lengths = models.BinaryField(default=b"")
    created = models.DateTimeField(default=clock.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    due = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("version of a document")
        constraints = [
            models.UniqueConstraint(fields=["document", "number"], name="knowledge_version_number"),
            models.CheckConstraint(
                condition=models.Q(valid_until__isnull=True)
                | models.Q(valid_from__isnull=True)
                | models.Q(valid_until__gt=models.F("valid_from")),
                name="knowledge_version_days",
            ),
        ]
        indexes = [
            models.Index(fields=["base", "digest"], name="knowledge_version_digest"),
            models.Index(
                fields=["base", "due"],
                name="knowledge_version_at_work",
                condition=models.Q(state__in=["waiting", "parsing", "indexing"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.document_id} {self.number}"


class Upload(TenantModel):
    """A file that is on its way, piece by piece; then it becomes a version. size, received: bytes.

    document: of which it will be a further version; None for a document of its own, in `folder`.
    """

    base = models.ForeignKey(Base, on_delete=models.CASCADE, related_name="+")
    folder = models.ForeignKey(Folder, null=True, on_delete=models.SET_NULL, related_name="+")
    document = models.ForeignKey(Document, null=True, on_delete=models.CASCADE, related_name="+")
    by_label = models.CharField(max_length=500)
    sealed_name = models.BinaryField()
    size = models.PositiveBigIntegerField()
    received = models.PositiveBigIntegerField(default=0)
    touched = models.DateTimeField(default=clock.now, help_text="When a piece last came.")

    def __str__(self) -> str:
        return str(self.pk)


class Piece(TenantModel):
    """A part of a file as it came, sealed: of a version, or of an upload as long as it goes on."""

    version = models.ForeignKey(Version, null=True, on_delete=models.CASCADE, related_name="pieces")
    upload = models.ForeignKey(Upload, null=True, on_delete=models.CASCADE, related_name="pieces")
    number = models.PositiveIntegerField()
    sealed = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "number"], name="knowledge_piece_in_order"),
            models.UniqueConstraint(fields=["upload", "number"], name="knowledge_piece_of_upload"),
            models.CheckConstraint(
                condition=models.Q(version__isnull=True) ^ models.Q(upload__isnull=True),
                name="knowledge_piece_of_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version_id or self.upload_id} {self.number}"


class Chunk(TenantModel):
    """A passage of a version: what is found, shown and cited. `start` and `end` are characters of the version's text."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="chunks")
    ordinal = models.PositiveIntegerField()
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    page_from = models.PositiveIntegerField(null=True)
    page_to = models.PositiveIntegerField(null=True)
    language = models.CharField(max_length=8, blank=True, default="")
    sealed = models.BinaryField(help_text="JSON: text and headings.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "ordinal"], name="knowledge_chunk_in_order")
        ]

    def __str__(self) -> str:
        return f"{self.version_id} {self.ordinal}"


class Posting(TenantOwned):
    """In which chunks of a version a word stands: the word as a keyed hash under the base's key.

    packed: for each such chunk its ordinal (16 bits) and how often (16 bits), little-endian, in order.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, DELETE"

    id = models.BigAutoField(primary_key=True)
    base = models.ForeignKey(Base, on_delete=models.CASCADE, related_name="+", db_index=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="+")
    term = models.BigIntegerField()
    packed = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["base", "term", "version"], name="knowledge_posting_of_term")
        ]

    def __str__(self) -> str:
        return f"{self.base_id} {self.term}"


class Vector(TenantOwned):
    """The embedding of a chunk by one model, of length 1. A base that changes its model has both for a while.

    The dimensions are the model's; indexes exist for the usual ones (see the migration).
    """

    privileges: ClassVar[str] = "SELECT, INSERT, DELETE"

    id = models.BigAutoField(primary_key=True)
    base = models.ForeignKey(Base, on_delete=models.CASCADE, related_name="+")
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="+")
    chunk = models.ForeignKey(Chunk, on_delete=models.CASCADE, related_name="vectors")
    model = models.CharField(max_length=200)
    values = HalfVectorField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chunk", "model"], name="knowledge_vector_of_model")]

    def __str__(self) -> str:
        return f"{self.chunk_id} {self.model}"
