"""Reserving and settling: which limits bind whom, what survives Valkey, and what is recorded."""

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from pytest_django.fixtures import Settings

from tenants import clock, groups, keys, valkey
from tenants.actors import Actor, actor_for_key
from tenants.models import Group, Membership
from tenants.quotas import counters, metrics, reservations, rules
from tenants.quotas.errors import QuotaExceeded, QuotaUnavailable
from tenants.quotas.models import UsageDay
from tenants.quotas.services import remove_limit
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.quotas.conftest import in_scope, limited, limited_by, platform_of, reserve, use

in_thread = sync_to_async


async def refused(actor: Actor, tokens: int = 1) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as caught:
        await reserve(actor, tokens)
    return caught.value


def usage_of(company: Company) -> list[dict[str, object]]:
    with tenant_scope(company.tenant.pk):
        columns = ("user_id", "key_id", "route", "requests", "prompt_tokens", "completion_tokens", "refused")
        return list(UsageDay.objects.order_by("pk").values(*columns))


def a_group(company: Company, *people: str) -> Group:
    actor = company.actor(company.administrator)
    with tenant_scope(company.tenant.pk):
        members = Membership.objects.filter(user__in=[getattr(company, name) for name in people])
        ids = list(members.values_list("pk", flat=True))
        return groups.create_group(actor=actor, name="Traders", membership_ids=ids)


def a_key(company: Company, **fields: object) -> Actor:
    with tenant_scope(company.tenant.pk):
        _key, text = keys.create_key(
            actor=company.actor(company.administrator), name="robot", scopes=["inference"], **fields
        )
    actor = actor_for_key(text)
    assert actor is not None
    return actor


async def test_200_requests_at_once_share_the_last_1000_tokens(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 5_000)
    actor = await in_thread(acme.actor)(acme.member)
    await use(actor, 4_000)
    answers = await asyncio.gather(*(reserve(actor, 60) for _ in range(200)), return_exceptions=True)
    taken = [each for each in answers if isinstance(each, reservations.Reservation)]
    assert len(taken) == 16
    assert all(isinstance(each, QuotaExceeded) for each in answers if each not in taken)
    await asyncio.gather(*(reservations.settle(r, prompt_tokens=20, completion_tokens=5) for r in taken))
    (row,) = await in_thread(usage_of)(acme)
    assert (row["requests"], row["refused"]) == (17, 184)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (4_320, 80)
    assert (await reserve(actor, 600)).standings[0].remaining == 0


async def test_a_tenants_limit_binds_all_its_people_and_no_other_tenant(
    acme: Company, north: Company
) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100)
    await use(await in_thread(acme.actor)(acme.member), 100)
    error = await refused(await in_thread(acme.actor)(acme.curator))
    assert (error.metric, error.standing.rule.kind, error.standing.rule.value) == (
        "tokens_per_day",
        "tenant",
        100,
    )
    assert 0 < (error.retry_after or 0) <= 86_400
    await use(await in_thread(north.actor)(north.member), 1_000)


async def test_every_member_has_a_limit_of_their_own_unless_one_has_another(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100, "member")
    await in_thread(limited)(acme, "tokens_per_day", 300, "member", acme.curator.pk)
    member, curator = [await in_thread(acme.actor)(person) for person in (acme.member, acme.curator)]
    await use(member, 100)
    await refused(member)
    await use(curator, 300)
    await refused(curator)
    await use(await in_thread(acme.actor)(acme.operator), 100)


async def test_a_group_shares_its_limit(acme: Company) -> None:
    group = await in_thread(a_group)(acme, "member", "curator")
    await in_thread(limited)(acme, "tokens_per_day", 100, "group", group.pk)
    await use(await in_thread(acme.actor)(acme.member), 60)
    error = await refused(await in_thread(acme.actor)(acme.curator), 60)
    assert error.standing.rule.name == "Traders"
    await use(await in_thread(acme.actor)(acme.operator), 1_000)


async def test_of_a_ceiling_and_a_limit_the_smaller_binds(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 500)
    await in_thread(lambda: limited_by(platform_of(acme), "tokens_per_day", 100))()
    actor = await in_thread(acme.actor)(acme.member)
    error = await refused(actor, 101)
    assert error.standing.rule.is_ceiling
    assert error.retry_after is None


async def test_a_persons_keys_count_for_the_person_and_for_themselves(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100, "member")
    await in_thread(limited)(acme, "tokens_per_day", 30, "key")
    key = await in_thread(a_key)(acme)
    await use(key, 30)
    error = await refused(key)
    assert error.standing.rule.kind == "key"
    person = await in_thread(acme.actor)(acme.administrator)
    await use(person, 70)
    error = await refused(person)
    assert error.standing.rule.kind == "member"


async def test_a_keys_limit_stays_when_the_key_is_rotated(acme: Company) -> None:
    old = await in_thread(a_key)(acme)
    await in_thread(limited)(acme, "tokens_per_day", 100, "key", old.api_key_id)
    await use(old, 70)

    def rotated() -> Actor | None:
        with tenant_scope(acme.tenant.pk):
            administrator = acme.actor(acme.administrator)
            _fresh, text = keys.rotate_key(
                actor=administrator, key_id=old.api_key_id, overlap=timedelta(hours=1)
            )
        return actor_for_key(text)

    fresh = await in_thread(rotated)()
    assert fresh is not None
    await refused(fresh, 31)
    await use(fresh, 30)
    await refused(old)
    # Also when the counter is made anew.
    await valkey.client().flushall()
    await refused(fresh)


