"""The tables of the index: what a closed record is found by, and the records that wait to be indexed.

Both are made by SQL in the migration; the index has a partition for each UTC day, as the records have.
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from audit.models import AuditModel


class SearchEntry(AuditModel):
    """A closed record in the index.

    words: keyed hashes of what it says and of its names; only the key of its day and tenant tells which is which.
    keeping: under which keys the record is sealed. group_ids: the user's groups when it was indexed. tokens: those read
    and written.
    """

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("day", "request_id")
    request_id = models.UUIDField()
    keeping = models.TextField()
    kind = models.TextField()
    channel = models.TextField()
    user_id = models.UUIDField(null=True)
    user_label = models.TextField()
    group_ids = ArrayField(models.UUIDField())
    model = models.TextField()
    model_version = models.TextField()
    status = models.TextField()
    tokens = models.IntegerField()
    rules = ArrayField(models.TextField())
    risk = models.TextField()
    confined_to = models.UUIDField(null=True)
    words = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "audit_search_entry"

    def __str__(self) -> str:
        return f"{self.kind} {self.request_id}"


class SearchWaiting(AuditModel):
    """A record that is not in the index yet. Put there by a trigger, in the transaction that begins the record."""

    privileges: ClassVar[str] = "SELECT, INSERT, DELETE"

    id = None  # type: ignore[assignment]
    pk = models.CompositePrimaryKey("day", "request_id")
    request_id = models.UUIDField()

    class Meta:
        db_table = "audit_search_waiting"

    def __str__(self) -> str:
        return str(self.request_id)
