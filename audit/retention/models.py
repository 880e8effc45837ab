"""Policies, notices, tombstones, holds, and what two people decide together.

All of it is insert-only for the application's role. Times that matter for what may be destroyed are set by triggers
from the database's clock, and rows are ended by functions of the owner, which check first (migration 0002).
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.record import Keeping
from tenants.models import TenantModel

KEEPINGS = [(keeping.value, keeping.value) for keeping in Keeping]


class InsertOnly(TenantModel):
    """What the application may add and read, never change or delete."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    class Meta:
        abstract = True


class Policy(InsertOnly):
    """For how many days records are kept, from when on. Whichever was added last counts, once it takes effect.

    number: counts the policies of a tenant and keeping. effective: at once when it lengthens, a day later when it
    shortens; a newer policy takes the place of one that has not taken effect.
    """

    keeping = models.CharField(max_length=32, choices=KEEPINGS)
    days = models.PositiveSmallIntegerField()
    number = models.IntegerField(default=0, editable=False)
    created = models.DateTimeField(null=True, editable=False)
    effective = models.DateTimeField(null=True, editable=False)
    decided_by = models.UUIDField(null=True)
    decided_label = models.CharField(max_length=320)

    class Meta:
        db_table = "audit_retention_policy"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(days__gte=1, days__lte=3650), name="retention_within_bounds"
            ),
            models.UniqueConstraint(fields=["tenant", "keeping", "number"], name="one_policy_a_number"),
        ]

    def __str__(self) -> str:
        return f"{self.keeping}: {self.days} days"


class Notice(InsertOnly):
    """That a day will go, said a day before. Nobody shortens that."""

    keeping = models.CharField(max_length=32, choices=KEEPINGS)
    day = models.DateField()
    announced = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "audit_retention_notice"
        indexes = [models.Index(fields=["tenant", "keeping", "day"], name="retention_notice_of_day")]

    def __str__(self) -> str:
        return f"{self.keeping} of {self.day}"


class Tombstone(InsertOnly):
    """What went, and the statement that says so.

    count: records. first, last: the leaves that stand for them, and others between. root: over their hashes.
    finished: when the rows were gone.
    """

    keeping = models.CharField(max_length=32, choices=KEEPINGS)
    day = models.DateField()
    count = models.IntegerField()
    size = models.BigIntegerField(default=0, help_text="Bytes of output that went.")
    first = models.BigIntegerField(null=True)
    last = models.BigIntegerField(null=True)
    root = models.BinaryField()
    days = models.PositiveSmallIntegerField(help_text="The policy under which it went.")
    statement = models.UUIDField(null=True)
    created = models.DateTimeField(null=True, editable=False)
    finished = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "audit_retention_tombstone"
        indexes = [models.Index(fields=["tenant", "keeping", "day"], name="retention_tombstone_of_day")]

    def __str__(self) -> str:
        return f"{self.keeping} of {self.day}: {self.count}"


class Hold(InsertOnly):
    """A record that a case needs: its facts, and its ciphertexts with its own key, sealed under the case's key.

    metadata: as audit.leaf has it. sealed: see `audit.retention.holds`; `key_day` names the key of the case. salt:
    with it the statement of the hold can be checked, and without it nobody learns from that what is held.
    """

    case_id = models.UUIDField()
    request_id = models.UUIDField()
    day = models.DateField()
    metadata = models.JSONField()
    ciphertext_digest = models.BinaryField()
    leaf_digest = models.BinaryField()
    sealed = models.BinaryField()
    sealed_digest = models.BinaryField()
    key_day = models.DateField()
    salt = models.BinaryField()
    statement = models.UUIDField(null=True)
    placed_by = models.UUIDField(null=True)
    placed_label = models.CharField(max_length=320)
    created = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "audit_hold"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "case_id", "request_id"], name="one_hold_a_case_and_record"
            )
        ]
        indexes = [models.Index(fields=["tenant", "request_id"], name="hold_of_record")]

    def __str__(self) -> str:
        return f"{self.request_id} for {self.case_id}"


class Deed(InsertOnly):
    """What two people decide and a day later is done: releasing a case's holds, or erasing a person's content.

    subject_id: the case, or the person. request_ids: of a release; none: all of the case. done: set when it is done.
    reason: sealed. facts: what was found when it was done, as {"count": …}.
    """

    class Kind(models.TextChoices):
        RELEASE = "release", _("Release of holds")
        ERASURE = "erasure", _("Erasure on request")

    class Basis(models.TextChoices):
        GDPR = "gdpr_17", _("GDPR, Article 17")
        PIPL = "pipl_47", _("PIPL, Article 47")
        CCPA = "ccpa_105", _("CCPA, section 1798.105")
        OTHER = "other", _("Another law or agreement")

    class Metadata(models.TextChoices):
        KEPT = "kept", _("Keep who, when and which model")
        PSEUDONYMISED = "pseudonymised", _("Replace who it was")

    kind = models.CharField(max_length=16, choices=Kind)
    subject_id = models.UUIDField()
    request_ids = ArrayField(models.UUIDField(), default=list)
    basis = models.CharField(max_length=16, choices=Basis, blank=True)
    metadata = models.CharField(max_length=16, choices=Metadata, default=Metadata.KEPT)
    reason = models.BinaryField()
    requested_by = models.UUIDField()
    requested_label = models.CharField(max_length=320)
    created = models.DateTimeField(null=True, editable=False)
    done = models.DateTimeField(null=True, editable=False)
    count = models.IntegerField(null=True, editable=False, help_text="Records that were concerned.")

    class Meta:
        db_table = "audit_retention_deed"
        indexes = [models.Index(fields=["tenant", "kind", "subject_id"], name="retention_deed_of_subject")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject_id}"


class Verdict(InsertOnly):
    """What somebody else decided about a deed, or that it was called off before it was done. reason: sealed."""

    class Outcome(models.TextChoices):
        APPROVED = "approved", _("Approved")
        REFUSED = "refused", _("Refused")
        WITHDRAWN = "withdrawn", _("Called off")

    deed = models.ForeignKey(Deed, on_delete=models.DO_NOTHING, related_name="verdicts", db_constraint=False)
    outcome = models.CharField(max_length=16, choices=Outcome)
    reason = models.BinaryField()
    decided_by = models.UUIDField()
    decided_label = models.CharField(max_length=320)
    created = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "audit_retention_verdict"
        indexes = [models.Index(fields=["tenant", "deed"], name="retention_verdict_of_deed")]

    def __str__(self) -> str:
        return f"{self.outcome}: {self.deed_id}"


class Erased(TenantModel):
    """That a record's content was erased on request. Written by the function that erases, and by nothing else."""

    privileges: ClassVar[str] = "SELECT"

    deed = models.ForeignKey(Deed, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False)
    request_id = models.UUIDField()
    day = models.DateField()

    class Meta:
        db_table = "audit_erased"
        constraints = [models.UniqueConstraint(fields=["tenant", "request_id"], name="erased_once")]

    def __str__(self) -> str:
        return f"{self.request_id}"
