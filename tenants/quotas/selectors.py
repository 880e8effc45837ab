"""Reading limits and usage. Inside the actor's tenant scope; raises NotVisible and Refused.

Without usage.view people see their own usage and the limits that bind them; a program, its own key's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal, get_args
from uuid import UUID

from django.db.models import F, QuerySet, Sum
from django.utils.translation import gettext as _

from tenants import clock, valkey
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import ApiKey, Group, User
from tenants.quotas import counters, prices, storage, wording
from tenants.quotas import usage as usage_days
from tenants.quotas.counters import Claim, Standing, period_of
from tenants.quotas.models import Limit, Metric, SubjectKind, UsageDay
from tenants.quotas.prices import Cost
from tenants.quotas.rules import PERIOD, Rule, rule_of, rules_for
from tenants.roles import ADMINISTRATION_VIEW, QUOTAS_MANAGE, USAGE_VIEW

logger = logging.getLogger(__name__)

WARN_PERCENT = 80
MOST_DAYS = 366
_WARNED = frozenset({*PERIOD, Metric.STORAGE_BYTES})  # A full minute is over before a banner is read.

By = Literal["day", "member", "model", "key"]


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit as administrators see it. subject: in words; "" for all members or keys alike and for the tenant."""

    limit: Limit
    subject: str
    standing: Standing | None  # None where each member or key has a counter of its own.

    @property
    def may_change(self) -> bool:
        """False: set by the platform."""
        return not self.limit.is_ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Usage added up. key: what it is of (a day's ISO date, an id, a route's name); label: the same in words."""

    key: str
    label: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    refused: int = 0
    cost: Cost = field(default_factory=Cost)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def limits(actor: Actor) -> list[LimitRow]:
    """All limits of the tenant, ceilings first, and where they stand. Raises NotVisible."""
    if not (actor.can(QUOTAS_MANAGE) or actor.can(ADMINISTRATION_VIEW) or actor.is_platform):
        raise NotVisible(QUOTAS_MANAGE)
    found = Limit.objects.order_by(
        "-is_ceiling", "subject_kind", F("subject_id").asc(nulls_first=True), "metric"
    )
    if actor.is_platform:
        found = found.filter(is_ceiling=True)
    rows = list(found)
    names = _names(rows)
    counted = {
        limit.pk: rule_of(limit) for limit in rows if limit.subject_kind == "tenant" or limit.subject_id
    }
    standings = {each.rule.limit_id: each for each in _standings(actor.tenant_id, tuple(counted.values()))}
    return [LimitRow(each, names.get(each.subject_id, ""), standings.get(each.pk)) for each in rows]


def status(actor: Actor) -> list[Standing]:
    """The limits that bind the actor and where they stand; `used` is None for what cannot be told now."""
    return _standings(actor.tenant_id, rules_for(actor))


@dataclass(frozen=True, slots=True)
class Banner:
    """That a limit of a day, a month or storage is nearly (level "warning") or quite (level "full") used up."""

    level: Literal["warning", "full"]
    percent: int
    message: str

    def plain(self) -> dict[str, Any]:
        return {"level": self.level, "percent": self.percent, "message": self.message}


def banner(actor: Actor) -> Banner | None:
    """What a person should know before they meet a limit; None while there is plenty."""
    bound = tuple(rule for rule in rules_for(actor) if rule.metric in _WARNED)
    near = [each for each in _standings(actor.tenant_id, bound) if (each.percent or 0) >= WARN_PERCENT]
    if not near:
        return None
    worst = max(near, key=lambda each: each.percent or 0)
    level: Literal["warning", "full"] = "warning" if worst.remaining else "full"
    return Banner(level, min(worst.percent or 0, 100), wording.warning(worst))


def usage(actor: Actor, *, since: date, until: date, by: By = "day") -> list[UsageRow]:
    """Usage from `since` to `until`, both included, added up by day, member, model (its route) or key.

    By day every day has a row, in order; otherwise whoever used most comes first.
    """
    if by not in get_args(By):
        message = _("Usage can be added up by: %(names)s. Choose one of them.")
        raise Refused("by_unknown", message % {"names": ", ".join(get_args(By))}, "by")
    column = {"day": "day", "member": "user_id", "model": "route", "key": "key_id"}[by]
    days = _days(actor, since, until)
    if by in ("member", "key"):
        days = days.exclude(**{column: None})
    sums: dict[Any, dict[str, Any]] = {}
    rows = list(prices.priced(days).values(column, "price").order_by(column).annotate(**_SUMS))
    for row, cost in zip(rows, prices.costs_of(rows), strict=True):
        added = sums.setdefault(row[column], dict.fromkeys(_SUMMED, 0) | {"cost": Cost()})
        for name in _SUMMED:
            added[name] += row[name]
        added["cost"] += cost
    if by == "day":
        every = usage_days.days_between(since, until)
        return [UsageRow(key=f"{each}", label=f"{each}", **sums.get(each, {})) for each in every]
    labels = _labels(by, list(sums))
    found = [UsageRow(key=str(key), label=labels.get(key, str(key)), **row) for key, row in sums.items()]
    return sorted(found, key=lambda row: (-row.tokens, -row.requests, row.label))


def usage_csv(actor: Actor, *, since: date, until: date) -> Iterator[list[str]]:
    """The rows of a table for spreadsheets, its heading first: one a day, member, key and route. All cells are safe.

    Raises at the call, not while it is read.
    """
    days = prices.priced(_days(actor, since, until)).order_by("day", "user_id", "key_id", "route", "model")
    rows = list(days.values("day", "user_id", "key_id", "route", "model", "price", *_SUMMED))
    people = _labels("member", [row["user_id"] for row in rows if row["user_id"]])
    keys = _labels("key", [row["key_id"] for row in rows if row["key_id"]])
    heading = [_("Day"), _("Member"), _("API key"), _("Route"), _("Model"), _("Requests"), _("Prompt tokens")]
    heading += [_("Completion tokens"), _("Cached tokens"), _("Refused"), _("Cost")]
    body = (
        [
            f"{row['day']}",
            people.get(row["user_id"], ""),
            keys.get(row["key_id"], ""),
            row["route"],
            row["model"],
            *(str(row[name]) for name in _SUMMED),
            str(cost),
        ]
        for row, cost in zip(rows, prices.costs_of(rows), strict=True)
    )
    return ([safe_cell(cell) for cell in row] for row in (heading, *body))


def safe_cell(text: str) -> str:
    """The text, so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


