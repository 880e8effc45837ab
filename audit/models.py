"""The audit tables: insert-only, one partition a UTC day, content sealed.

The tables are made by SQL in the first migration, since Django knows no partitions. Every row carries the day of its
request, taken from the request's id, so a query by id touches one partition. Foreign keys are left out on purpose: a
day must be droppable by itself, and triggers keep the chunks of a record in order and a closed record closed.
"""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.models import CurrentTenant, Tenant, TenantModel


class Status(models.TextChoices):
    """How a request ended."""

    COMPLETED = "completed", _("Completed")
    STOPPED = "stopped", _("Stopped")
    DISCONNECTED = "disconnected", _("Disconnected")
    INTERRUPTED = "interrupted", _("Interrupted")
    FAILED = "failed", _("Failed")
    TIMED_OUT = "timed_out", _("Timed out")
    REFUSED = "refused", _("Refused")


class AuditModel(TenantModel):
    """The base of the audit tables: insert-only rows of one day and tenant."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    day = models.DateField()
    # Records outlive what they speak of, and a foreign key would lock the tenant's row on every insert.
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        related_name="+",
        editable=False,
        db_constraint=False,
        db_index=False,
        db_default=CurrentTenant(),
    )

    class Meta:
        abstract = True


class AuditRecord(AuditModel):
    """The intent: who is about to do what. `input` and `parameters` are ciphertext of JSON.

    kind: "generation", or the name of another event such as "audit.read".
    created: the time in the request's id, so that ids and times order alike.
    subject_id: the record an event is about, as the one that was opened.
    context: ciphertext of JSON: what the model was given beside the input (passages, texts of attachments); NULL: nothing.
    confined_to: the case that an event belongs to; those outside of the case do not see that there is such an event.
    schema: which fields the leaf covers (audit.leaf).
    """

    pk = models.CompositePrimaryKey("day", "id")
    id = models.UUIDField(editable=False)
    kind = models.TextField()
    channel = models.TextField()
    user_id = models.UUIDField(null=True)
    user_label = models.TextField()
    api_key_id = models.UUIDField(null=True)
    session_ref = models.TextField()
    model = models.TextField()
    model_version = models.TextField()
    adapter = models.TextField(default="")
    deployment = models.TextField(default="")
    route = models.TextField()
    route_reason = models.TextField()
    client_address = models.TextField()
    conversation_id = models.UUIDField(null=True)
    subject_id = models.UUIDField(null=True)
    confined_to = models.UUIDField(null=True)
    created = models.DateTimeField()
    schema = models.SmallIntegerField(db_default=2)
    input = models.BinaryField()
    parameters = models.BinaryField()
    context = models.BinaryField(null=True)

    class Meta:
        db_table = "audit_record"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class AuditChunk(AuditModel):
    """A piece of a generation's output: `sealed` is ciphertext of UTF-8 text, `size` the bytes of that text."""

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("day", "request_id", "seq")
    request_id = models.UUIDField()
    seq = models.IntegerField()
    size = models.IntegerField()
    sealed = models.BinaryField()
    created = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "audit_chunk"

    def __str__(self) -> str:
        return f"{self.request_id} {self.seq}"


class AuditCompletion(AuditModel):
    """The end of a record. Token counts and timings (ms) are NULL when nobody is left who knows them."""

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("day", "request_id")
    request_id = models.UUIDField()
    status = models.TextField(choices=Status)
    finish_reason = models.TextField()
    error_code = models.TextField()
    prompt_tokens = models.IntegerField(null=True)
    completion_tokens = models.IntegerField(null=True)
    cached_tokens = models.IntegerField(null=True)
    queue_ms = models.IntegerField(null=True)
    ttft_ms = models.IntegerField(null=True)
    total_ms = models.IntegerField(null=True)
    itl_p50_ms = models.FloatField(null=True)
    chunk_count = models.IntegerField()
    output_bytes = models.BigIntegerField()
    ciphertext_digest = models.BinaryField()
    leaf_digest = models.BinaryField()
    created = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "audit_completion"

    def __str__(self) -> str:
        return f"{self.request_id} {self.status}"

    @property
    def tokens_per_s(self) -> float | None:
        return speed(self.completion_tokens, ttft_ms=self.ttft_ms, total_ms=self.total_ms)


def speed(completion_tokens: int | None, *, ttft_ms: int | None, total_ms: int | None) -> float | None:
    """Tokens per second after the first token; None for answers of one token or none."""
    tokens = completion_tokens or 0
    if ttft_ms is None or total_ms is None or tokens < 2:
        return None
    return round((tokens - 1) / (max(total_ms - ttft_ms, 1) / 1000), 1)
