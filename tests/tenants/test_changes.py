"""A change and its record are one: neither without the other, whatever fails and whoever catches it."""

import inspect
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_scopes import ScopeError

from audit import record
from audit.record import AuditUnavailable
from tenants import changes as recording
from tenants import clock, custom_roles, envelope, groups, hints, isolation, keys, lifecycle, people
from tenants.actors import Actor, NotVisible, platform_actor
from tenants.models import DataKey, Group, Tenant, TenantKey, User
from tenants.roles import CATALOGUE
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import (
    at_once,
    changes,
    membership_of,
    no_change,
    one_change,
    program,
    refused,
    undone,
)

ALL = frozenset(permission.code for permission in CATALOGUE)

# Every service that changes something, by the kinds of its records.
SERVICES = {
    "role.created": custom_roles.create_role,
    "role.changed": custom_roles.update_role,
    "role.deleted": custom_roles.delete_role,
    "group.created": groups.create_group,
    "group.changed": groups.update_group,
    "group.deleted": groups.delete_group,
    "group.members_added": groups.add_members,
    "group.members_removed": groups.remove_members,
    "member.role_changed": people.change_role,
    "member.disabled": people.disable_member,
    "member.enabled": people.enable_member,
    "member.removed": people.remove_member,
    "member.left": people.leave,
    "member.added": people.add_member,
    "invitation.made": people.invite,
    "invitation.renewed": people.renew_invitation,
    "invitation.revoked": people.revoke_invitation,
    "members.imported": people.import_members,
    "service_account.created": keys.create_service_account,
    "service_account.changed": keys.update_service_account,
    "service_account.disabled": keys.set_service_account_enabled,
    "key.created": keys.create_key,
    "key.rotated": keys.rotate_key,
    "key.revoked": keys.revoke_key,
    "tenant.settings_changed": lifecycle.update_settings,
    "tenant.logo_changed": lifecycle.set_logo,
    "tenant.suspended": lifecycle.suspend,
    "tenant.resumed": lifecycle.resume,
    "tenant.archived": lifecycle.archive,
    "tenant.deletion_requested": lifecycle.request_deletion,
    "tenant.deletion_cancelled": lifecycle.cancel_deletion,
}


@pytest.fixture
def deeds(acme: Company, stranger: User, platform_administrator: User) -> dict[str, Callable[[], object]]:
    """Each service, called so that it succeeds when it is the first to be called."""
    owner, administrator = acme.actor(acme.owner), acme.actor(acme.administrator)
    platform = platform_actor(user=platform_administrator, tenant=acme.tenant)
    role = custom_roles.create_role(actor=owner, slug="analyst", name="Analyst", permissions=["chat.use"])
    inside = membership_of(acme, acme.member).pk
    group = groups.create_group(actor=owner, name="Risk", membership_ids=[inside])
    other = membership_of(acme, acme.curator).pk
    off = membership_of(acme, acme.auditor).pk
    people.disable_member(actor=owner, membership_id=off)
    invitation, _token = people.invite(actor=owner, email="waiting@acme-bank.example")
    account = keys.create_service_account(actor=owner, name="Reports")
    key, _text = keys.create_key(actor=owner, name="key", service_account_id=account.pk)

    def in_state(status: str, deed: Callable[[], object]) -> object:
        later = clock.now() + timedelta(days=30)
        Tenant.objects.filter(pk=acme.tenant.pk).update(status=status, delete_after=later)
        return deed()

    calls: dict[str, tuple[Actor, dict[str, Any]]] = {
        "role.created": (owner, {"slug": "other", "name": "Other", "permissions": ["chat.use"]}),
        "role.changed": (owner, {"role_id": role.pk, "name": "New name"}),
        "role.deleted": (owner, {"role_id": role.pk}),
        "group.created": (administrator, {"name": "Fresh", "membership_ids": [other]}),
        "group.changed": (administrator, {"group_id": group.pk, "description": "New"}),
        "group.deleted": (administrator, {"group_id": group.pk}),
        "group.members_added": (administrator, {"group_id": group.pk, "membership_ids": [other]}),
        "group.members_removed": (administrator, {"group_id": group.pk, "membership_ids": [inside]}),
        "member.role_changed": (administrator, {"membership_id": inside, "role": "curator"}),
        "member.disabled": (administrator, {"membership_id": inside}),
        "member.enabled": (administrator, {"membership_id": off}),
        "member.removed": (administrator, {"membership_id": inside}),
        "member.left": (administrator, {}),
        "member.added": (administrator, {"user": stranger}),
        "invitation.made": (administrator, {"email": "new@acme-bank.example"}),
        "invitation.renewed": (administrator, {"invitation_id": invitation.pk}),
        "invitation.revoked": (administrator, {"invitation_id": invitation.pk}),
        "members.imported": (administrator, {"rows": [{"email": "new@acme-bank.example"}]}),
        "service_account.created": (administrator, {"name": "Other"}),
        "service_account.changed": (administrator, {"account_id": account.pk, "description": "New"}),
        "service_account.disabled": (administrator, {"account_id": account.pk, "enabled": False}),
        "key.created": (administrator, {"name": "other"}),
        "key.rotated": (administrator, {"key_id": key.pk}),
        "key.revoked": (administrator, {"key_id": key.pk}),
        "tenant.settings_changed": (administrator, {"accent": "rose"}),
        "tenant.logo_changed": (administrator, {"logo": b"webp"}),
        "tenant.suspended": (platform, {}),
        "tenant.resumed": (platform, {}),
        "tenant.archived": (owner, {}),
        "tenant.deletion_requested": (owner, {"confirm_slug": "acme-bank"}),
        "tenant.deletion_cancelled": (platform, {}),
    }
    assert set(calls) == set(SERVICES)
    starts = {"tenant.resumed": "suspended", "tenant.deletion_cancelled": "deleting"}

    def deed_of(kind: str) -> Callable[[], object]:
        actor, arguments = calls[kind]

        def deed() -> object:
            return SERVICES[kind](actor=actor, **arguments)

        return (lambda: in_state(starts[kind], deed)) if kind in starts else deed

    return {kind: deed_of(kind) for kind in calls}


