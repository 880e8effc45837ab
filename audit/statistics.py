"""Figures of a tenant's generations, from plain columns only.

A generation counts in the bucket it began in.
"""

from datetime import UTC, datetime
from typing import Any

from django.db import connection

from audit.models import AuditRecord, Status
from audit.record import GENERATION
from audit.selectors import RUNNING, Summary, first_id_at, summaries
from tenants import clock
from tenants.access import Actor, require
from tenants.ids import day_of
from tenants.roles import OVERVIEW_VIEW, PLATFORM_MANAGE
from tenants.scope import tenant_scope

# Bounds of first-token times, in milliseconds, between which requests are counted: what several tenants counted can be
# added up, which percentiles cannot.
TTFT_BOUNDS_MS = (25, 50, 100, 200, 300, 500, 750, 1000, 2000, 5000, 10_000, 30_000, 60_000)

ERRORS = (Status.FAILED, Status.TIMED_OUT, Status.INTERRUPTED)
RECENT = 20

# GROUPING SETS: a row for each bucket that has requests, and one (bucket NULL) over all of them. The bounds stand for
# both tables: PostgreSQL does not carry them over from one to the other, and would read the whole day.
_FIGURES = """
    SELECT floor(extract(epoch FROM r.created - %(since)s) / %(width)s)::int AS bucket,
           count(*) AS requests,
           count(*) FILTER (WHERE c.status = ANY(%(errors)s)) AS errors,
           count(*) FILTER (WHERE c.status = 'refused') AS refused,
           count(*) FILTER (WHERE c.status IS NULL) AS running,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY c.ttft_ms) AS ttft_p50_ms,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY c.ttft_ms) AS ttft_p95_ms,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY c.itl_p50_ms) AS itl_p50_ms,
           coalesce(sum(c.prompt_tokens), 0)::bigint AS prompt_tokens,
           coalesce(sum(c.completion_tokens), 0)::bigint AS completion_tokens
    FROM audit_record r
    LEFT JOIN audit_completion c
           ON c.day = r.day AND c.request_id = r.id AND c.day BETWEEN %(first_day)s AND %(last_day)s
          AND c.request_id >= %(first)s AND c.request_id < %(end)s
    WHERE r.tenant_id = %(tenant)s AND r.kind = %(kind)s AND r.day BETWEEN %(first_day)s AND %(last_day)s
          AND r.id >= %(first)s AND r.id < %(end)s
    GROUP BY GROUPING SETS ((1), ())
"""


_BY_MODEL = """
    SELECT r.model, r.model_version, count(*) AS requests,
           count(*) FILTER (WHERE c.status = ANY(%(errors)s)) AS errors,
           coalesce(sum(c.prompt_tokens), 0)::bigint AS prompt_tokens,
           coalesce(sum(c.completion_tokens), 0)::bigint AS completion_tokens,
           {ttft}
    FROM audit_record r
    LEFT JOIN audit_completion c
           ON c.day = r.day AND c.request_id = r.id AND c.day BETWEEN %(first_day)s AND %(last_day)s
          AND c.request_id >= %(first)s AND c.request_id < %(end)s
    WHERE r.tenant_id = %(tenant)s AND r.kind = %(kind)s AND r.day BETWEEN %(first_day)s AND %(last_day)s
          AND r.id >= %(first)s AND r.id < %(end)s
    GROUP BY 1, 2
""".format(
    ttft=", ".join(
        f"count(*) FILTER (WHERE width_bucket(c.ttft_ms, %(bounds)s::int[]) = {place}) AS ttft_{place}"
        for place in range(len(TTFT_BOUNDS_MS) + 1)
    )
)


