"""What usage cost: tokens by the prices of their days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.formats import number_format

from tenants.quotas.models import Price, UsageDay


class Cost(dict[str, Decimal]):
    """Amounts by currency, which add up; empty where nothing has a price."""

    def __add__(self, other: Mapping[str, Decimal]) -> Cost:
        return Cost({name: self.get(name, 0) + other.get(name, 0) for name in (*self, *other)})

    def __str__(self) -> str:
        """As people read it: 12.30 EUR + 4.00 USD; small amounts with all their digits."""
        return " + ".join(f"{_written(amount)} {currency}" for currency, amount in sorted(self.items()))


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def priced(days: QuerySet[UsageDay]) -> QuerySet[UsageDay]:
    """Usage with `price`: the id of the one of its model on its day, None where there was none."""
    known = Price.objects.filter(model=OuterRef("model"), since__lte=OuterRef("day"))
    return days.annotate(price=Subquery(known.order_by("-since", "-pk").values("pk")[:1]))


def costs_of(rows: Sequence[Mapping[str, Any]]) -> list[Cost]:
    """Of rows of priced usage, each with its `price` and its tokens."""
    known = Price.objects.in_bulk({row["price"] for row in rows} - {None})
    return [_cost(known.get(row["price"]), row) for row in rows]


def _cost(price: Price | None, tokens: Mapping[str, Any]) -> Cost:
    if price is None:
        return Cost()
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    return Cost({price.currency: price.cost(**{name: tokens[name] for name in names})})


def current(day: date) -> dict[str, Price]:
    """The price of each model that has one on a day."""
    found = Price.objects.filter(since__lte=day).order_by("model", "-since", "-pk").distinct("model")
    return {price.model: price for price in found}


def _written(amount: Decimal) -> str:
    """With cents; below one, with two digits that count, since tokens are cheap."""
    digits = 2 if amount >= 1 or not amount else min(max(2, 1 - amount.adjusted()), 8)
    return number_format(round(amount, digits), digits, force_grouping=True)
