"""Rate-limit headers: OpenAI's, and the IETF's RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers).

OpenAI's name one limit of requests and one of tokens: of those that bind, the one with the least left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from tenants import clock
from tenants.quotas.counters import Standing, period_of
from tenants.quotas.models import Metric
from tenants.quotas.rules import PERIOD

_UNITS = {Metric.REQUESTS_PER_MINUTE: "requests", Metric.CONCURRENT_STREAMS: "concurrent-requests"}


def rate_limit_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """For an answer or a refusal; nothing where nothing is limited."""
    now = clock.now()
    requests = [each for each in standings if each.rule.metric == Metric.REQUESTS_PER_MINUTE]
    tokens = [each for each in standings if each.rule.counts_tokens]
    return {**_openai("requests", requests, now), **_openai("tokens", tokens, now), **_ietf(standings, now)}


def _openai(name: str, standings: Iterable[Standing], now: datetime) -> dict[str, str]:
    tightest = min(standings, key=lambda each: each.remaining, default=None)
    if tightest is None:
        return {}
    return {
        f"x-ratelimit-limit-{name}": str(tightest.rule.value),
        f"x-ratelimit-remaining-{name}": str(tightest.remaining),
        f"x-ratelimit-reset-{name}": f"{_seconds_until(tightest, now)}s",
    }


def _ietf(standings: Sequence[Standing], now: datetime) -> dict[str, str]:
    if not standings:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(each, now) for each in standings),
        "RateLimit": ", ".join(
            f'"{_name(each)}";r={each.remaining};t={_seconds_until(each, now)}' for each in standings
        ),
    }


def _policy(standing: Standing, now: datetime) -> str:
    metric = standing.rule.metric
    policy = f'"{_name(standing)}";q={standing.rule.value};qu="{_UNITS.get(metric, "tokens")}"'
    if metric in PERIOD:
        beginning, end = period_of(metric, now)
        return f"{policy};w={int((end - beginning).total_seconds())}"
    return policy if metric == Metric.CONCURRENT_STREAMS else f"{policy};w=60"


def _name(standing: Standing) -> str:
    """Tells a tenant's own limit from its ceiling and one group's from another's, without naming anybody."""
    rule = standing.rule
    owner = "ceiling" if rule.is_ceiling else str(rule.kind)
    which = f"-{rule.limit_id.hex[-6:]}" if rule.kind == "group" else ""
    return f"{owner}{which}-{rule.metric.replace('_', '-')}"


def _seconds_until(standing: Standing, now: datetime) -> int:
    return max(math.ceil((standing.resets - now).total_seconds()), 0) if standing.resets else 0