def test_the_list_of_services_is_whole() -> None:
    found = {
        function
        for module in (custom_roles, groups, keys, lifecycle, people)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and hasattr(function, "__wrapped__")
        and "actor" in inspect.signature(function).parameters
    }
    assert found == set(SERVICES.values())
    for service in found:
        parameters = inspect.signature(service).parameters.values()
        assert all(each.kind != each.POSITIONAL_OR_KEYWORD for each in parameters), service


def test_each_change_leaves_one_record_with_before_and_after(
    acme: Company, deeds: dict[str, Callable[[], object]]
) -> None:
    for kind, deed in deeds.items():
        with undone(), one_change(acme, kind) as found:
            deed()
        assert found[0].before or found[0].after, kind
        assert found[0].before != found[0].after, kind
        assert found[0].by.endswith(("bank.example", "custos.example")), kind


def state(company: Company) -> dict[str, list[dict[str, Any]]]:
    """All rows of the tenant but those of the audit, and its own."""
    with tenant_scope(company.tenant.pk):
        rows = {
            model._meta.db_table: list(model._default_manager.order_by("pk").values())
            for model in isolation.isolated_models()
            if "DELETE" in isolation.privileges_of(model)
        }
    for row in (row for table in rows.values() for row in table):
        row.pop("last_seen", None)
    return rows | {"tenant": list(Tenant.objects.filter(pk=company.tenant.pk).values("name", "slug"))}


