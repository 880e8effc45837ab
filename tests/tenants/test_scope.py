"""Each of the two layers that keep tenants apart holds alone."""

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django_scopes import ScopeError, scopes_disabled

from tenants import isolation
from tenants.models import ApiKey, DataKey, Membership
from tenants.scope import Journeys, actor_scope, brief_scope, tenant_scope
from tests.conftest import Company
from tests.support.services import Services


def test_a_query_without_a_tenant_raises(acme: Company) -> None:
    for use in (
        lambda: list(Membership.objects.all()),
        lambda: Membership.objects.exists(),
        lambda: Membership.objects.count(),
        lambda: Membership.objects.create(user=acme.member, role="member"),
        lambda: Membership.objects.in_bulk(),
    ):
        with pytest.raises(ScopeError):
            use()


def test_a_scope_shows_its_own_tenant_alone(acme: Company, north: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        assert {m.user_id for m in Membership.objects.all()} == {person.pk for person in acme.people}


def test_row_security_holds_when_the_managers_are_switched_off(acme: Company, north: Company) -> None:
    with tenant_scope(acme.tenant.pk), scopes_disabled():
        assert {m.tenant_id for m in Membership.objects.all()} == {acme.tenant.pk}
        assert Membership.objects.filter(tenant=north.tenant).update(role="administrator") == 0
        assert Membership.objects.filter(tenant=north.tenant).delete()[0] == 0


def test_row_security_refuses_a_row_for_another_tenant(acme: Company, north: Company) -> None:
    with pytest.raises(DatabaseError, match="row-level security"), tenant_scope(acme.tenant.pk):
        Membership.objects.create(tenant=north.tenant, user=acme.member, role="administrator")


def test_without_a_scope_the_database_shows_nothing(acme: Company) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_membership")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_the_managers_hold_when_row_security_is_switched_off(
    acme: Company, north: Company, services: Services
) -> None:
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("ALTER TABLE tenants_membership DISABLE ROW LEVEL SECURITY")
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM tenants_membership")
                assert cursor.fetchone() == (len(acme.people) * 2,), "the control: row security is really off"
            with tenant_scope(acme.tenant.pk):
                assert {m.tenant_id for m in Membership.objects.all()} == {acme.tenant.pk}
            with pytest.raises(ScopeError):
                Membership.objects.first()
        finally:
            owner.execute("ALTER TABLE tenants_membership ENABLE ROW LEVEL SECURITY")


def test_the_setting_does_not_outlive_the_scope(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk), tenant_scope(acme.tenant.pk):
        assert ApiKey.objects.count() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('custos.tenant', true), '')")
        assert cursor.fetchone() == ("",)


def test_the_setting_does_not_outlive_a_scope_that_failed(acme: Company) -> None:
    with pytest.raises(RuntimeError), tenant_scope(acme.tenant.pk):
        raise RuntimeError
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('custos.tenant', true), '')")
        assert cursor.fetchone() == ("",)


def test_a_scope_within_the_scope_of_another_tenant_raises(acme: Company, north: Company) -> None:
    with pytest.raises(ScopeError), tenant_scope(acme.tenant.pk), tenant_scope(north.tenant.pk):
        pass


