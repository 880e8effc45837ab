"""How long records are kept: who decides it, from when on it counts, and that it is recorded."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection

from audit.models import AuditRecord
from audit.record import Keeping, handle_of, keeping_of, open_json
from audit.retention import policies
from audit.retention.models import Policy
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.scope import tenant_scope
from tests.audit.retention.conftest import Clocks
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

DEFAULTS = {Keeping.REQUESTS: 7, Keeping.CHANGES: 365, Keeping.READINGS: 365}


def days(actor: Actor) -> dict[Keeping, int]:
    return {keeping: each.days for keeping, each in policies.in_force(actor.tenant_id).items()}


def change(actor: Actor, days: int, keeping: str = Keeping.REQUESTS) -> policies.InForce:
    return policies.set_policy(actor=actor, keeping=keeping, days=days, reason="As the regulator asks")


def test_seven_days_of_requests_and_a_year_of_the_rest(officer: Actor) -> None:
    assert days(officer) == DEFAULTS


def test_longer_counts_at_once_shorter_a_day_later(officer: Actor, clocks: Clocks) -> None:
    assert change(officer, 30).days == 30
    shown = change(officer, 10)
    assert (shown.days, shown.wanted) == (30, 10) and shown.pending is not None
    clocks.shift(timedelta(hours=23, minutes=59))
    assert days(officer)[Keeping.REQUESTS] == 30
    clocks.shift(timedelta(hours=24, minutes=1))
    assert policies.in_force(officer.tenant_id)[Keeping.REQUESTS] == policies.InForce(
        Keeping.REQUESTS, 10, None
    )


def test_what_was_decided_later_takes_the_place_of_what_does_not_count_yet(
    officer: Actor, clocks: Clocks
) -> None:
    change(officer, 1)
    change(officer, 7)
    clocks.shift(timedelta(days=3))
    assert days(officer)[Keeping.REQUESTS] == 7
    change(officer, 2)
    clocks.shift(timedelta(days=3, hours=12))
    change(officer, 3)
    clocks.shift(timedelta(days=4, hours=1))
    assert days(officer)[Keeping.REQUESTS] == 7, "two days never came to count"
    clocks.shift(timedelta(days=4, hours=13))
    assert days(officer)[Keeping.REQUESTS] == 3


def test_each_keeping_and_tenant_has_its_own(officer: Actor, north: Company) -> None:
    change(officer, 3650, Keeping.READINGS)
    assert days(officer) == {**DEFAULTS, Keeping.READINGS: 3650}
    assert days(north.actor(north.officer)) == DEFAULTS


def test_a_change_is_recorded_with_before_and_after_and_its_reason(officer: Actor) -> None:
    change(officer, 30)
    change(officer, 30)
    with tenant_scope(officer.tenant_id):
        [row] = AuditRecord.objects.filter(kind="retention.policy_changed")
        detail = open_json(handle_of(row), field="input", sealed=row.input)
    assert (detail["before"], detail["after"]["days"]) == ({"days": 7}, 30)
    assert (detail["keeping"], detail["reason"]) == ("audit", "As the regulator asks")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"days": 0}, "retention_invalid"),
        ({"days": 3651}, "retention_invalid"),
        ({"days": True}, "retention_invalid"),
        ({"days": "8"}, "retention_invalid"),
        ({"keeping": "chat"}, "keeping_unknown"),
        ({"reason": "  "}, "reason_required"),
        ({"reason": "x" * 1001}, "reason_too_long"),
    ],
)
def test_what_makes_no_sense_is_refused(officer: Actor, values: dict[str, object], code: str) -> None:
    with pytest.raises(Refused) as error:
        policies.set_policy(
            actor=officer,
            **{"keeping": "audit", "days": 8, "reason": "Why", **values},  # type: ignore[arg-type]
        )
    assert error.value.code == code
    assert days(officer) == DEFAULTS


@pytest.mark.parametrize(
    "role", ["owner", "administrator", "operator", "curator", "member", "reviewer", "auditor"]
)
def test_only_officers_change_it(acme: Company, role: str) -> None:
    with pytest.raises(NotVisible):
        change(acme.actor(getattr(acme, role)), 30)


@pytest.mark.parametrize("days_wanted", [0, 3651])
def test_the_database_holds_to_the_bounds(officer: Actor, days_wanted: int) -> None:
    with pytest.raises(DatabaseError), tenant_scope(officer.tenant_id):
        Policy.objects.create(keeping="audit", days=days_wanted, decided_label="x")


def test_the_database_keeps_what_record_keeps(member: Actor) -> None:
    kinds = [
        "generation",
        "embedding",
        "audit.read",
        "audit.search",
        "audit.export",
        "audit.reader",
        "x.changed",
    ]
    with tenant_scope(member.tenant_id), connection.cursor() as cursor:
        for kind in kinds:
            cursor.execute(
                "SELECT audit_keeping(%s, 2::smallint), audit_keeping(%s, 1::smallint)", [kind, kind]
            )
            row = AuditRecord(tenant_id=member.tenant_id, id=member.tenant_id, kind=kind, schema=1)
            assert cursor.fetchone() == (keeping_of(kind), handle_of(row).keeping), kind
