"""Samples: what is kept of expositions, counters that begin anew, folding to minutes, bounds, clocks that are set."""

import random
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from audit import metrics as audit_metrics
from console.monitoring import catalogue, loop, reading, rules, sampler, sources
from console.monitoring.models import Minute, Rule, Sample, SamplerState, Slot
from inference.generation import metrics
from inference.server.metrics import Metrics, Snapshot
from tests.monitoring.conftest import NOON, Clock
from tests.support.services import Services

pytestmark = pytest.mark.django_db(transaction=True)

Take = Callable[..., list[Sample]]


def values_of(row: Sample | Minute) -> dict[str, float | None]:
    values = row.values + [None] * 200
    return {slot.name: values[slot.place - 1] for slot in Slot.objects.all()}


def exposition(client: Client) -> str:
    return client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"}).text


def test_what_is_kept_is_found_in_what_web_exposes(client: Client) -> None:
    before = sources.parsed(exposition(client), catalogue.Source.WEB)
    metrics.generations.labels("chat", "completed", "m").inc(2)
    metrics.generations.labels("api", "failed", "n").inc()
    metrics.generations.labels("api", "refused", "n").inc()
    metrics.time_to_first_token.labels("chat", "m").observe(0.15)
    metrics.tokens.labels("completion", "m").inc(7)
    metrics.tokens.labels("prompt", "m").inc(5)
    audit_metrics.append_seconds.labels("begin").observe(0.002)
    audit_metrics.failures.labels("begin").inc()
    found = sources.parsed(exposition(client), catalogue.Source.WEB)
    added = {name: value - before.get(name, 0) for name, value in found.items()}
    assert (added["requests"], added["errors"], added["refused"]) == (4, 1, 1)
    assert (added["tokens_written"], added["tokens_read"]) == (7, 5)
    assert added["ttft:0.2"] - added["ttft:0.1"] == 1 == added["ttft:+Inf"]
    assert added["audit_append:0.002"] == 1 == added["audit_failures"]
    missing = {
        kept.name for kept in catalogue.KEPT if kept.source == catalogue.Source.WEB and kept.metric != "up"
    }
    assert {name.partition(":")[0] for name in found} == missing, "every kept number of web is there"


def test_what_is_kept_is_found_in_what_inference_exposes() -> None:
    service = Metrics(lambda: Snapshot("m", True, 2048, 8, 32, None))
    service.inter_token.observe(0.02)
    from prometheus_client import generate_latest

    found = sources.parsed(generate_latest(service.registry).decode(), catalogue.Source.INFERENCE)
    kept = {kept.name for kept in catalogue.KEPT if kept.source == catalogue.Source.INFERENCE}
    # There is no GPU here, and `up` is told by whether anything was answered.
    assert {name.partition(":")[0] for name in found} == kept - {"up_inference", "gpu_memory"}
    assert found["itl:0.025"] == 1


def test_a_source_that_is_away_or_talks_nonsense_is_itself_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "web_text", lambda: "custos_generations_total{ 1")
    numbers = sources.read()
    assert numbers["up_web"] == 0, "nonsense is no answer"
    assert numbers["up_inference"] == 0, "no inference runs in this test"
    assert numbers["up_valkey"] == 1
    assert 0 < numbers["disk_free"] < 1


def test_counters_become_what_was_added_and_begin_anew_with_their_process(take: Take) -> None:
    take(requests=100, queue=1)
    (second,) = take(requests=103, queue=4)
    (third,) = take(requests=2, queue=0)
    (fourth,) = take(queue=0)
    (fifth,) = take(requests=9, queue=0)
    assert values_of(second) == {"requests": 3, "queue": 4}
    assert values_of(third)["requests"] == 2, "what was counted since the process began anew"
    assert values_of(fourth)["requests"] is None, "nobody answered"
    assert values_of(fifth)["requests"] == 7, "counted on from before it was away"


def test_after_a_restart_of_the_monitor_nothing_is_missing_and_nothing_counts_twice(
    take: Take, moved: Clock
) -> None:
    take(requests=100)
    take(requests=110)
    moved.move(seconds=55)
    (after,) = take(requests=130, elapsed=None)
    assert values_of(after)["requests"] == 20
    assert after.covers == 60
    points = reading.BuiltIn().points(
        ["requests"], since=NOON, until=moved.now + timedelta(seconds=1), step_s=300
    )
    assert points.values["requests"][0] == pytest.approx(30 / 65)


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_is_set_changes_no_rate(hours: int, take: Take, moved: Clock) -> None:
    take(requests=0)
    for number in range(1, 7):
        take(requests=10 * number)
    moved.move(hours=hours)
    for number in range(7, 13):
        take(requests=10 * number)
    folded, seconds = reading.merged(reading.latest(["requests"], window_s=60))
    assert (folded["requests"], seconds) == (120, 60)
    sampler.fold()
    sampler.prune()
    assert Sample.objects.count() == 13
    assert sum(values_of(minute)["requests"] or 0 for minute in Minute.objects.all()) == 120


def test_a_restart_with_a_clock_set_back_counts_nothing_rather_than_wrongly(take: Take, moved: Clock) -> None:
    take(requests=0)
    moved.move(hours=-2)
    (after,) = take(requests=500, elapsed=None)
    assert after.covers == 0
    assert values_of(after)["requests"] is None


