"""Whose requests a span of time held: by tenant and by model. Counts; the way to the records is for those who may list them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from audit import statistics
from console.monitoring import reading
from console.pages.monitoring.dashboard import WINDOWS
from console.pages.navigation import person
from console.tenancy import platform_view
from tenants import clock
from tenants.access import Actor, NotVisible, actor_for_user
from tenants.actors import platform_actor
from tenants.models import Tenant
from tenants.roles import AUDIT_LIST

LONGEST = timedelta(hours=24)
MOST_TENANTS = 200


@dataclass
class Sum:
    """What is counted of a tenant or a model. ttft: by statistics.TTFT_BOUNDS_MS."""

    name: str
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: list[int] = field(default_factory=lambda: [0] * (len(statistics.TTFT_BOUNDS_MS) + 1))
    slug: str = ""
    may_list: bool = False

    def add(self, row: dict[str, Any]) -> None:
        for name in ("requests", "errors", "prompt_tokens", "completion_tokens"):
            setattr(self, name, getattr(self, name) + row[name])
        self.ttft = [own + other for own, other in zip(self.ttft, row["ttft"], strict=True)]

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    @property
    def ttft_p95(self) -> float | None:
        """In seconds."""
        bounds = [*(bound / 1000 for bound in statistics.TTFT_BOUNDS_MS), math.inf]
        counts = [sum(self.ttft[: number + 1]) for number in range(len(self.ttft))]
        return reading.percentile(0.95, list(zip(bounds, map(float, counts), strict=True)))


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    since, until = _span(request)
    tenants = list(Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("name")[: MOST_TENANTS + 1])
    by_tenant, by_model = _sums(request, tenants[:MOST_TENANTS], since, until)
    context = {
        "title": _("Requests of a span"),
        "since": since,
        "until": until,
        "by_tenant": _busiest(by_tenant),
        "by_model": _busiest(by_model),
        "is_cut": len(tenants) > MOST_TENANTS,
        "audit_since": f"{since:%Y-%m-%dT%H:%M}",
        # The audit's filter knows minutes: up to the end of the last one.
        "audit_until": f"{until + timedelta(seconds=59):%Y-%m-%dT%H:%M}",
    }
    return render(request, "monitoring/span.html", context)


def _span(request: HttpRequest) -> tuple[datetime, datetime]:
    """?since= and ?seconds=, or the last of ?window=; at most a day. The last hour for what makes no sense."""
    now = clock.now()
    window = next((each for each in WINDOWS if each.code == request.GET.get("window")), WINDOWS[1])
    try:
        since = datetime.fromtimestamp(int(request.GET["since"]), UTC)
        span = timedelta(seconds=max(1, int(request.GET["seconds"])))
        return since, since + min(span, LONGEST)
    except (KeyError, ValueError, OverflowError, OSError):
        return now - min(window.span, LONGEST), now


def _sums(
    request: HttpRequest, tenants: Iterable[Tenant], since: datetime, until: datetime
) -> tuple[list[Sum], list[Sum]]:
    models: dict[str, Sum] = {}
    found = []
    for tenant in tenants:
        actor = platform_actor(user=person(request), tenant=tenant)
        own = Sum(tenant.name, slug=tenant.slug)
        for row in statistics.by_model(actor, since=since, until=until):
            name = row["model_version"] or row["model"]
            own.add(row)
            models.setdefault(name, Sum(name)).add(row)
        if own.requests:
            own.may_list = _may_list(request, tenant)
            found.append(own)
    return found, list(models.values())


def _may_list(request: HttpRequest, tenant: Tenant) -> bool:
    """Whether the administrator is besides a member who may list this tenant's records."""
    address = request.META.get("REMOTE_ADDR") or ""
    try:
        actor: Actor = actor_for_user(user=person(request), tenant_slug=tenant.slug, address=address)
    except NotVisible:
        return False
    return actor.can(AUDIT_LIST)


def _busiest(sums: list[Sum]) -> list[Sum]:
    return sorted(sums, key=lambda each: (-each.requests, each.name))
