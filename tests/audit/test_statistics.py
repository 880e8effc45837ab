"""Figures against a sample computed by hand."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import psycopg
import pytest
from django.db import connection

from audit import record, statistics
from audit.record import Timings
from tenants import clock
from tenants.access import Actor, NotVisible
from tests.audit.conftest import Explain, Usage, begin, generation, id_at

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Thirty seconds into a minute of today, held still."""
    held = datetime.now(UTC).replace(second=30, microsecond=0)
    monkeypatch.setattr(clock, "now", lambda: held)
    return held


def _generated(actor: Actor, at: datetime, *, ttft: int, itl: float, tokens: int, **changes: object) -> UUID:
    return generation(
        actor,
        request_id=id_at(at),
        usage=Usage(10, tokens),
        timings=Timings(queue_ms=1, ttft_ms=ttft, total_ms=ttft + 100, itl_p50_ms=itl),
        **changes,
    ).request_id


@pytest.fixture
def sample(member: Actor, administrator: Actor, outsider: Actor, now: datetime) -> list[UUID]:
    """In the last ten minutes: five in one minute, a refusal and a running one in the current minute."""
    minute = now.replace(second=0) - timedelta(minutes=4)
    ids = [
        _generated(member, minute + timedelta(seconds=s), ttft=ttft, itl=itl, tokens=tokens)
        for s, ttft, itl, tokens in [(0, 100, 10.0, 20), (15, 200, 20.0, 40), (30, 300, 30.0, 60)]
    ]
    ids.append(
        _generated(member, minute + timedelta(seconds=45), ttft=1000, itl=40.0, tokens=0, status="failed")
    )
    last_of_minute = minute + timedelta(seconds=59, milliseconds=999)
    ids.append(_generated(administrator, last_of_minute, ttft=400, itl=50.0, tokens=120, status="timed_out"))
    refused = begin(member, request_id=id_at(now - timedelta(seconds=20)))
    record.complete(refused, status="refused", error_code="quota", timings=Timings(total_ms=2))
    ids += [refused.request_id, begin(member, request_id=id_at(now - timedelta(seconds=10))).request_id]
    # None of these may count: before the window, not a generation, another tenant's.
    _generated(
        member, now.replace(second=0) - timedelta(minutes=9, milliseconds=1), ttft=9, itl=9.0, tokens=9
    )
    record.record_event(actor=member, kind="probe", detail={})
    _generated(outsider, minute, ttft=7, itl=7.0, tokens=7)
    return ids


def test_a_bucket_has_counts_percentiles_and_rate(administrator: Actor, sample: list[UUID]) -> None:
    figures = statistics.overview(administrator, minutes=10, buckets=10)
    assert [bucket["requests"] for bucket in figures["buckets"]] == [0, 0, 0, 0, 0, 5, 0, 0, 0, 2]
    assert figures["buckets"][5] == {
        "start": figures["buckets"][5]["start"],
        "requests": 5,
        "errors": 2,
        "refused": 0,
        "running": 0,
        "ttft_p50_ms": 300.0,
        # 100 200 300 400 1000: rank 0.95 × 4 = 3.8, so 400 + 0.8 × 600.
        "ttft_p95_ms": 880.0,
        "itl_p50_ms": 30.0,
        "prompt_tokens": 50,
        "completion_tokens": 240,
        "tokens_per_s": 4.0,
    }


def test_an_empty_bucket_is_zeros_and_unknowns(administrator: Actor, sample: list[UUID]) -> None:
    bucket = statistics.overview(administrator, minutes=10, buckets=10)["buckets"][0]
    assert (bucket["requests"], bucket["errors"], bucket["tokens_per_s"]) == (0, 0, 0.0)
    assert bucket["ttft_p50_ms"] is bucket["ttft_p95_ms"] is bucket["itl_p50_ms"] is None


def test_totals_are_over_all_buckets(administrator: Actor, sample: list[UUID]) -> None:
    totals = statistics.overview(administrator, minutes=10, buckets=10)["totals"]
    assert (totals["requests"], totals["errors"], totals["refused"], totals["running"]) == (7, 2, 1, 1)
    assert (totals["ttft_p50_ms"], totals["prompt_tokens"], totals["completion_tokens"]) == (300.0, 50, 240)
    assert totals["tokens_per_s"] == round(240 / (9 * 60 + 30), 2)