_SUMMED = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "refused")
_SUMS = {name: Sum(name) for name in _SUMMED}


def _days(actor: Actor, since: date, until: date) -> QuerySet[UsageDay]:
    if until < since:
        raise Refused("range_invalid", _("The last day is before the first. Turn them round."), "until")
    if (until - since).days >= MOST_DAYS:
        message = _("Choose at most %(most)d days.") % {"most": MOST_DAYS}
        raise Refused("range_too_long", message, "until")
    days = UsageDay.objects.filter(day__gte=since, day__lte=until)
    if actor.can(USAGE_VIEW):
        return days
    if actor.api_key_id is not None:
        return days.filter(key_id=actor.api_key_id)
    if actor.user_id is None or actor.is_platform:
        raise NotVisible(USAGE_VIEW)
    return days.filter(user_id=actor.user_id)


def _labels(by: By, keys: Sequence[Any]) -> dict[Any, str]:
    if by == "member":
        gone = dict.fromkeys(keys, _("a former member"))
        return gone | dict(User.objects.filter(pk__in=keys).values_list("pk", "email"))
    if by == "key":
        gone = dict.fromkeys(keys, _("a former key"))
        return gone | dict(ApiKey.objects.filter(pk__in=keys).values_list("pk", "name"))
    return {}


def _names(rows: Sequence[Limit]) -> dict[UUID | None, str]:
    """Groups' names, people's addresses and keys' names of those that limits are for."""
    of: dict[str, list[UUID]] = {kind: [] for kind in SubjectKind}
    for limit in rows:
        if limit.subject_id is not None:
            of[limit.subject_kind].append(limit.subject_id)
    gone: dict[UUID | None, str] = {each: _("no longer there") for ids in of.values() for each in ids}
    return (
        gone
        | dict(Group.objects.filter(pk__in=of[SubjectKind.GROUP]).values_list("pk", "name"))
        | dict(User.objects.filter(pk__in=of[SubjectKind.MEMBER]).values_list("pk", "email"))
        | dict(ApiKey.objects.filter(pk__in=of[SubjectKind.KEY]).values_list("pk", "name"))
    )


def _standings(tenant_id: UUID, rules: tuple[Rule, ...]) -> list[Standing]:
    """Where these stand: by their counters, and by the database where those know nothing."""
    claim = Claim(
        tenant_id, uuid7(), clock.now(), tuple(r for r in rules if r.metric != Metric.STORAGE_BYTES)
    )
    try:
        found = {each.rule: each for each in counters.look(claim)}
    except valkey.VALKEY_ERRORS:
        logger.warning("limits are shown as of the last answers: Valkey does not answer")
        found = {}
    return [_known(found.get(rule, Standing(rule, None)), claim) for rule in rules]


def _known(standing: Standing, claim: Claim) -> Standing:
    rule = standing.rule
    if rule.metric == Metric.STORAGE_BYTES:
        return Standing(rule, storage.stored(rule))
    if rule.metric not in PERIOD or standing.used is not None:
        return standing
    spent = usage_days.spent(claim.tenant_id, [rule], claim.at)[rule]
    return replace(standing, used=spent, resets=period_of(rule.metric, claim.at)[1])
