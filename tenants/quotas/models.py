"""Limits, usage by day, and storage in use."""

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.models import TenantModel

# Valkey's scripts count in floating point, which is exact up to here.
MOST = 2**53 - 1
MILLION = 1_000_000


class Metric(models.TextChoices):
    REQUESTS_PER_MINUTE = "requests_per_minute", _("Requests per minute")
    TOKENS_PER_MINUTE = "tokens_per_minute", _("Tokens per minute")
    TOKENS_PER_DAY = "tokens_per_day", _("Tokens per day")
    TOKENS_PER_MONTH = "tokens_per_month", _("Tokens per month")
    CONCURRENT_STREAMS = "concurrent_streams", _("Answers at a time")
    STORAGE_BYTES = "storage_bytes", _("Storage in bytes")


class SubjectKind(models.TextChoices):
    TENANT = "tenant", _("Workspace")
    GROUP = "group", _("Group")
    MEMBER = "member", _("Member")
    KEY = "key", _("API key")


class Limit(TenantModel):
    """The most that a subject may use of something.

    subject_id: a group's id, a member's user id or a key's id; None for the tenant itself, and for every member or
    every key that has no limit of its own. A group's limit is shared by all in it; the others count for each alone.
    is_ceiling: set by a platform administrator for the tenant; it binds beside the tenant's own.
    """

    subject_kind = models.CharField(max_length=10, choices=SubjectKind)
    subject_id = models.UUIDField(null=True)
    metric = models.CharField(max_length=30, choices=Metric)
    value = models.BigIntegerField()
    is_ceiling = models.BooleanField(default=False, editable=False)
    changed = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "subject_kind", "subject_id", "metric", "is_ceiling"],
                nulls_distinct=False,
                name="one_limit_of_a_metric",
            ),
            models.CheckConstraint(
                condition=models.Q(value__gte=0, value__lte=MOST), name="limit_can_be_counted"
            ),
            models.CheckConstraint(
                condition=models.Q(is_ceiling=False) | models.Q(subject_kind=SubjectKind.TENANT),
                name="ceilings_are_of_tenants",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.metric} {self.value} of {self.subject_kind} {self.subject_id or ''}".rstrip()


class UsageDay(TenantModel):
    """What one person, or one key, used of one route in one UTC day. Ids, not references: usage outlives who used.

    user_id: the person, also behind a personal key. key_id: None in the chat. requests: those that were answered or
    begun; refused: those that a limit turned away.
    """

    day = models.DateField()
    user_id = models.UUIDField(null=True)
    key_id = models.UUIDField(null=True)
    route = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    requests = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "day", "user_id", "key_id", "route", "model"],
                nulls_distinct=False,
                name="one_usage_a_day",
            )
        ]

    def __str__(self) -> str:
        return f"usage on {self.day}"


class Price(models.Model):
    """What a million tokens of a model cost, in a currency, from a UTC day on. The platform's, the same for every tenant.

    Insert-only: of those that have begun the last one counts, so that usage keeps the price of its day. model: as in
    UsageDay. read: tokens of prompts that were computed; cached: those that the prefix cache had; written: of answers.
    """

    privileges: ClassVar[str] = "SELECT, INSERT"

    model = models.CharField(max_length=200)
    since = models.DateField()
    currency = models.CharField(max_length=3)
    read = models.DecimalField(max_digits=12, decimal_places=4)
    cached = models.DecimalField(max_digits=12, decimal_places=4)
    written = models.DecimalField(max_digits=12, decimal_places=4)
    created = models.DateTimeField(default=clock.now)
    by_label = models.CharField(max_length=254)

    class Meta:
        indexes = [models.Index(fields=["model", "since"], name="price_of_a_model")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(read__gte=0, cached__gte=0, written__gte=0), name="prices_are_not_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(currency__regex="^[A-Z]{3}$"), name="currency_is_a_code"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.since}"

    def cost(self, *, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Decimal:
        """Of so many tokens, in the price's currency; the cached ones are among the prompt's."""
        computed = max(prompt_tokens - cached_tokens, 0)
        return (
            computed * self.read + cached_tokens * self.cached + completion_tokens * self.written
        ) / MILLION


class StorageUse(TenantModel):
    """Bytes that one person, or the tenant itself (user_id None), has stored."""

    user_id = models.UUIDField(null=True)
    stored = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user_id"], nulls_distinct=False, name="one_storage_use_a_person"
            ),
            models.CheckConstraint(condition=models.Q(stored__gte=0), name="storage_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.stored} bytes"
