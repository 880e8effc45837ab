"""What tokens of a model cost, and what all tenants used for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from django.utils.translation import gettext as _

from inference.registry.operators import Operator, change, record
from inference.registry.selectors import model_by_id
from tenants import clock
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.quotas import prices
from tenants.quotas.models import Price, UsageDay
from tenants.quotas.prices import Cost
from tenants.scope import tenant_scope

MOST = Decimal(10) ** 8
_SHOWN = ("since", "currency", "read", "cached", "written")


@change
def set_price(
    *,
    by: Operator,
    model_id: UUID,
    since: date,
    currency: str,
    read: Decimal,
    cached: Decimal,
    written: Decimal,
) -> Price:
    """What a million tokens of a model cost from a day on, which may not be over: what was told stays. Raises Refused."""
    model = model_by_id(model_id)
    if since < clock.today():
        raise Refused("past", _("Prices cannot be changed backwards. Choose today or a later day."), "since")
    code = currency.strip().upper()
    if len(code) != 3 or not (code.isascii() and code.isalpha()):
        raise Refused("currency", _("Write a currency with its three letters, as EUR or CNY."), "currency")
    for name, value in (("read", read), ("cached", cached), ("written", written)):
        if not 0 <= value < MOST:
            raise Refused("amount", _("Write an amount that is not negative."), name)
    before = prices.current(since).get(model.name)
    price = Price.objects.create(
        model=model.name,
        since=since,
        currency=code,
        read=read,
        cached=cached,
        written=written,
        by_label=by.label,
    )
    record(
        by,
        "model.priced",
        subject_id=model.pk,
        before=_told(before) if before else None,
        after={"model": model.name, **_told(price)},
    )
    return price


@dataclass(frozen=True, slots=True)
class Spent:
    """What one tenant used of one model in some days."""

    tenant: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost: Cost


def spent(since: date, until: date) -> list[Spent]:
    """What tenants used of models, both days included, by name. Opens one tenant's scope after the other."""
    found = []
    for tenant in Tenant.objects.exclude(status=Tenant.Status.DELETED).order_by("name"):
        with tenant_scope(tenant.pk):
            days = prices.priced(UsageDay.objects.filter(day__gte=since, day__lte=until))
            rows = list(days.order_by("model").values("model", "price", *_TOKENS))
            costs = prices.costs_of(rows)
        for model in sorted({row["model"] for row in rows}):
            own = [(row, cost) for row, cost in zip(rows, costs, strict=True) if row["model"] == model]
            found.append(
                Spent(
                    tenant.name,
                    model,
                    sum(row["prompt_tokens"] for row, _cost in own),
                    sum(row["completion_tokens"] for row, _cost in own),
                    prices.total(cost for _row, cost in own),
                )
            )
    return found


_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def _told(price: Price) -> dict[str, str]:
    return {name: str(getattr(price, name)) for name in _SHOWN}
