"""Sampling: drawn once a period, right in proportion, and the same for whoever draws again."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import record
from audit.models import AuditRecord
from audit.record import handle_of, open_json
from audit.review import drawing, flags, sampling
from audit.review.models import Flag, ReviewItem, SampleDone, SamplePlan, SampleRun
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import Group, GroupMember, Membership
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, id_at
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

RULE: dict[str, Any] = {"name": "Daily look", "measure": "percent", "size": "5", "per": "day"}


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Moves the clock to a time."""

    def move(when: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: when)

    return move


def recorded(actor: Actor, when: datetime, **changes: Any) -> UUID:
    request_id = id_at(when)
    handle = begin(actor, request_id=request_id, **changes)
    record.complete(handle, status="completed")
    return request_id


def today(hour: int, minute: int = 0) -> datetime:
    return clock.now().astimezone(UTC).replace(hour=hour, minute=minute, second=0, microsecond=0)


class TestDrawing:
    @given(
        count=st.integers(0, 60),
        strata=st.integers(1, 5),
        size=st.decimals("0.01", "100", places=2),
        seed=st.binary(min_size=32, max_size=32),
    )
    def test_of_each_stratum_its_share_rounded_up(
        self, count: int, strata: int, size: Decimal, seed: bytes
    ) -> None:
        population = sorted(uuid7() for _each in range(count))
        numbers = [at % strata for at in range(count)]
        picked = drawing.draw(seed, population, numbers, "percent", size)
        assert picked == sorted(set(picked))
        assert set(picked) <= set(population)
        of = dict(zip(population, numbers, strict=True))
        for number in range(strata):
            whole = numbers.count(number)
            part = sum(of[each] == number for each in picked)
            assert part == math.ceil(whole * Fraction(size) / 100)
        by_count = drawing.draw(seed, population, numbers, "count", Decimal(3))
        assert len(by_count) == sum(min(3, numbers.count(number)) for number in range(strata))

    def test_it_is_the_same_in_any_order_and_another_with_another_seed(self) -> None:
        population = [uuid7() for _each in range(200)]
        first = drawing.draw(b"a" * 32, population, [0] * 200, "percent", Decimal(10))
        shuffled = random.Random(1).sample(population, 200)
        assert drawing.draw(b"a" * 32, shuffled, [0] * 200, "percent", Decimal(10)) == first
        assert drawing.draw(b"b" * 32, population, [0] * 200, "percent", Decimal(10)) != first

    def test_every_record_is_as_likely_as_another(self) -> None:
        population = [uuid7() for _each in range(20)]
        hits = dict.fromkeys(population, 0)
        for number in range(2000):
            seed = drawing.seed_of(b"secret", str(number))
            for each in drawing.draw(seed, population, [0] * 20, "percent", Decimal(25)):
                hits[each] += 1
        # 500 each; six standard deviations (19.4 each) are passed in one of 50 million tries.
        assert all(383 < count < 617 for count in hits.values())

    def test_a_known_draw_stays_as_it_was(self) -> None:
        # By hand: hmac.new(seed, id.bytes, "sha256") of each, the lowest two.
        population = [UUID(int=number) for number in range(1, 6)]
        seed = drawing.seed_of(bytes(32), "2026-01-01T00:00:00+00:00")
        picked = drawing.draw(seed, population, [0] * 5, "count", Decimal(2))
        assert [each.int for each in picked] == KNOWN


KNOWN = [1, 2]


