"""A tenant's life from founding to the destruction of its keys, and its settings."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from audit import record
from audit.record import Handle
from console.chat.models import Conversation, Message
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import clock, custom_roles, envelope, groups, isolation, keys, lifecycle, people, tasks
from tenants.access import Level, put_grant
from tenants.actors import Actor, NotVisible, actor_for_key, actor_for_user, memberships_of, platform_actor
from tenants.errors import Refused
from tenants.models import DataKey, Group, Tenant, TenantKey, TenantSettings, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import at_once, changes, membership_of, no_change, one_change, refused

Owner = Callable[[], AbstractContextManager[psycopg.Connection]]


@pytest.fixture
def platform(acme: Company, platform_administrator: User) -> Actor:
    return platform_actor(user=platform_administrator, tenant=acme.tenant)


def status_of(company: Company) -> str:
    return Tenant.objects.get(pk=company.tenant.pk).status


# --- Founding ----------------------------------------------------------------------------------


def test_a_tenant_is_founded_with_settings_and_the_group_of_everyone(platform_administrator: User) -> None:
    tenant = lifecycle.create_tenant(user=platform_administrator, slug="south-bank", name=" South  Bank ")
    assert (tenant.slug, tenant.name, tenant.status) == ("south-bank", "South Bank", "active")
    with tenant_scope(tenant.pk):
        assert TenantSettings.objects.get().accent == "blue"
        assert Group.objects.get().is_everyone
    lifecycle.furnish(tenant)
    with tenant_scope(tenant.pk):
        assert (TenantSettings.objects.count(), Group.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("slug", "name", "code", "field"),
    [
        ("acme-bank", "Acme", "slug_taken", "slug"),
        ("асme-bank", "Acme", "slug_look_alike", "slug"),
        ("Acme", "Acme", "slug_invalid", "slug"),
        ("api", "Acme", "slug_reserved", "slug"),
        ("south", "", "name_missing", "name"),
        ("south", "Асme", "name_look_alike", "name"),
    ],
)
def test_what_is_no_tenant(
    acme: Company, platform_administrator: User, slug: str, name: str, code: str, field: str
) -> None:
    with refused(code, field):
        lifecycle.create_tenant(user=platform_administrator, slug=slug, name=name)
    assert Tenant.objects.count() == 1


def test_the_name_of_a_deleted_tenant_stays_taken(acme: Company, platform_administrator: User) -> None:
    Tenant.objects.filter(pk=acme.tenant.pk).update(status="deleted")
    with refused("slug_taken", "slug"):
        lifecycle.create_tenant(user=platform_administrator, slug="acme-bank", name="Acme Again")


@pytest.mark.django_db(transaction=True)
def test_one_of_two_founders_of_one_name_is_refused(platform_administrator: User) -> None:
    def found() -> Tenant:
        return lifecycle.create_tenant(user=platform_administrator, slug="south", name="South")

    results = at_once(found, found)
    assert [each.code for each in results if isinstance(each, Exception)] == ["slug_taken"], results


def test_only_platform_administrators_found_tenants(acme: Company, platform_administrator: User) -> None:
    platform_administrator.is_active = False
    for user in (acme.owner, platform_administrator):
        for slug in ("south", "acme-bank", "Bad Slug"):
            with pytest.raises(NotVisible):
                lifecycle.create_tenant(user=user, slug=slug, name="South")


# --- Closed and opened -------------------------------------------------------------------------

STEPS: dict[str, Callable[..., Tenant]] = {
    "suspend": lifecycle.suspend,
    "resume": lifecycle.resume,
    "archive": lifecycle.archive,
    "request_deletion": lambda actor: lifecycle.request_deletion(actor=actor, confirm_slug=actor.tenant_slug),
    "cancel_deletion": lifecycle.cancel_deletion,
}
LEADS_TO = {
    ("active", "suspend"): "suspended",
    ("active", "archive"): "archived",
    ("suspended", "archive"): "archived",
    ("suspended", "resume"): "active",
    ("archived", "resume"): "active",
    ("active", "request_deletion"): "deleting",
    ("suspended", "request_deletion"): "deleting",
    ("archived", "request_deletion"): "deleting",
    ("deleting", "cancel_deletion"): "archived",
}


@pytest.mark.parametrize("status", Tenant.Status.values)
def test_each_step_leads_from_where_it_makes_sense(acme: Company, platform: Actor, status: str) -> None:
    for step, take in STEPS.items():
        later = clock.now() + timedelta(days=30) if status == "deleting" else None
        Tenant.objects.filter(pk=acme.tenant.pk).update(status=status, delete_after=later)
        if (status, step) not in LEADS_TO:
            with no_change(acme), refused("wrong_state"):
                take(actor=platform)
            assert status_of(acme) == status
            continue
        kind = {"request_deletion": "deletion_requested", "cancel_deletion": "deletion_cancelled"}
        kind |= {"suspend": "suspended", "resume": "resumed", "archive": "archived"}
        with one_change(acme, f"tenant.{kind[step]}") as found:
            take(actor=platform)
        assert status_of(acme) == LEADS_TO[status, step]
        assert (found[0].before["status"], found[0].after["status"]) == (status, status_of(acme))


def test_nobody_is_in_a_tenant_that_is_closed(acme: Company, platform: Actor) -> None:
    owner = acme.actor(acme.owner)
    _key, text = keys.create_key(actor=owner, name="mine", scopes=["management.write"])
    for close in ("suspend", "archive", "request_deletion"):
        assert actor_for_key(text) is not None and acme.actor(acme.owner), "the control"
        STEPS[close](actor=platform)
        assert actor_for_key(text) is None
        assert memberships_of(acme.owner) == []
        with pytest.raises(NotVisible):
            actor_for_user(user=acme.owner, tenant_slug="acme-bank")
        with no_change(acme):
            for deed in (
                lambda: people.invite(actor=owner, email="new@acme-bank.example"),
                lambda: lifecycle.update_settings(actor=owner, name="Mine"),
                lambda: lifecycle.archive(actor=owner),
                lambda: people.leave(actor=owner),
            ):
                with pytest.raises(NotVisible):
                    deed()
        if close == "request_deletion":
            lifecycle.cancel_deletion(actor=platform)
        lifecycle.resume(actor=platform)
    assert actor_for_key(text) is not None


@pytest.mark.parametrize("role", ["administrator", "operator", "curator", "member", "reviewer", "auditor"])
def test_only_owners_close_their_tenant(acme: Company, role: str) -> None:
    actor = acme.actor(getattr(acme, role))
    with no_change(acme):
        for take in STEPS.values():
            with pytest.raises(NotVisible):
                take(actor=actor)


def test_owners_close_and_do_not_open(acme: Company, platform: Actor) -> None:
    owner = acme.actor(acme.owner)
    for take in (lifecycle.suspend, lifecycle.resume, lifecycle.cancel_deletion):
        with no_change(acme), pytest.raises(NotVisible):
            take(actor=owner)
    lifecycle.archive(actor=owner)
    lifecycle.resume(actor=platform)
    with no_change(acme), refused("not_confirmed", "confirm_slug"):
        lifecycle.request_deletion(actor=owner, confirm_slug="Acme Bank")
    lifecycle.request_deletion(actor=owner, confirm_slug="acme-bank")
    assert Tenant.objects.get(pk=acme.tenant.pk).delete_after > clock.now() + timedelta(days=29)


def test_a_platform_administrator_of_yesterday_does_nothing(acme: Company, platform: Actor) -> None:
    User.objects.filter(pk=platform.user_id).update(is_active=False)
    with no_change(acme):
        for take in STEPS.values():
            with pytest.raises(NotVisible):
                take(actor=platform)
    for user in (acme.owner, User.objects.get(pk=platform.user_id)):
        with pytest.raises(NotVisible):
            platform_actor(user=user, tenant=acme.tenant)


# --- The end -----------------------------------------------------------------------------------


def fill(company: Company) -> tuple[bytes, Handle]:
    """Something in many of the tenant's tables; a sealed text of a chat, and an audit record."""
    owner = company.actor(company.owner)
    group = groups.create_group(
        actor=owner, name="Risk", membership_ids=[membership_of(company, company.member).pk]
    )
    groups.create_group(actor=owner, name="Below", parent_id=group.pk)
    people.invite(actor=owner, email="new@acme-bank.example", group_ids=[group.pk])
    custom_roles.create_role(actor=owner, slug="analyst", name="Analyst", permissions=["chat.use"])
    account = keys.create_service_account(actor=owner, name="Reports", role="analyst")
    key, _text = keys.create_key(actor=owner, name="key", service_account_id=account.pk)
    keys.rotate_key(actor=owner, key_id=key.pk)
    with tenant_scope(company.tenant.pk):
        sealed = envelope.seal(
            tenant_id=company.tenant.pk, purpose="chat", day=clock.now().date(), plaintext=b"words", aad={}
        )
        ensure_default_registry()
        route, talk = (
            ensure_default_route(),
            Conversation.objects.create(owner=company.owner, sealed_title=sealed),
        )
        said = {"conversation": talk, "author": company.owner, "sealed_content": sealed}
        question = Message.objects.create(role="user", **said)
        Message.objects.create(role="assistant", question=question, **said)
        for thing, principal in (
            (talk, company.owner),
            (talk, group),
            (route, group),
            (route, company.member),
        ):
            put_grant(thing, principal, Level.VIEWER)
    handle = record.record_event(actor=owner, kind="test.secret", detail={"secret": "words"})
    return sealed, handle


