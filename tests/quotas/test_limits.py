"""Setting limits: who may, what is refused, what is recorded."""

from typing import Any
from uuid import UUID

import pytest

from audit.models import AuditRecord
from tenants import changes as recording
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import Group
from tenants.quotas import selectors, wording
from tenants.quotas.counters import Standing
from tenants.quotas.errors import QuotaExceeded
from tenants.quotas.models import MOST, Limit, Metric, SubjectKind
from tenants.quotas.rules import Rule
from tenants.quotas.services import remove_limit, set_limit
from tenants.scope import tenant_scope
from tests.conftest import Company, make_company
from tests.quotas.conftest import in_scope, limited, limited_by, platform_of

TENANT_DAY = {"subject_kind": "tenant", "subject_id": None, "metric": "tokens_per_day"}


@pytest.fixture
def acme(db: None) -> Company:
    return make_company("acme-bank", "Acme Bank")


@pytest.fixture
def north(db: None) -> Company:
    return make_company("north-fund", "North Fund")


def recorded(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.filter(kind__startswith="quota.").values_list("kind", flat=True))


def test_each_change_is_recorded_once_and_setting_the_same_again_changes_nothing(acme: Company) -> None:
    limited(acme, "tokens_per_day", 100)
    limited(acme, "tokens_per_day", 100)
    limited(acme, "tokens_per_day", 200)
    actor = acme.actor(acme.administrator)
    in_scope(actor, remove_limit, actor=actor, **TENANT_DAY)
    assert sorted(recorded(acme)) == ["quota.limit_removed", "quota.limit_set", "quota.limit_set"]
    with pytest.raises(NotVisible):
        in_scope(actor, remove_limit, actor=actor, **TENANT_DAY)


@pytest.mark.parametrize("who", ["operator", "curator", "member", "reviewer", "auditor"])
def test_only_administrators_set_limits(acme: Company, who: str) -> None:
    actor = acme.actor(getattr(acme, who))
    for service, more in ((set_limit, {"value": 1}), (remove_limit, {})):
        with pytest.raises(NotVisible):
            in_scope(actor, service, actor=actor, **TENANT_DAY, **more)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"metric": "tokens_per_year"}, "metric_unknown", "metric"),
        ({"subject_kind": "planet"}, "subject_unknown", "subject_kind"),
        ({"value": -1}, "value_invalid", "value"),
        ({"value": MOST + 1}, "value_invalid", "value"),
        ({"value": True}, "value_invalid", "value"),
        ({"value": 1.5}, "value_invalid", "value"),
        ({"subject_id": uuid7()}, "subject_unknown", "subject_id"),
        ({"subject_kind": "member", "subject_id": uuid7()}, "subject_unknown", "subject_id"),
        ({"subject_kind": "key", "subject_id": uuid7()}, "subject_unknown", "subject_id"),
        ({"subject_kind": "group", "subject_id": None}, "subject_unknown", "subject_id"),
        ({"subject_kind": "key", "metric": "storage_bytes"}, "storage_not_by_key", "metric"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(
    acme: Company, changes: dict[str, Any], code: str, field: str
) -> None:
    actor = acme.actor(acme.administrator)
    with pytest.raises(Refused) as refused:
        in_scope(actor, set_limit, actor=actor, **{**TENANT_DAY, "value": 1, **changes})
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.message
    assert recorded(acme) == []


def test_a_subject_of_another_tenant_is_nobody(acme: Company, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        group = Group.objects.create(name="Traders")
    subjects: list[tuple[str, UUID]] = [("member", north.member.pk), ("group", group.pk)]
    for kind, subject in subjects:
        with pytest.raises(Refused):
            limited(acme, "tokens_per_day", 1, kind, subject)


def test_a_ceiling_is_seen_by_administrators_and_changed_by_the_platform_alone(acme: Company) -> None:
    ceiling = limited_by(platform_of(acme), "tokens_per_day", 1_000)
    own = limited(acme, "tokens_per_day", 5_000)
    assert (ceiling.is_ceiling, own.is_ceiling) == (True, False)
    actor = acme.actor(acme.administrator)
    rows = in_scope(actor, selectors.limits, actor)
    assert [(row.limit.value, row.may_change) for row in rows] == [(1_000, False), (5_000, True)]
    in_scope(actor, remove_limit, actor=actor, **TENANT_DAY)
    assert [row.limit.pk for row in in_scope(actor, selectors.limits, actor)] == [ceiling.pk]


def test_the_platform_limits_tenants_as_a_whole_only(acme: Company) -> None:
    with pytest.raises(Refused) as refused:
        limited_by(platform_of(acme), "tokens_per_day", 1, "member")
    assert refused.value.code == "ceiling_of_tenant_only"


def test_limits_are_shown_with_names_to_those_who_may_see_them(acme: Company, north: Company) -> None:
    limited(acme, "tokens_per_day", 10, "member", acme.member.pk)
    limited(acme, "tokens_per_day", 5, "member")
    limited(north, "tokens_per_day", 7)
    for who in (acme.administrator, acme.auditor):
        actor = acme.actor(who)
        rows = in_scope(actor, selectors.limits, actor)
        assert [(row.limit.value, row.subject) for row in rows] == [(5, ""), (10, acme.member.email)]
        assert [row.standing and row.standing.used for row in rows] == [None, 0]
    actor = acme.actor(acme.member)
    with pytest.raises(NotVisible):
        in_scope(actor, selectors.limits, actor)


def test_the_database_itself_refuses_a_second_limit_of_one_kind(acme: Company) -> None:
    from django.db import IntegrityError

    limited(acme, "tokens_per_day", 10)
    with pytest.raises(IntegrityError), tenant_scope(acme.tenant.pk):
        Limit.objects.create(subject_kind="tenant", metric="tokens_per_day", value=20)


def test_what_cannot_be_recorded_is_not_changed_even_if_somebody_goes_on(
    acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_anything: object, **_more: object) -> None:
        raise RuntimeError("no record")

    limited(acme, "tokens_per_day", 100)
    actor = acme.actor(acme.administrator)
    monkeypatch.setattr(recording, "_sink", fail)
    with tenant_scope(acme.tenant.pk):
        for deed in (
            lambda: set_limit(actor=actor, value=5, **TENANT_DAY),
            lambda: remove_limit(actor=actor, **TENANT_DAY),
        ):
            with pytest.raises(RuntimeError, match="no record"):
                deed()
            assert [limit.value for limit in Limit.objects.all()] == [100]


@pytest.mark.parametrize(
    ("used", "retry_after", "words"),
    [
        (
            400,
            30,
            "The limit of 400 tokens per minute for your workspace is reached. Try again in 30 seconds.",
        ),
        (
            125,
            30,
            "This may need more than is left of 400 tokens per minute for your workspace. Try again in 30",
        ),
        (0, None, "This may need more than the whole limit of 400 tokens per minute for your workspace."),
    ],
)
def test_a_refusal_says_whether_a_limit_is_used_up_or_too_small(
    used: int, retry_after: int | None, words: str
) -> None:
    rule = Rule(uuid7(), Metric.TOKENS_PER_MINUTE, SubjectKind.TENANT, None, 400)
    standing = Standing(rule, used, retry_after)
    assert wording.refusal(QuotaExceeded(standing, [standing])).startswith(words)