async def test_a_limit_that_is_changed_binds_at_once_and_one_that_is_removed_no_more(acme: Company) -> None:
    actor = await in_thread(acme.actor)(acme.member)
    await use(actor, 100)
    await in_thread(limited)(acme, "tokens_per_day", 50)
    await refused(actor)  # What was used before it was set counts too.
    await in_thread(limited)(acme, "tokens_per_day", 150)
    await use(actor, 50)
    await refused(actor)
    administrator = await in_thread(acme.actor)(acme.administrator)
    await in_thread(in_scope)(
        administrator,
        remove_limit,
        actor=administrator,
        subject_kind="tenant",
        subject_id=None,
        metric="tokens_per_day",
    )
    await use(actor, 1_000)


@pytest.mark.parametrize("forgotten", [False, True], ids=["valkey knows", "valkey forgot"])
async def test_a_process_that_goes_by_older_limits_finds_out_at_once(acme: Company, forgotten: bool) -> None:
    actor = await in_thread(acme.actor)(acme.member)
    await use(actor, 100)
    here = rules.known(actor)
    assert here is not None and here.rules == ()
    await in_thread(limited)(acme, "tokens_per_day", 50)
    if forgotten:
        await valkey.client().flushall()
    rules.remember(actor, here)
    await refused(actor)


@pytest.mark.parametrize("kind", ["tenant", "group", "member"])
@pytest.mark.parametrize("metric", ["tokens_per_day", "tokens_per_month"])
async def test_a_restart_of_valkey_gives_nobody_a_fresh_day(acme: Company, kind: str, metric: str) -> None:
    group = await in_thread(a_group)(acme, "member")
    subject = {"tenant": None, "group": group.pk, "member": acme.member.pk}[kind]
    await in_thread(limited)(acme, metric, 100, kind, subject)
    actor = await in_thread(acme.actor)(acme.member)
    await use(actor, 90)
    await valkey.client().flushall()
    await refused(actor, 11)
    await use(actor, 10)


async def test_what_ends_after_a_restart_is_counted(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100)
    actor = await in_thread(acme.actor)(acme.member)
    running = await reserve(actor, 80)
    await valkey.client().flushall()
    await reservations.renew([running])
    await refused(actor, 21)
    await reservations.settle(running, prompt_tokens=50, completion_tokens=0)
    await refused(actor, 51)
    await use(actor, 50)


async def test_what_ended_before_the_counter_was_made_anew_is_counted_once(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100)
    actor = await in_thread(acme.actor)(acme.member)
    running = await reserve(actor, 80)
    await valkey.client().flushall()
    await reservations.settle(running, prompt_tokens=50, completion_tokens=0)
    await refused(actor, 51)
    await use(actor, 50)


async def test_keys_and_metrics_name_the_tenant_and_nobody_else(acme: Company) -> None:
    await valkey.client().flushall()
    await in_thread(limited)(acme, "tokens_per_day", 100, "member")
    await in_thread(limited)(acme, "concurrent_streams", 1)
    actor = await in_thread(acme.actor)(acme.member)
    await reserve(actor, 80)
    await refused(actor)
    names = {key.decode() for key in await valkey.client().keys("*")}
    # What a changed limit leaves: a hint under the tenant's name alone.
    names.remove(f"custos:{{{acme.tenant.pk}}}:changed")
    assert names
    assert all(name.startswith(f"custos:{acme.tenant.pk}:quota:") for name in names)
    samples = [sample for family in metrics.refusals.collect() for sample in family.samples]
    assert {name for sample in samples for name in sample.labels} == {"metric", "subject"}


async def test_a_dead_processs_reservation_runs_out(acme: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "LEASE_S", 1)
    await in_thread(limited)(acme, "concurrent_streams", 1)
    actor = await in_thread(acme.actor)(acme.member)
    await reserve(actor, 1)
    error = await refused(actor)
    assert (error.metric, error.retry_after) == ("concurrent_streams", 1)
    await asyncio.sleep(1.1)
    await reserve(actor, 1)


async def test_a_new_day_is_a_new_day(acme: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100)
    await in_thread(limited)(acme, "tokens_per_month", 10_000)
    actor = await in_thread(acme.actor)(acme.member)
    await use(actor, 100)
    error = await refused(actor)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=error.retry_after or 0))
    await use(actor, 100)
    await refused(actor)
    assert [row["requests"] for row in await in_thread(usage_of)(acme)] == [1, 1]


async def test_without_valkey_nothing_may_be_used(acme: Company, settings: Settings) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100)
    actor = await in_thread(acme.actor)(acme.member)
    running = await reserve(actor, 40)
    await valkey.close_client()
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(QuotaUnavailable):
        await reserve(actor, 1)
    with pytest.raises(QuotaUnavailable):
        await reservations.renew([running])
    # What was used meanwhile is known when it comes back.
    await reservations.settle(running, prompt_tokens=30, completion_tokens=0)
    await valkey.close_client()
    del settings.REDIS_URL
    assert [row["prompt_tokens"] for row in await in_thread(usage_of)(acme)] == [30]


async def test_what_no_model_reads_counts_as_a_request_only(acme: Company) -> None:
    for metric, value in {"requests_per_minute": 1, "tokens_per_day": 0, "concurrent_streams": 0}.items():
        await in_thread(limited)(acme, metric, value)
    actor = await in_thread(acme.actor)(acme.member)
    await reserve(actor, 0, answers=False)
    with pytest.raises(QuotaExceeded) as caught:
        await reserve(actor, 0, answers=False)
    assert caught.value.metric == "requests_per_minute"


async def test_what_was_not_asked_of_the_model_is_given_back_and_is_no_usage(acme: Company) -> None:
    await in_thread(limited)(acme, "tokens_per_day", 100)
    actor = await in_thread(acme.actor)(acme.member)
    await reservations.release(await reserve(actor, 100))
    await reserve(actor, 100)
    assert await in_thread(usage_of)(acme) == []