def read(company: Company, sealed: bytes, handle: Handle) -> tuple[bytes, object]:
    with tenant_scope(company.tenant.pk):
        day = clock.now().date()
        text = envelope.open_sealed(
            tenant_id=company.tenant.pk, purpose="chat", day=day, sealed=sealed, aad={}
        )
        row = record.AuditRecord.objects.get(id=handle.request_id)
        return text, record.open_json(handle, field="input", sealed=row.input)


def rows(owner: psycopg.Connection, tenant_id: UUID) -> dict[str, int]:
    """How many rows each table holds of the tenant, whatever row-level security says."""
    tables = [model._meta.db_table for model in isolation.isolated_models()]
    counts = {
        table: owner.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [tenant_id]).fetchone()[0]
        for table in tables
    }
    return {table: count for table, count in counts.items() if count}


def end_grace(owner: psycopg.Connection, company: Company) -> None:
    owner.execute("UPDATE tenants_tenant SET delete_after = now() WHERE id = %s", [company.tenant.pk])


@pytest.mark.django_db(transaction=True)
def test_after_the_grace_rows_and_keys_are_gone_and_the_audit_says_nothing_any_more(
    acme: Company, north: Company, platform: Actor, as_owner: Owner
) -> None:
    secret, other_secret = fill(acme), fill(north)
    lifecycle.request_deletion(actor=platform, confirm_slug="acme-bank")
    assert lifecycle.destroy_due() == 0, "not before its time"
    assert read(acme, *secret) == (b"words", {"secret": "words"})
    with as_owner() as owner:
        before, north_before = rows(owner, acme.tenant.pk), rows(owner, north.tenant.pk)
        end_grace(owner, acme)
        tasks.destroy_tenants()
        after, north_after = rows(owner, acme.tenant.pk), rows(owner, north.tenant.pk)
    deletable = {
        model._meta.db_table
        for model in isolation.isolated_models()
        if "DELETE" in isolation.privileges_of(model)
    }
    assert len(deletable & set(before)) >= 14, "the control: there was something to delete"
    assert set(after) == {"audit_record", "audit_completion"}, "and neither keys nor anything else"
    assert after["audit_record"] == before["audit_record"] + 1
    assert north_after == north_before
    assert status_of(acme) == "deleted"
    envelope.cache.clear()
    with tenant_scope(acme.tenant.pk):
        assert not TenantKey.objects.exists() and not DataKey.objects.exists()
        assert record.AuditRecord.objects.latest("created").kind == "tenant.destroyed"
    with pytest.raises(envelope.KeyDestroyed):
        read(acme, *secret)
    assert read(north, *other_secret) == (b"words", {"secret": "words"})
    assert lifecycle.destroy_due() == 0