def test_nothing_changes_when_it_cannot_be_recorded(
    acme: Company, deeds: dict[str, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even inside a transaction that somebody goes on to commit, as a page does that shows the error."""

    def fail(*_anything: object, **_more: object) -> bytes:
        raise envelope.KeyDestroyed("gone")

    before = repr(state(acme))
    for kind, deed in deeds.items():
        with undone(), tenant_scope(acme.tenant.pk):
            with monkeypatch.context() as patch:
                patch.setattr(record.envelope, "record_cipher", fail)
                with pytest.raises(AuditUnavailable):
                    deed()
            assert repr(state(acme)) == before, kind


def test_without_an_audit_nothing_changes(acme: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_sink", None)
    before = state(acme)
    with pytest.raises(RuntimeError, match="no audit"):
        people.disable_member(
            actor=acme.actor(acme.administrator), membership_id=membership_of(acme, acme.member).pk
        )
    assert repr(state(acme)) == repr(before)


def test_a_transaction_that_fails_later_leaves_no_record(acme: Company) -> None:
    with no_change(acme), pytest.raises(ZeroDivisionError), tenant_scope(acme.tenant.pk):
        groups.create_group(actor=acme.actor(acme.administrator), name="Risk")
        raise ZeroDivisionError
    with tenant_scope(acme.tenant.pk):
        assert not Group.objects.filter(name="Risk").exists()


def test_no_service_works_in_the_scope_of_another_tenant(acme: Company, north: Company) -> None:
    actor = acme.actor(acme.administrator)
    with no_change(acme), no_change(north), tenant_scope(north.tenant.pk), pytest.raises(ScopeError):
        people.invite(actor=actor, email="new@acme-bank.example")


def test_records_say_where_the_change_came_from(acme: Company) -> None:
    actor, _account = program(acme, "people.manage")
    people.invite(actor=actor, email="new@acme-bank.example")
    assert changes(acme)[-1].by == "people-manage"
    with tenant_scope(acme.tenant.pk):
        row = record.AuditRecord.objects.latest("created")
    assert (row.api_key_id, row.user_id, row.channel) == (actor.api_key_id, None, "console")


@pytest.mark.django_db(transaction=True)
def test_changes_wait_for_one_another_and_nothing_else_waits(acme: Company) -> None:
    """While a change is under way the audit goes on, people come in, and the other tenants change."""
    owner, member = acme.actor(acme.owner), acme.actor(acme.member)
    order: list[str] = []
    reached, free = threading.Event(), threading.Event()

    def slow() -> None:
        with recording.changing(acme.tenant.pk):
            reached.set()
            record.record_event(actor=owner, kind="test.within", detail={})
            assert free.wait(10)
            order.append("slow")

    def others() -> None:
        assert reached.wait(10)
        acme.actor(acme.curator)
        record.record_event(actor=member, kind="test.beside", detail={})
        with tenant_scope(
            acme.tenant.pk
        ):  # The first text of a chat makes a key, a row that refers to the tenant.
            envelope.seal(
                tenant_id=acme.tenant.pk, purpose="chat", day=clock.now().date(), plaintext=b"", aad={}
            )
        free.set()
        groups.create_group(actor=owner, name="Risk")
        order.append("waited")

    record.record_event(actor=owner, kind="test.first", detail={})  # The day's key is there.
    results = at_once(slow, others)
    assert results == [None, None]
    assert order == ["slow", "waited"]


def test_a_change_takes_few_queries_more_than_its_own(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with CaptureQueriesContext(connection) as queries, recording.changing(acme.tenant.pk):
        pass
    assert len(queries) <= 6
    with CaptureQueriesContext(connection) as few:
        groups.create_group(actor=administrator, name="1")
    for number in range(2, 30):
        groups.create_group(actor=administrator, name=str(number))
    with CaptureQueriesContext(connection) as many:
        groups.create_group(actor=administrator, name="30")
    assert len(many) <= len(few)


def test_what_is_recorded_cannot_be_read_without_the_keys(acme: Company) -> None:
    people.invite(actor=acme.actor(acme.administrator), email="secret@acme-bank.example")
    with tenant_scope(acme.tenant.pk):
        assert TenantKey.objects.exists() and DataKey.objects.filter(purpose=record.Keeping.CHANGES).exists()
        row = record.AuditRecord.objects.latest("created")
    assert b"secret" not in bytes(row.input)


def test_an_actor_without_anything_changes_nothing(acme: Company) -> None:
    """A forged actor: its permissions are asked for again, from what is stored."""
    member = acme.actor(acme.member)
    forged = [
        Actor(**{**vars(member), "permissions": ALL}),
        Actor(**{**vars(member), "permissions": frozenset({"platform.manage"})}),
        Actor(**{**vars(member), "user_id": None, "api_key_id": member.user_id, "permissions": ALL}),
    ]
    target = membership_of(acme, acme.curator).pk
    with no_change(acme):
        for actor in forged:
            with pytest.raises(NotVisible):
                people.disable_member(actor=actor, membership_id=target)
            with pytest.raises(NotVisible):
                lifecycle.suspend(actor=actor)


def test_a_refusal_inside_a_page_undoes_what_came_before_it(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with tenant_scope(acme.tenant.pk):
        with refused("group_unknown", "groups"):
            people.invite(
                actor=administrator, email="new@acme-bank.example", group_ids=[administrator.tenant_id]
            )
        people.invite(actor=administrator, email="new@acme-bank.example")
    assert [each.kind for each in changes(acme)] == ["invitation.made"]


def test_a_change_is_hinted_at_once_it_is_committed(
    acme: Company, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    hinted: list[UUID] = []
    monkeypatch.setattr(hints, "changed", hinted.append)
    with django_capture_on_commit_callbacks(execute=True):
        groups.create_group(actor=acme.actor(acme.administrator), name="Traders")
        assert hinted == [], "not committed yet"
    assert hinted == [acme.tenant.pk]