def test_buckets_are_whole_minutes_that_end_now(
    administrator: Actor, now: datetime, sample: list[UUID]
) -> None:
    figures = statistics.overview(administrator, minutes=10, buckets=10)
    starts = [datetime.fromisoformat(bucket["start"]) for bucket in figures["buckets"]]
    assert starts[-1] == now.replace(second=0)
    assert {b - a for a, b in pairwise(starts)} == {timedelta(minutes=1)}
    assert figures["since"] == figures["buckets"][0]["start"]
    assert datetime.fromisoformat(figures["until"]) == now


def test_recent_requests_come_newest_first_without_content(administrator: Actor, sample: list[UUID]) -> None:
    recent = statistics.overview(administrator, minutes=10, buckets=10)["recent"]
    assert [row["id"] for row in recent[:7]] == [str(request_id) for request_id in reversed(sample)]
    assert recent[0]["status"] == "running"
    assert recent[1]["status"] == "refused"
    assert recent[2] == {
        "id": str(sample[4]),
        "time": recent[2]["time"],
        "user": administrator.label,
        "channel": "chat",
        "model": "smollm2-135m-instruct",
        "status": "timed_out",
        "ttft_ms": 400,
        "tokens": 120,
        "tokens_per_s": 1190.0,
    }


def test_figures_are_ready_for_json(administrator: Actor, sample: list[UUID]) -> None:
    assert json.loads(json.dumps(statistics.overview(administrator)))["bucket_seconds"] == 60


def test_a_tenant_without_requests_has_figures(administrator: Actor, now: datetime) -> None:
    figures = statistics.overview(administrator)
    assert figures["totals"]["requests"] == 0
    assert len(figures["buckets"]) == 60
    assert figures["recent"] == []


def test_figures_are_for_those_who_may_see_them(member: Actor, reviewer: Actor) -> None:
    for actor in (member, reviewer):
        with pytest.raises(NotVisible):
            statistics.overview(actor)


def test_an_hours_figures_do_not_read_the_whole_day(
    administrator: Actor, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand records a day: both tables are entered by index, and only the hour's rows are met."""
    # Late in a day, whatever the time is: of a day that has just begun, an hour would be all there is.
    late = datetime.now(UTC).replace(hour=0, minute=0, second=30, microsecond=0) - timedelta(minutes=10)
    monkeypatch.setattr(clock, "now", lambda: late)
    _fill(owner, administrator.tenant_id, records=100_000, until=late)
    plans = Explain()
    with connection.execute_wrapper(plans):
        figures = statistics.overview(administrator)
    assert 4_000 < figures["totals"]["requests"] < 4_400
    (plan,) = [plan for sql, plan in plans.found if "percentile_cont" in sql]
    assert "Seq Scan" not in plan
    most = max(float(rows) for rows in re.findall(r"rows=([\d.]+) loops=1\)", plan))
    assert most < 5_000, plan


def _fill(owner: psycopg.Connection, tenant_id: UUID, *, records: int, until: datetime) -> None:
    """Closed records spread over the day until then, straight into the tables."""
    owner.execute("SELECT audit_ensure_partition(%s)", [until.date()])
    owner.execute(
        """
        CREATE TEMP TABLE made AS
        SELECT made_at, (substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7000-8000-'
               || lpad(to_hex(n), 12, '0'))::uuid AS id
        FROM (SELECT n, made_at, lpad(to_hex(floor(extract(epoch FROM made_at) * 1000)::bigint), 12, '0') AS hex
              FROM (SELECT n, %(until)s::timestamptz - n * interval '23 hours 45 minutes' / %(records)s AS made_at
                    FROM generate_series(1, %(records)s) AS n) AS times) AS hexes
        """,
        {"records": records, "until": until},
    )
    owner.execute("ALTER TABLE audit_completion DISABLE TRIGGER guard")
    owner.execute(
        """
        INSERT INTO audit_record
        SELECT (made_at AT TIME ZONE 'UTC')::date, id, %(tenant)s, 'generation', 'chat', NULL, 'u', NULL, '',
               'm', '1', 'r', '', '', NULL, NULL, made_at, '', '' FROM made
        """,
        {"tenant": tenant_id},
    )
    owner.execute(
        """
        INSERT INTO audit_completion
        SELECT (made_at AT TIME ZONE 'UTC')::date, id, %(tenant)s, 'completed', 'stop', '', 10, 50, 0, 1, 40, 90,
               9.5, 1, 200, sha256(''), sha256(''), made_at FROM made
        """,
        {"tenant": tenant_id},
    )
    owner.execute("ALTER TABLE audit_completion ENABLE TRIGGER guard")
    owner.execute("ANALYZE audit_record, audit_completion")