@pytest.mark.django_db(transaction=True)
def test_a_deletion_that_was_cancelled_destroys_nothing(
    acme: Company, platform: Actor, as_owner: Owner
) -> None:
    secret = fill(acme)
    lifecycle.request_deletion(actor=platform, confirm_slug="acme-bank")
    with as_owner() as owner:
        end_grace(owner, acme)
    lifecycle.cancel_deletion(actor=platform)
    assert lifecycle.destroy_due() == 0
    assert read(acme, *secret) == (b"words", {"secret": "words"})


@pytest.mark.django_db(transaction=True)
def test_a_tenant_that_cannot_be_deleted_keeps_no_other_from_its_end(
    acme: Company,
    north: Company,
    platform_administrator: User,
    as_owner: Owner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for company in (acme, north):
        actor = platform_actor(user=platform_administrator, tenant=company.tenant)
        lifecycle.request_deletion(actor=actor, confirm_slug=company.tenant.slug)
    with as_owner() as owner:
        end_grace(owner, north)
    # The web's clock runs ahead, the database's does not: for Acme, which comes first, it says no.
    ahead = clock.now() + timedelta(days=60)
    monkeypatch.setattr(lifecycle.clock, "now", lambda: ahead)
    assert lifecycle.destroy_due() == 1
    assert (status_of(acme), status_of(north)) == ("deleting", "deleted")
    with tenant_scope(acme.tenant.pk):
        assert TenantSettings.objects.exists(), "nothing of it is half gone"


# --- What the database itself refuses to the application's role ----------------------------------


def attempt(statement: str, tenant: Tenant) -> None:
    with tenant_scope(tenant.pk), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, {"id": tenant.pk})
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


