"""Limits of what the tenant, its groups, members and keys may use; and what was used."""

from __future__ import annotations

import csv
from datetime import date, datetime
from io import StringIO
from typing import Annotated, Literal
from uuid import UUID

from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Input
from tenants.actors import require
from tenants.quotas import selectors, services
from tenants.quotas.models import MOST, Metric, SubjectKind
from tenants.quotas.selectors import LimitRow, UsageRow
from tenants.roles import USAGE_VIEW

limits = Router(tags=["Quotas"])
usage = Router(tags=["Usage"])


class Subject(Input):
    """Whom a limit is for.

    `subject_id`: a group's id, a member's `user_id` or a key's id; null for the tenant, for every member without a limit
    of their own, and for every key without one.
    """

    subject_kind: SubjectKind
    subject_id: UUID | None = None
    metric: Metric


class NewLimit(Subject):
    value: int = Field(ge=0, le=MOST, description="0 allows nothing.")


class Limit(BaseModel):
    """A limit and where it stands; `used` is null where it is not known, or counted for each member or key alone."""

    id: UUID
    subject_kind: SubjectKind
    subject_id: UUID | None
    subject: str
    metric: Metric
    value: int
    is_ceiling: bool = Field(description="Set by the platform.")
    used: int | None
    percent: int | None
    resets: datetime | None


class UsageQuery(Input):
    since: date
    until: date = Field(description="Included.")


class UsageByQuery(UsageQuery):
    by: Literal["day", "member", "model", "key"] = "day"


class Usage(BaseModel):
    """`key`: a day, a user's id, a route's name or a key's id, as asked; `label`: the same in words."""

    key: str
    label: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    refused: int


@limits.get("", response=list[Limit], summary="List limits")
def list_limits(request: ManagementRequest) -> list[Limit]:
    """All of the tenant, the platform's ceilings first, with where they stand."""
    return [_limit(row) for row in selectors.limits(request.auth)]


@limits.put("", response={204: None}, summary="Set a limit")
def set_limit(request: ManagementRequest, body: NewLimit) -> None:
    """Binding at once, within a second in all processes."""
    services.set_limit(actor=request.auth, **body.model_dump())


@limits.delete("", response={204: None}, summary="Remove a limit")
def remove_limit(request: ManagementRequest, wanted: Annotated[Subject, Query()]) -> None:
    services.remove_limit(actor=request.auth, **wanted.model_dump())


@usage.get("", response=list[Usage], summary="Get usage")
def get_usage(request: ManagementRequest, wanted: Annotated[UsageByQuery, Query()]) -> list[Usage]:
    """By day every day, in order; otherwise whoever used most first. At most 366 days."""
    require(request.auth, USAGE_VIEW)
    rows = selectors.usage(request.auth, since=wanted.since, until=wanted.until, by=wanted.by)
    return [_usage(row) for row in rows]


@usage.get(
    "/csv",
    summary="Get usage as CSV",
    openapi_extra={"responses": {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}},
)
def get_usage_csv(request: ManagementRequest, wanted: Annotated[UsageQuery, Query()]) -> HttpResponse:
    """A row for each day, member, key, route and model."""
    require(request.auth, USAGE_VIEW)
    out = StringIO()
    csv.writer(out).writerows(selectors.usage_csv(request.auth, since=wanted.since, until=wanted.until))
    return HttpResponse(out.getvalue(), content_type="text/csv")


def _limit(row: LimitRow) -> Limit:
    standing = row.standing
    return Limit(
        id=row.limit.pk,
        subject_kind=SubjectKind(row.limit.subject_kind),
        subject_id=row.limit.subject_id,
        subject=row.subject,
        metric=Metric(row.limit.metric),
        value=row.limit.value,
        is_ceiling=row.limit.is_ceiling,
        used=standing.used if standing else None,
        percent=standing.percent if standing else None,
        resets=standing.resets if standing else None,
    )


def _usage(row: UsageRow) -> Usage:
    return Usage(
        key=row.key,
        label=row.label,
        requests=row.requests,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        refused=row.refused,
    )