def test_minutes_add_up_to_the_samples_whatever_they_are(take: Take, moved: Clock) -> None:
    chance = random.Random(7)
    stood = {"requests": 0.0, "errors": 0.0}
    for number in range(400):
        stood = {name: value + chance.randint(0, 5) for name, value in stood.items()}
        if chance.random() < 0.05:
            stood = dict.fromkeys(stood, 0.0)
        moved.move(seconds=chance.choice([0, 0, 1, 20]))
        take(**stood, queue=chance.randint(0, 9), streaming=chance.randint(0, 9), disk_free=chance.random())
        if number % 23 == 0:
            sampler.fold()
    sampler.fold()
    sampler.fold()
    samples, minutes = ([values_of(row) for row in model.objects.all()] for model in (Sample, Minute))

    def of(rows: list[dict[str, float | None]], name: str) -> list[float]:
        return [value for row in rows if (value := row[name]) is not None]

    for name in stood:
        assert sum(of(minutes, name)) == pytest.approx(sum(of(samples, name)))
    assert max(of(minutes, "queue")) == max(of(samples, "queue"))
    assert min(of(minutes, "disk_free")) == min(of(samples, "disk_free"))
    assert min(of(samples, "streaming")) <= min(of(minutes, "streaming"))
    assert max(of(minutes, "streaming")) <= max(of(samples, "streaming"))
    covers = [sum(row.covers for row in model.objects.all()) for model in (Sample, Minute)]
    assert covers[0] == pytest.approx(covers[1])


def test_what_is_kept_is_bounded_by_rows(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "SAMPLES", 20)
    monkeypatch.setattr(sampler, "MINUTES", 2)
    take(60, requests=1)
    sampler.prune()
    assert Sample.objects.count() == 60, "what is not folded yet stays"
    sampler.fold()
    sampler.prune()
    assert Sample.objects.count() == 20
    assert Minute.objects.count() == 2


def test_an_exposition_cannot_make_the_rows_long(take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MOST_SLOTS", 5)
    take(**{f"ttft__{bound}": 1.0 for bound in range(50)})
    (sample,) = take(**{f"ttft__{bound}": 1.0 for bound in range(50)}, requests=3)
    assert Slot.objects.count() == 5
    assert len(sample.values) == 5


def test_one_process_samples_and_the_next_takes_over(services: Services) -> None:
    assert sampler.is_ours()
    assert sampler.is_ours(), "and goes on to"
    with psycopg.connect(services.postgres.url, autocommit=True) as other:
        asked = "SELECT pg_try_advisory_lock(%s)"
        assert other.execute(asked, [sampler.LOCK]).fetchone() == (False,)
        connection.close()
        other.execute("SELECT pg_advisory_lock(%s)", [sampler.LOCK])
        assert not sampler.is_ours()
        other.execute("SELECT pg_advisory_unlock_all()")
        assert sampler.is_ours()
    connection.close()


def test_a_turn_of_the_monitor_samples_and_makes_the_first_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(sources, "read", lambda: {"requests": 1.0, "up_web": 1.0})
    monitor = loop.Loop(threading.Event())
    monitor.step()
    monitor.step()
    assert Sample.objects.count() == 2
    assert Rule.objects.count() == len(rules.DEFAULTS)
    assert SamplerState.objects.get().counters[0] == 1
    Rule.objects.update(removed=NOON)
    loop.Loop(threading.Event()).step()
    assert Rule.objects.filter(removed=None).count() == 0, "what somebody removed stays away"
    connection.close()


def test_percentiles_lie_between_the_bounds_of_their_bucket() -> None:
    buckets = [(0.1, 10.0), (0.2, 20.0), (float("inf"), 20.0)]
    assert reading.percentile(0.5, buckets) == pytest.approx(0.1)
    assert reading.percentile(0.75, buckets) == pytest.approx(0.15)
    assert reading.percentile(0.95, [(0.1, 0.0), (float("inf"), 3.0)]) == 0.1
    assert reading.percentile(0.5, []) is None
    assert reading.percentile(0.5, [(0.1, 0.0), (float("inf"), 0.0)]) is None


def test_the_first_error_there_ever_was_is_counted(take: Take) -> None:
    take(requests=5)
    (second,) = take(requests=6, errors=1)
    assert values_of(second) == {"requests": 1, "errors": 1}
    (third,) = take(requests=6, errors=1, prefix_asked=1000)
    assert values_of(third)["prefix_asked"] is None, (
        "inference answers for the first time: nobody knows since when"
    )


def test_short_spans_are_read_from_samples_and_old_ones_from_minutes(
    take: Take, moved: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        take(queue=number)
    sampler.fold()
    hour = timedelta(hours=1)
    points = reading.BuiltIn().points(["queue"], since=moved.now - hour, until=moved.now, step_s=15)
    assert len([value for value in points.values["queue"] if value is not None]) == 20
    monkeypatch.setattr(sampler, "SAMPLES", 10)
    sampler.prune()
    assert Sample.objects.count() == 10
    points = reading.BuiltIn().points(["queue"], since=moved.now - hour, until=moved.now, step_s=60)
    assert len([value for value in points.values["queue"] if value is not None]) == 5


def test_points_are_none_where_nothing_was_measured(take: Take, moved: Clock) -> None:
    take(requests=0, errors=0, queue=2)
    take(requests=4, errors=1, queue=3)
    moved.move(minutes=2)
    take(requests=4, errors=1, queue=0, elapsed=None)
    points = reading.BuiltIn().points(
        ["requests", "error_rate", "queue"], since=NOON, until=moved.now + timedelta(seconds=1), step_s=60
    )
    assert points.values["error_rate"] == [0.25, None, None]
    assert points.values["queue"] == [3, None, 0]
    assert points.values["requests"][1] is None