NOT_ALLOWED = [
    "DELETE FROM tenants_datakey",
    "DELETE FROM tenants_tenantkey",
    "UPDATE tenants_tenantkey SET wrapped = ''",
    "DELETE FROM tenants_tenant WHERE id = %(id)s",
    "DELETE FROM tenants_tenant WHERE slug = 'bare'",
    "SELECT tenants_destroy_keys(%(id)s)",
    "UPDATE tenants_tenant SET status = 'deleting', delete_after = now() WHERE id = %(id)s",
    "UPDATE tenants_tenant SET status = 'deleting', delete_after = NULL WHERE id = %(id)s",
    "UPDATE tenants_tenant SET status = 'deleting', delete_after = now() + '23 hours' WHERE id = %(id)s",
    "DROP TRIGGER keep_grace ON tenants_tenant",
    "ALTER TABLE tenants_tenant DISABLE TRIGGER keep_grace",
    "SET session_replication_role = replica",
    "CREATE OR REPLACE FUNCTION tenants_keep_grace() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end'",
    "INSERT INTO tenants_tenant (id, slug, name, status, created) "
    + "VALUES (gen_random_uuid(), 'x', 'x', 'deleting', now())",
]


def test_the_applications_role_destroys_no_keys_early(acme: Company) -> None:
    fill(acme)
    Tenant.objects.create(slug="bare", name="A name without anything that refers to it")
    for statement in NOT_ALLOWED:
        with pytest.raises(DatabaseError):
            attempt(statement, acme.tenant)
            pytest.fail(statement)


@pytest.mark.django_db(transaction=True)
def test_the_grace_counts_from_when_the_tenant_closes(acme: Company, as_owner: Owner) -> None:
    """A time that was set before, while nothing could be seen of it, does not count."""
    attempt("UPDATE tenants_tenant SET delete_after = now() WHERE id = %(id)s", acme.tenant)
    with pytest.raises(DatabaseError, match="a day at the earliest"):
        attempt("UPDATE tenants_tenant SET status = 'deleting' WHERE id = %(id)s", acme.tenant)
    later = (
        "UPDATE tenants_tenant SET status = 'deleting', delete_after = now() + '25 hours' WHERE id = %(id)s"
    )
    attempt(later, acme.tenant)
    with pytest.raises(DatabaseError, match="a day at the earliest"):
        attempt("UPDATE tenants_tenant SET delete_after = now() WHERE id = %(id)s", acme.tenant)
    with pytest.raises(DatabaseError, match="its grace is not over"):
        attempt("SELECT tenants_destroy_keys(%(id)s)", acme.tenant)
    with as_owner() as owner:
        end_grace(owner, acme)
    attempt("SELECT tenants_destroy_keys(%(id)s)", acme.tenant)


@pytest.mark.django_db(transaction=True)
def test_keys_are_destroyed_in_the_scope_of_their_tenant_alone(
    acme: Company, north: Company, platform: Actor, as_owner: Owner
) -> None:
    lifecycle.request_deletion(actor=platform, confirm_slug="acme-bank")
    with as_owner() as owner:
        end_grace(owner, acme)
        with pytest.raises(DatabaseError, match="scope of the tenant"):
            attempt(f"SELECT tenants_destroy_keys('{acme.tenant.pk}')", north.tenant)
        assert owner.execute("SELECT count(*) FROM tenants_tenantkey").fetchone()[0] == 1
        role = owner.execute(
            "SELECT has_function_privilege('public', 'tenants_destroy_keys(uuid)', 'EXECUTE')"
        )
        assert role.fetchone() == (False,)


# --- Settings ----------------------------------------------------------------------------------