class TestRuns:
    def test_a_day_is_drawn_once_after_its_end_and_flagged(
        self, officer: Actor, member: Actor, acme: Company, at: Callable[[datetime], None]
    ) -> None:
        noon = today(12)
        for minute in range(21):
            recorded(member, noon + timedelta(minutes=minute))
        at(noon + timedelta(minutes=30))
        plan = sampling.create_plan(actor=officer, **RULE)
        assert sampling.run_due(acme.tenant) == 0
        at(noon + timedelta(days=1))
        recorded(member, noon + timedelta(days=1))
        assert sampling.run_due(acme.tenant) == 1
        assert sampling.run_due(acme.tenant) == 0
        with tenant_scope(acme.tenant.pk):
            run = SampleRun.objects.get()
            assert (run.population_count, run.picked_count) == (21, 2)
            assert (run.since, run.until) == (noon - timedelta(hours=12), noon + timedelta(hours=12))
            assert sampling.redraw(run)
            picked = set(drawing.unpack(bytes(run.picked)))
            assert set(ReviewItem.objects.values_list("request_id", flat=True)) == picked
            flag = Flag.objects.first()
            assert (flag.source, flag.source_id, flag.severity) == ("sample", str(plan.pk), "low")
            assert flags.words_of(flag).reason == "Daily look"
            done = SampleDone.objects.get()
            assert (done.flagged, done.missing) == (2, 0)
            coverage = sampling.coverage(officer, plan)
        assert (coverage.runs, coverage.population, coverage.picked, coverage.reviewed) == (1, 21, 2, 0)

    def test_what_was_drawn_is_recorded_so_that_anybody_can_draw_again(
        self, officer: Actor, member: Actor, acme: Company, at: Callable[[datetime], None]
    ) -> None:
        noon = today(12)
        ids = [recorded(member, noon + timedelta(minutes=minute)) for minute in range(10)]
        at(noon)
        sampling.create_plan(actor=officer, **{**RULE, "size": "20"})
        at(noon + timedelta(days=1))
        sampling.run_due(acme.tenant)
        with tenant_scope(acme.tenant.pk):
            made, drawn = (
                open_json(handle_of(row), field="input", sealed=row.input)
                for row in (
                    AuditRecord.objects.get(kind="review.plan_created"),
                    AuditRecord.objects.get(kind="review.sample_drawn"),
                )
            )
        # From the record alone, with the population as the log has it.
        seed = drawing.seed_of(bytes.fromhex(made["secret"]), drawn["since"])
        assert seed.hex() == drawn["seed"]
        assert drawing.digest(drawing.pack(sorted(ids))).hex() == drawn["population_sha256"]
        picked = drawing.draw(seed, sorted(ids), [0] * 10, drawn["measure"], Decimal(drawn["size"]))
        assert drawing.digest(drawing.pack(picked)).hex() == drawn["picked_sha256"]

    def test_what_it_was_drawn_from_goes_with_the_records_and_not_before(
        self,
        officer: Actor,
        member: Actor,
        acme: Company,
        at: Callable[[datetime], None],
        owner: psycopg.Connection,
    ) -> None:
        noon = today(12)
        ids = [recorded(member, noon + timedelta(minutes=minute)) for minute in range(10)]
        at(noon)
        sampling.create_plan(actor=officer, **{**RULE, "size": "20"})
        at(noon + timedelta(days=1))
        sampling.run_due(acme.tenant)
        owner.execute("DELETE FROM audit_record WHERE id = ANY(%s)", [ids[1:]])
        sampling.run_due(acme.tenant)
        with tenant_scope(acme.tenant.pk):
            run = SampleRun.objects.get()
            assert sampling.redraw(run) and len(run.population) == 160
        owner.execute("DELETE FROM audit_record WHERE id = %s", [ids[0]])
        sampling.run_due(acme.tenant)
        with tenant_scope(acme.tenant.pk):
            run = SampleRun.objects.get()
            assert (bytes(run.population), bytes(run.strata), sampling.redraw(run)) == (b"", b"", None)
            assert (run.population_count, len(run.picked), len(run.population_digest)) == (10, 32, 32)

    def test_a_run_that_was_tampered_with_does_not_draw_the_same(
        self, officer: Actor, member: Actor, acme: Company, at: Callable[[datetime], None]
    ) -> None:
        noon = today(12)
        for minute in range(10):
            recorded(member, noon + timedelta(minutes=minute))
        at(noon)
        sampling.create_plan(actor=officer, **{**RULE, "size": "20"})
        at(noon + timedelta(days=1))
        sampling.run_due(acme.tenant)
        with tenant_scope(acme.tenant.pk):
            run = SampleRun.objects.get()
            others = [
                each for each in drawing.unpack(bytes(run.population)) if each.bytes not in bytes(run.picked)
            ]
            run.picked = drawing.pack(others[:2])
            assert not sampling.redraw(run)

    def test_only_what_the_filters_let_through_and_each_person_is_seen(
        self, officer: Actor, member: Actor, acme: Company, at: Callable[[datetime], None]
    ) -> None:
        noon, curator, operator = today(12), acme.actor(acme.curator), acme.actor(acme.operator)
        for minute in range(12):
            recorded(member, noon + timedelta(minutes=minute), channel="api")
        recorded(curator, noon, channel="api")
        recorded(operator, noon, channel="api")
        recorded(curator, noon, channel="chat")
        with tenant_scope(acme.tenant.pk):
            desk = Group.objects.create(name="Desk")
            for user in (acme.member, acme.curator):
                GroupMember.objects.create(group=desk, membership=Membership.objects.get(user=user))
        at(noon)
        filters = sampling.Filters(group=str(desk.pk), channel="api", status="completed")
        sampling.create_plan(actor=officer, filters=filters, **{**RULE, "size": "10", "stratum": "user"})
        at(noon + timedelta(days=1))
        sampling.run_due(acme.tenant)
        with tenant_scope(acme.tenant.pk):
            run = SampleRun.objects.get()
            assert (run.population_count, run.picked_count) == (13, 3)
            people = ReviewItem.objects.values_list("subject_user_id", flat=True)
            assert sorted(people) == sorted([acme.member.pk, acme.member.pk, acme.curator.pk])

    def test_paused_periods_are_not_drawn_later(
        self, officer: Actor, member: Actor, acme: Company, at: Callable[[datetime], None]
    ) -> None:
        begin_, day = today(0), timedelta(days=1)
        at(begin_)
        plan = sampling.create_plan(actor=officer, **RULE)
        at(begin_ + day / 2)
        sampling.pause_plan(actor=officer, plan_id=plan.pk)
        at(begin_ + 2.5 * day)
        assert sampling.run_due(acme.tenant) == 0
        sampling.resume_plan(actor=officer, plan_id=plan.pk)
        at(begin_ + 3.5 * day)
        assert sampling.run_due(acme.tenant) == 1
        with tenant_scope(acme.tenant.pk):
            assert SampleRun.objects.get().since == begin_ + 2 * day

    def test_a_worker_that_was_away_catches_up_and_flags_what_was_left(
        self,
        officer: Actor,
        member: Actor,
        acme: Company,
        at: Callable[[datetime], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begin_ = today(0)
        for hour in range(3):
            recorded(member, begin_ + timedelta(hours=hour, minutes=1))
        at(begin_)
        sampling.create_plan(actor=officer, **{**RULE, "per": "hour"})
        at(begin_ + timedelta(hours=3, minutes=5))
        with monkeypatch.context() as broken:
            broken.setattr(sampling, "raise_flag", lambda **values: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                sampling.run_due(acme.tenant)
        sampling.run_due(acme.tenant)
        with tenant_scope(acme.tenant.pk):
            assert (SampleRun.objects.count(), Flag.objects.count(), SampleDone.objects.count()) == (3, 3, 3)

    def test_a_preview_says_how_many_of_how_many(
        self, officer: Actor, member: Actor, at: Callable[[datetime], None]
    ) -> None:
        noon = today(12)
        for minute in range(28):
            recorded(member, noon + timedelta(minutes=minute))
        at(noon + timedelta(days=1))
        found = sampling.preview(officer, filters=sampling.Filters(), **RULE)
        assert (found.population, found.picked, found.since) == (28, 2, today(0) - timedelta(days=1))


class TestPlans:
    def test_they_are_managers_to_make_and_each_change_is_recorded(
        self, reviewer: Actor, officer: Actor, acme: Company
    ) -> None:
        with pytest.raises(NotVisible):
            sampling.create_plan(actor=reviewer, **RULE)
        plan = sampling.create_plan(actor=officer, **RULE)
        with pytest.raises(NotVisible):
            sampling.pause_plan(actor=reviewer, plan_id=plan.pk)
        filters = sampling.Filters(channel="api")
        sampling.update_plan(actor=officer, plan_id=plan.pk, size="7.5", filters=filters)
        sampling.pause_plan(actor=officer, plan_id=plan.pk)
        sampling.resume_plan(actor=officer, plan_id=plan.pk)
        sampling.retire_plan(actor=officer, plan_id=plan.pk)
        with tenant_scope(acme.tenant.pk):
            kinds = AuditRecord.objects.filter(kind__startswith="review.").order_by("id")
            assert [kind.removeprefix("review.plan_") for kind in kinds.values_list("kind", flat=True)] == [
                "created",
                "changed",
                "paused",
                "resumed",
                "retired",
            ]

    def test_the_other_tenant_has_none_of_it(self, officer: Actor, north: Company) -> None:
        plan = sampling.create_plan(actor=officer, **RULE)
        outsider = north.actor(north.officer)
        with pytest.raises(NotVisible):
            sampling.pause_plan(actor=outsider, plan_id=plan.pk)
        with tenant_scope(north.tenant.pk):
            assert not SamplePlan.objects.exists()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": ""},
            {"name": "daily LOOK"},
            {"size": "0"},
            {"size": "100.5"},
            {"size": "0.001"},
            {"size": "many"},
            {"measure": "count", "size": "1.5"},
            {"measure": "count", "size": "10001"},
            {"per": "year"},
            {"stratum": "mood"},
            {"severity": "dire"},
            {"filters": sampling.Filters(group="x")},
            {"filters": sampling.Filters(status="x")},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, officer: Actor, wrong: dict[str, Any]) -> None:
        sampling.create_plan(actor=officer, **RULE)
        with pytest.raises(Refused):
            sampling.create_plan(actor=officer, **{**RULE, "name": "Other", **wrong})

    def test_what_it_draws_from_is_sealed(self, officer: Actor, acme: Company, owner: Any) -> None:
        sampling.create_plan(actor=officer, filters=sampling.Filters(model_version="canary-version"), **RULE)
        (row,) = owner.execute("SELECT t::text FROM audit_review_sampleplan t").fetchall()
        assert "canary" not in row[0]
        with tenant_scope(acme.tenant.pk):
            assert sampling.filters_of(SamplePlan.objects.get()).model_version == "canary-version"
