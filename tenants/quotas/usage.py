"""Usage by day in the database: what the usage page shows, and what counters are seeded from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import F, Q, Sum

from tenants.groups import members_of
from tenants.ids import uuid7
from tenants.models import ApiKey, Group
from tenants.quotas.counters import period_of
from tenants.quotas.models import SubjectKind, UsageDay
from tenants.quotas.rules import Rule
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one request used, or that it was refused."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    refused: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Who used what, when: the row of UsageDay that a request belongs to."""

    tenant_id: UUID
    day: date
    user_id: UUID | None
    key_id: UUID | None
    route: str
    model: str


_UPSERT = """
INSERT INTO quotas_usageday
    (id, day, user_id, key_id, route, model, requests, prompt_tokens, completion_tokens, cached_tokens, refused)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, day, user_id, key_id, route, model) DO UPDATE SET
    requests = quotas_usageday.requests + EXCLUDED.requests,
    prompt_tokens = quotas_usageday.prompt_tokens + EXCLUDED.prompt_tokens,
    completion_tokens = quotas_usageday.completion_tokens + EXCLUDED.completion_tokens,
    cached_tokens = quotas_usageday.cached_tokens + EXCLUDED.cached_tokens,
    refused = quotas_usageday.refused + EXCLUDED.refused
"""


def add(consumer: Consumer, use: Use) -> None:
    """Add one request's use to its day. Opens the tenant's scope.

    The commit does not wait for the disk: a crash of the database may lose the last half second of these figures, which
    the audit's records have as well, and no request waits for them.
    """
    row = (consumer.day, consumer.user_id, consumer.key_id, consumer.route[:100], consumer.model[:200])
    counts = (use.requests, use.prompt_tokens, use.completion_tokens, use.cached_tokens, use.refused)
    with tenant_scope(consumer.tenant_id), connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit TO OFF")
        cursor.execute(_UPSERT, [uuid7(), *row, *counts])


def spent(tenant_id: UUID, rules: Iterable[Rule], at: datetime) -> dict[Rule, int]:
    """Tokens that each rule's subject used in the rule's period around `at`. Opens the tenant's scope."""
    with tenant_scope(tenant_id):
        return {rule: _spent(rule, at) for rule in rules}


def _spent(rule: Rule, at: datetime) -> int:
    beginning, end = period_of(rule.metric, at)
    days = UsageDay.objects.filter(day__gte=beginning.date(), day__lt=end.date())
    found = days.filter(_of(rule)).aggregate(tokens=Sum(F("prompt_tokens") + F("completion_tokens")))
    return found["tokens"] or 0


def _of(rule: Rule) -> Q:
    """The usage that a rule counts."""
    match rule.kind:
        case SubjectKind.TENANT:
            return Q()
        case SubjectKind.MEMBER:
            return Q(user_id=rule.subject)
        case SubjectKind.KEY:
            successors = _successors(rule.subject) if rule.subject else set()
            return Q(key_id__in=successors)
        case _:
            group = Group.objects.filter(pk=rule.subject).first()
            if group is not None and group.is_everyone:
                return Q()
            members = members_of(group).values("user_id") if group else []
            return Q(user_id__in=members)


def _successors(key_id: UUID) -> set[UUID]:
    """The key and all that replaced it."""
    found: set[UUID] = set()
    newest = {key_id}
    while newest:
        found |= newest
        newest = set(ApiKey.objects.filter(rotates_id__in=newest).values_list("pk", flat=True)) - found
    return found


def days_between(since: date, until: date) -> list[date]:
    """Both ends included."""
    return [since + timedelta(days=number) for number in range((until - since).days + 1)]