def test_settings_are_cleaned_changed_and_recorded(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with one_change(acme, "tenant.settings_changed") as found:
        row = lifecycle.update_settings(
            actor=administrator,
            name=" Acme  Bank AG ",
            default_language="zh-hans",
            allowed_models=["small", "large", "small"],
            registration="domain",
            registration_domains=["@ACME.example", " acme.example", "bank.example"],
            networks=["10.1.2.3/8"],
            mfa_required=True,
            display_name="Acme",
            accent="violet",
        )
    assert Tenant.objects.get(pk=acme.tenant.pk).name == "Acme Bank AG"
    assert (row.allowed_models, row.networks) == (["large", "small"], ["10.0.0.0/8"])
    assert row.registration_domains == ["acme.example", "bank.example"]
    assert found[0].before["name"] == "Acme Bank" and found[0].after["name"] == "Acme Bank AG"
    assert len(found[0].after) == len(found[0].before) == 9
    with no_change(acme):
        lifecycle.update_settings(actor=administrator, display_name="Acme")
    with tenant_scope(acme.tenant.pk):
        assert lifecycle.settings_of(administrator).display_name == "Acme"


NO_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"name": "Асme"}, "name_look_alike"),
    ({"default_language": "tlh"}, "language_unknown"),
    ({"retention_days": 30}, "setting_unknown"),
    ({"allowed_models": ["a\x00"]}, "name_invisible"),
    ({"allowed_models": ["a"] * 1001}, "too_many_models"),
    ({"registration": "open"}, "choice_unknown"),
    ({"registration_domains": ["acme"]}, "email_invalid"),
    ({"registration_domains": ["eve@acme.example"]}, "email_invalid"),
    ({"registration_domains": ["аcme.example"]}, "email_look_alike"),
    ({"registration_domains": [""]}, "email_invalid"),
    ({"registration_domains": ["acme.example"] * 51}, "too_many_domains"),
    ({"networks": ["home"]}, "network_invalid"),
    ({"accent": "#fff"}, "choice_unknown"),
    ({"display_name": "\x00"}, "name_invisible"),
    ({"status": "deleted"}, "setting_unknown"),
    ({"logo": b"x"}, "setting_unknown"),
    ({"tenant_id": "x"}, "setting_unknown"),
]


def test_settings_that_make_no_sense(acme: Company) -> None:
    actor = acme.actor(acme.administrator)
    with no_change(acme):
        for values, code in NO_SETTINGS:
            with refused(code, next(iter(values))):
                lifecycle.update_settings(actor=actor, mfa_required=True, **values)
    with tenant_scope(acme.tenant.pk):
        assert not TenantSettings.objects.get().mfa_required


def test_nobody_locks_themselves_out(acme: Company) -> None:
    actor = actor_for_user(user=acme.administrator, tenant_slug="acme-bank", address="192.0.2.1")
    with no_change(acme), refused("locks_out", "networks"):
        lifecycle.update_settings(actor=actor, networks=["10.0.0.0/8"])
    lifecycle.update_settings(actor=actor, networks=["192.0.2.0/24"])
    for address in ("10.0.0.1", ""):
        with pytest.raises(NotVisible):
            actor_for_user(user=acme.administrator, tenant_slug="acme-bank", address=address)


@pytest.mark.parametrize("role", ["operator", "curator", "member", "reviewer", "auditor"])
def test_only_administrators_change_settings(acme: Company, role: str) -> None:
    actor = acme.actor(getattr(acme, role))
    with no_change(acme):
        with pytest.raises(NotVisible):
            lifecycle.update_settings(actor=actor, name="Mine")
        with pytest.raises(NotVisible):
            lifecycle.set_logo(actor=actor, logo=b"x")


def test_a_platform_administrator_changes_no_settings(acme: Company, platform: Actor) -> None:
    with no_change(acme), pytest.raises(NotVisible):
        lifecycle.update_settings(actor=platform, networks=["10.0.0.0/8"])


def test_a_logo_is_set_and_taken_away(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with one_change(acme, "tenant.logo_changed") as found:
        lifecycle.set_logo(actor=administrator, logo=b"webp")
    assert (found[0].before, found[0].after) == ({"logo": False}, {"logo": True})
    with tenant_scope(acme.tenant.pk):
        assert bytes(TenantSettings.objects.get().logo) == b"webp"
    lifecycle.set_logo(actor=administrator, logo=None)


@pytest.mark.django_db(transaction=True)
def test_two_changes_of_settings_at_once_are_both_kept(acme: Company) -> None:
    actor = acme.actor(acme.administrator)
    at_once(
        lambda: lifecycle.update_settings(actor=actor, display_name="Acme"),
        lambda: lifecycle.update_settings(actor=actor, accent="rose"),
    )
    with tenant_scope(acme.tenant.pk):
        row = TenantSettings.objects.get()
    assert (row.display_name, row.accent) == ("Acme", "rose")
    assert len(changes(acme)) == 2


def test_settings_refuse_and_say_where(acme: Company) -> None:
    with pytest.raises(Refused) as error:
        lifecycle.update_settings(actor=acme.actor(acme.owner), registration_domains=["acme.example"] * 51)
    assert "50" in error.value.message