def test_people_see_their_own_memberships_before_a_tenant_is_known_and_cannot_change_them(
    acme: Company, north: Company
) -> None:
    with actor_scope(acme.member.pk):
        own = Membership.objects.with_scopes_disabled()
        assert [m.user_id for m in own.all()] == [acme.member.pk]
        assert own.filter(user=acme.member).update(role="administrator") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE postgres",
        "ALTER TABLE tenants_membership DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_rows ON tenants_membership",
        "CREATE TABLE mine (x int)",
        "CREATE TEMPORARY TABLE audit_record (x int)",
        "TRUNCATE tenants_membership",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('a', 'b', now())",
    ],
)
def test_the_applications_role_cannot_weaken_the_walls(acme: Company, statement: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_isolation_is_sound(acme: Company) -> None:
    assert isolation.violations(connection) == []
    assert DataKey in isolation.isolated_models(), "the control: there is something to check"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("break_it", "mend_it", "said"),
    [
        (
            "ALTER TABLE tenants_apikey NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE tenants_apikey FORCE ROW LEVEL SECURITY",
            "tenants_apikey",
        ),
        (
            "CREATE POLICY leak ON tenants_apikey FOR SELECT USING (true)",
            "DROP POLICY leak ON tenants_apikey",
            "tenants_apikey has other row-level policies",
        ),
        (
            "ALTER POLICY own_rows ON tenants_apikey USING (true)",
            f"ALTER POLICY own_rows ON tenants_apikey USING ({isolation.OWN_ROWS})",
            "tenants_apikey has other row-level policies",
        ),
        (
            "GRANT UPDATE, DELETE ON audit_record TO custos_app",
            "REVOKE UPDATE, DELETE ON audit_record FROM custos_app",
            "may DELETE, UPDATE audit_record",
        ),
        (
            "ALTER TABLE audit_chunk DISABLE TRIGGER guard",
            "ALTER TABLE audit_chunk ENABLE TRIGGER guard",
            "guard of audit_chunk is switched off",
        ),
        ("ALTER ROLE custos_app BYPASSRLS", "ALTER ROLE custos_app NOBYPASSRLS", "may bypass"),
        ("ALTER ROLE custos_app SUPERUSER", "ALTER ROLE custos_app NOSUPERUSER", "may bypass"),
    ],
)
def test_a_weakened_wall_is_found(services: Services, break_it: str, mend_it: str, said: str) -> None:
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute(break_it)
        try:
            found = isolation.violations(connection)
        finally:
            owner.execute(mend_it)
    assert any(said in violation for violation in found)


# The scope of few journeys


def _rows(journeys: Journeys) -> list[tuple[object, ...]]:
    return journeys.ask("SELECT DISTINCT tenant_id FROM tenants_membership")


@pytest.mark.django_db(transaction=True)
def test_a_brief_scope_sees_its_own_tenant_alone_and_leaves_nothing_behind(
    acme: Company, north: Company
) -> None:
    for company in (acme, north):
        with brief_scope(company.tenant.pk) as journeys:
            assert _rows(journeys) == [(company.tenant.pk,)]
            with pytest.raises(ScopeError):
                list(Membership.objects.all())
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('custos.tenant', true)")
        assert cursor.fetchone() == ("",)


@pytest.mark.django_db(transaction=True)
def test_what_is_told_is_committed_together_or_not_at_all(acme: Company) -> None:
    tell = "UPDATE tenants_membership SET role = %s WHERE user_id = %s"

    def role() -> str:
        with tenant_scope(acme.tenant.pk):
            return Membership.objects.get(user=acme.member).role

    before = role()
    for wrong in ("SELECT 1 / 0", "SELECT nothing FROM nowhere"):
        with pytest.raises(DatabaseError), brief_scope(acme.tenant.pk) as journeys:
            journeys.tell(tell, ["administrator", acme.member.pk])
            journeys.tell(wrong)
        assert role() == before
    with pytest.raises(KeyError), brief_scope(acme.tenant.pk) as journeys:
        journeys.ask(tell, ["administrator", acme.member.pk])
        raise KeyError
    assert role() == before
    with brief_scope(acme.tenant.pk) as journeys:
        journeys.tell(tell, ["administrator", acme.member.pk])
    assert role() == "administrator"


@pytest.mark.django_db(transaction=True)
def test_a_brief_scope_is_two_journeys_at_most(acme: Company) -> None:
    with CaptureQueriesContext(connection) as sent, brief_scope(acme.tenant.pk) as journeys:
        _rows(journeys)
        journeys.tell("SELECT 1")
    assert len(sent) == 2


@pytest.mark.django_db(transaction=True)
def test_inside_a_scope_it_is_part_of_it(acme: Company, north: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        with brief_scope(acme.tenant.pk) as journeys:
            assert _rows(journeys) == [(acme.tenant.pk,)]
        assert Membership.objects.exists()
        with pytest.raises(ScopeError), brief_scope(north.tenant.pk):
            pass