def by_model(actor: Actor, *, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """A tenant's requests of a span by model and version, for the platform's administrators: counts, never who or what.

    [{model, model_version, requests, errors, prompt_tokens, completion_tokens, ttft}]; ttft: how many first tokens came
    within each of TTFT_BOUNDS_MS and after the one before it, and at last those after all. Raises NotVisible for others.
    """
    require(actor, PLATFORM_MANAGE)
    first, end = first_id_at(since), first_id_at(until)
    parameters: dict[str, Any] = {
        "errors": list(ERRORS),
        "bounds": list(TTFT_BOUNDS_MS),
        "tenant": actor.tenant_id,
        "kind": GENERATION,
        "first": first,
        "end": end,
        "first_day": day_of(first),
        "last_day": day_of(end),
    }
    with tenant_scope(actor.tenant_id), connection.cursor() as cursor:
        cursor.execute(_BY_MODEL, parameters)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row["ttft"] = [row.pop(f"ttft_{place}") for place in range(len(TTFT_BOUNDS_MS) + 1)]
    return rows


def overview(actor: Actor, *, minutes: int = 60, buckets: int = 60) -> dict[str, Any]:
    """The last `minutes` in `buckets` equal parts, the last of which has just begun; JSON-ready.

    since, until (ISO, UTC), bucket_seconds; buckets: [{start, requests, errors, refused, running, ttft_p50_ms,
    ttft_p95_ms, itl_p50_ms, prompt_tokens, completion_tokens, tokens_per_s}], oldest first; totals: the same without
    start; recent: the newest 20 requests. Percentiles are None where nothing was measured; tokens_per_s is output
    tokens over the time of the bucket. Raises NotVisible without overview.view.
    """
    require(actor, OVERVIEW_VIEW)
    now = clock.now()
    width = minutes * 60 / buckets
    # Buckets begin at multiples of their width, so that a chart asked for again does not shift its bars.
    since = (now.timestamp() // width - (buckets - 1)) * width
    with tenant_scope(actor.tenant_id):
        figures = _figures(actor, since=since, until=now.timestamp(), width=width)
        generations = AuditRecord.objects.filter(kind=GENERATION)
        recent = summaries(generations.order_by("-day", "-id")[:RECENT])
    last_s = now.timestamp() - (since + (buckets - 1) * width)
    return {
        "since": _iso(since),
        "until": now.astimezone(UTC).isoformat(),
        "bucket_seconds": width,
        "buckets": [
            {
                "start": _iso(since + number * width),
                **_rates(figures.get(number), seconds=width if number < buckets - 1 else last_s),
            }
            for number in range(buckets)
        ],
        "totals": _rates(figures[None], seconds=now.timestamp() - since),
        "recent": [_recent(summary) for summary in recent],
    }


def _figures(actor: Actor, *, since: float, until: float, width: float) -> dict[int | None, dict[str, Any]]:
    """Figures by bucket number, and over all under None. Times in seconds since 1970."""
    start, now = (datetime.fromtimestamp(time, tz=UTC) for time in (since, until))
    first, end = first_id_at(start), first_id_at(now)
    parameters: dict[str, Any] = {
        "since": start,
        "width": width,
        "errors": list(ERRORS),
        "tenant": actor.tenant_id,
        "kind": GENERATION,
        "first": first,
        "end": end,
        "first_day": day_of(first),
        "last_day": day_of(end),
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES, parameters)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {row.pop("bucket"): row for row in rows}


_NOTHING: dict[str, Any] = {
    "requests": 0,
    "errors": 0,
    "refused": 0,
    "running": 0,
    "ttft_p50_ms": None,
    "ttft_p95_ms": None,
    "itl_p50_ms": None,
    "prompt_tokens": 0,
    "completion_tokens": 0,
}


def _rates(figures: dict[str, Any] | None, *, seconds: float) -> dict[str, Any]:
    figures = figures or _NOTHING
    rate = figures["completion_tokens"] / seconds if seconds > 0 else 0.0
    rounded = {
        name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()
    }
    return {**rounded, "tokens_per_s": round(rate, 2)}


def _recent(summary: Summary) -> dict[str, Any]:
    completion = summary.completion
    return {
        "id": str(summary.id),
        "time": summary.created.astimezone(UTC).isoformat(),
        "user": summary.user_label,
        "channel": summary.channel,
        "model": summary.model,
        "status": completion.status if completion else RUNNING,
        "ttft_ms": completion.ttft_ms if completion else None,
        "tokens": completion.completion_tokens if completion else None,
        "tokens_per_s": completion.tokens_per_s if completion else None,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
