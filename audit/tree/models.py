"""The log of a tenant. All is insert-only but the outbox, which only says what is to be looked at.

None of these tables needs to be believed: heads are signed with a key that the database does not hold, and laid down
with a witness.
"""

from typing import ClassVar

from django.db import models

from tenants import clock
from tenants.models import CurrentTenant, Tenant, TenantModel


class LogModel(TenantModel):
    """The base: rows that outlive the tenant, since what was proven once can be asked for later."""

    privileges: ClassVar[str] = "SELECT, INSERT"

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


class Leaf(LogModel):
    """A closed record's or statement's place. seq counts from 0 without gaps; day and keeping say when it may go.

    request_id: the record's, or the statement's with keeping "statement".
    """

    STATEMENT: ClassVar[str] = "statement"

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("tenant_id", "seq")
    seq = models.BigIntegerField()
    hash = models.BinaryField()
    request_id = models.UUIDField()
    day = models.DateField()
    keeping = models.TextField()

    class Meta:
        db_table = "audit_leaf"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "request_id"], name="audit_leaf_once"),
            models.CheckConstraint(condition=models.Q(seq__gte=0), name="audit_leaf_seq"),
        ]
        indexes = [models.Index(fields=["tenant", "day", "keeping", "seq"], name="audit_leaf_by_day")]

    def __str__(self) -> str:
        return f"{self.seq} {self.request_id}"


class Node(LogModel):
    """The hash of a complete subtree of 2**level leaves, the `position`-th of its level from 0."""

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("tenant_id", "level", "position")
    level = models.SmallIntegerField()
    position = models.BigIntegerField()
    hash = models.BinaryField()

    class Meta:
        db_table = "audit_node"

    def __str__(self) -> str:
        return f"{self.level}/{self.position}"


class Pending(LogModel):
    """The outbox: what was closed and has no place yet. Triggers fill it, the sequencer empties it."""

    privileges: ClassVar[str] = "SELECT, INSERT, DELETE"

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("tenant_id", "request_id")
    request_id = models.UUIDField()
    day = models.DateField()
    is_statement = models.BooleanField(default=False)
    since = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "audit_pending"

    def __str__(self) -> str:
        return str(self.request_id)


class Statement(LogModel):
    """What is stated for ever: `text` is canonical JSON, exactly the bytes that the leaf covers. Ids only, no names.

    signature: the application's, without which a statement gets no place: who holds the database alone states nothing.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.TextField()
    text = models.TextField()
    signature = models.TextField()
    created = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "audit_statement"
        indexes = [models.Index(fields=["tenant", "kind"], name="audit_statement_by_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Checkpoint(LogModel):
    """A head: `note` is the checkpoint signed by the log, as C2SP has it."""

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("tenant_id", "size")
    size = models.BigIntegerField()
    root = models.BinaryField()
    note = models.TextField()
    created = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "audit_checkpoint"

    def __str__(self) -> str:
        return str(self.size)


class Anchoring(LogModel):
    """What came of laying a head down elsewhere. signature: the witness's line; detail: why it was refused, one of anchors.Refusal."""

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, editable=False)
    anchor = models.TextField()
    size = models.BigIntegerField()
    outcome = models.TextField(choices=Outcome)
    signature = models.TextField()
    detail = models.TextField()
    created = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "audit_anchoring"
        indexes = [models.Index(fields=["tenant", "anchor", "size"], name="audit_anchoring_by_size")]

    def __str__(self) -> str:
        return f"{self.anchor} {self.size} {self.outcome}"


class Check(LogModel):
    """A verification of the whole log that somebody asked for: how far it is and what it found."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.UUIDField(primary_key=True, editable=False)
    asked_by = models.UUIDField(null=True)
    created = models.DateTimeField(default=clock.now)
    heard = models.DateTimeField(default=clock.now)
    done = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    finished = models.DateTimeField(null=True)
    report = models.JSONField(null=True)

    class Meta:
        db_table = "audit_check"
        indexes = [models.Index(fields=["tenant", "-created"], name="audit_check_newest")]

    def __str__(self) -> str:
        return str(self.id)
