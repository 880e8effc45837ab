"""Grants on objects: to people, groups and everyone; who shares; what stays and what goes."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from guardian.shortcuts import get_objects_for_user

from audit.models import AuditRecord
from console.chat.models import CONVERSATIONS, Conversation
from inference.registry.models import ROUTES, Route
from inference.registry.selectors import usable_routes
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import grants, groups, keys, people
from tenants.access import (
    GroupGrant,
    Level,
    NotVisible,
    UserGrant,
    access_object,
    actor_for_key,
    granted_kinds,
    put_grant,
    visible_objects,
)
from tenants.actors import platform_actor, system_actor
from tenants.errors import Refused
from tenants.models import Group, Membership, TenantSettings, User
from tenants.places import groups_of_people
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.conftest import Company

VIEW, CHANGE, DELETE = (CONVERSATIONS.permission(level) for level in Level)
USE = ROUTES.permission(Level.VIEWER)


@pytest.fixture
def inside(acme: Company) -> Any:
    """Acme Bank with its scope open."""
    with tenant_scope(acme.tenant.pk):
        yield acme


def conversation_of(owner: User) -> Conversation:
    made = Conversation.objects.create(owner=owner, sealed_title=b"sealed")
    put_grant(made, owner, Level.OWNER)
    return made


def route_called(name: str) -> Route:
    ensure_default_registry()
    deployment = ensure_default_route().deployment
    return Route.objects.create(name=name, label=name, deployment=deployment)


def group_called(company: Company, name: str, *members: User, parent: Group | None = None) -> Group:
    return groups.create_group(
        actor=company.actor(company.administrator),
        name=name,
        parent_id=parent and parent.pk,
        membership_ids=[Membership.objects.get(user=each).pk for each in members],
    )


def everyone() -> Group:
    return Group.objects.get(is_everyone=True)


def sees(company: Company, user: User, obj: Any, permission: str) -> bool:
    rows = type(obj).objects.filter(pk=obj.pk)
    return visible_objects(company.actor(user), rows, permission).exists()


# --- What a grant reaches ----------------------------------------------------------------------


def test_every_table_of_grants_belongs_to_a_registered_kind() -> None:
    tables = {model for model in apps.get_models() if issubclass(model, UserGrant | GroupGrant)}
    assert tables == {table for kind in granted_kinds() for table in (kind.user_grants, kind.group_grants)}
    for kind in granted_kinds():
        for table in (kind.user_grants, kind.group_grants):
            assert table._meta.get_field("content_object").related_model is kind.model


@pytest.mark.parametrize(
    ("level", "allowed"),
    [(Level.VIEWER, [VIEW]), (Level.EDITOR, [VIEW, CHANGE]), (Level.OWNER, [VIEW, CHANGE, DELETE])],
)
def test_each_level_includes_the_ones_before_it(inside: Company, level: Level, allowed: list[str]) -> None:
    conversation = conversation_of(inside.operator)
    put_grant(conversation, inside.member, Level.OWNER)
    put_grant(conversation, inside.member, level)
    held = [each for each in (VIEW, CHANGE, DELETE) if sees(inside, inside.member, conversation, each)]
    assert held == allowed


def test_guardian_itself_reads_the_grants_of_people_alike(inside: Company) -> None:
    mine, _other = conversation_of(inside.member), conversation_of(inside.operator)
    found = get_objects_for_user(
        inside.member, VIEW, Conversation.objects.all(), use_groups=False, with_superuser=False
    )
    assert list(found) == [mine]


def test_a_grant_to_a_group_reaches_those_in_it_and_in_groups_below_it(inside: Company) -> None:
    top = group_called(inside, "Front office")
    middle = group_called(inside, "Trading", inside.operator, parent=top)
    group_called(inside, "Bonds", inside.member, parent=middle)
    route = route_called("for-traders")
    put_grant(route, middle, Level.VIEWER)
    assert sees(inside, inside.operator, route, USE)
    assert sees(inside, inside.member, route, USE)
    assert not sees(inside, inside.curator, route, USE)
    above = route_called("for-the-front-office")
    put_grant(above, top, Level.VIEWER)
    assert sees(inside, inside.member, above, USE)
    below = route_called("for-bonds")
    put_grant(below, Group.objects.get(name="Bonds"), Level.VIEWER)
    assert not sees(inside, inside.operator, below, USE)


def test_a_grant_to_everyone_reaches_all_people_and_programs_with_a_use_for_it(inside: Company) -> None:
    route = route_called("for-all")
    put_grant(route, everyone(), Level.VIEWER)
    _key, text = keys.create_key(actor=inside.actor(inside.member), name="mine")
    for user in inside.people:
        may_use = bool(ROUTES.requires & inside.actor(user).permissions)
        assert sees(inside, user, route, USE) == may_use, user.email
    for actor in (actor_for_key(text), actor_for_key(_service_key(inside))):
        assert actor is not None
        assert list(visible_objects(actor, Route.objects.filter(pk=route.pk), USE)) == [route]


def _service_key(company: Company, **fields: Any) -> str:
    administrator = company.actor(company.administrator)
    account = keys.create_service_account(actor=administrator, name="robot")
    _key, text = keys.create_key(actor=administrator, name="robot", service_account_id=account.pk, **fields)
    return text


def test_a_personal_key_reaches_its_owners_routes_but_no_conversation(inside: Company) -> None:
    route = route_called("for-one")
    put_grant(route, inside.member, Level.VIEWER)
    conversation = conversation_of(inside.member)
    _key, text = keys.create_key(actor=inside.actor(inside.member), name="mine")
    actor = actor_for_key(text)
    assert actor is not None
    assert access_object(actor, Route.objects.all(), USE, pk=route.pk) == route
    assert not visible_objects(actor, Conversation.objects.filter(pk=conversation.pk), VIEW).exists()


def test_a_key_confined_to_names_reaches_no_other(inside: Company) -> None:
    default = ensure_route()
    route_called("other")
    put_grant(Route.objects.get(name="other"), everyone(), Level.VIEWER)
    confined = actor_for_key(_service_key(inside, allowed_routes=[default.name]))
    assert confined is not None
    assert [route.name for route in usable_routes(confined)] == [default.name]


def ensure_route() -> Route:
    ensure_default_registry()
    return ensure_default_route()


def test_what_the_tenant_does_not_allow_nobody_reaches(inside: Company) -> None:
    route = ensure_route()
    member = inside.actor(inside.member)
    assert route in usable_routes(member)
    TenantSettings.objects.update(allowed_models=["something-else"])
    assert list(usable_routes(member)) == []
    TenantSettings.objects.update(allowed_models=[route.name])
    assert list(usable_routes(member)) == [route]


def test_nobody_acts_by_grants_from_outside_the_tenant(inside: Company, platform_administrator: User) -> None:
    conversation, route = conversation_of(inside.member), ensure_route()
    put_grant(conversation, platform_administrator, Level.OWNER)
    put_grant(route, platform_administrator, Level.OWNER)
    outsiders = [
        platform_actor(user=platform_administrator, tenant=inside.tenant),
        system_actor(inside.tenant, "a task"),
    ]
    for actor in outsiders:
        assert not visible_objects(actor, Conversation.objects.all(), VIEW).exists()
        assert not visible_objects(actor, Route.objects.all(), USE).exists()


def test_a_superuser_sees_what_was_granted_and_no_more(inside: Company) -> None:
    conversation = conversation_of(inside.operator)
    User.objects.filter(pk=inside.member.pk).update(is_superuser=True)
    assert not sees(inside, User.objects.get(pk=inside.member.pk), conversation, VIEW)


def test_the_other_tenants_groups_and_grants_count_for_nothing(acme: Company, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=acme.member, role=Role.MEMBER)
        theirs = group_called(north, "Traders", acme.member)
        route = route_called("theirs")
        put_grant(route, theirs, Level.VIEWER)
        put_grant(route, acme.member, Level.VIEWER)
        assert sees(north, acme.member, route, USE)
    with tenant_scope(acme.tenant.pk):
        actor = acme.actor(acme.member)
        assert not visible_objects(actor, Route.objects.all(), USE).exists()
        assert groups_of_people(acme.tenant.pk, [acme.member.pk]) == {None: {everyone().pk}}


def test_sql_and_python_agree_on_the_groups_of_people(inside: Company) -> None:
    top = group_called(inside, "Top")
    group_called(inside, "Left", inside.member, inside.operator, parent=top)
    group_called(inside, "Right", inside.member, parent=top)
    # Two groups above each other can only come from outside Custos; even so it ends.
    Group.objects.filter(pk=top.pk).update(parent=Group.objects.get(name="Left"))
    found = groups_of_people(inside.tenant.pk, [user.pk for user in inside.people])
    for user in inside.people:
        assert found[None] | found.get(user.pk, set()) == groups.group_ids_of(user.pk), user.email


@pytest.mark.parametrize("grown", [1, 30])
def test_lists_take_one_query_however_many_there_are(inside: Company, grown: int) -> None:
    for number in range(grown):
        conversation = conversation_of(inside.operator)
        put_grant(conversation, inside.member, Level.VIEWER)
        put_grant(conversation, group_called(inside, f"Group {number}", inside.member), Level.EDITOR)
    actor = inside.actor(inside.member)
    visible_objects(actor, Conversation.objects.all(), VIEW).exists()  # content types are remembered
    with CaptureQueriesContext(connection) as queries:
        assert len(visible_objects(actor, Conversation.objects.all(), VIEW)) == grown
    assert len(queries) == 1
    administrator = inside.actor(inside.administrator)
    with CaptureQueriesContext(connection) as queries:
        table = grants.matrix(actor=administrator, kind=CONVERSATIONS)
    assert len(queries) == 8
    assert (table.total, len(table.principals)) == (grown, grown + 2)


# --- Sharing -----------------------------------------------------------------------------------


def test_an_owner_shares_and_takes_back_and_both_are_recorded(inside: Company) -> None:
    conversation, owner = conversation_of(inside.operator), inside.actor(inside.operator)
    grants.set_level(actor=owner, obj=conversation, principal=inside.member, level="viewer")
    assert sees(inside, inside.member, conversation, VIEW)
    assert not sees(inside, inside.member, conversation, CHANGE)
    grants.set_level(actor=owner, obj=conversation, principal=everyone(), level="editor")
    assert sees(inside, inside.curator, conversation, CHANGE)
    held = grants.grants_of(actor=owner, obj=conversation)
    assert [(each.principal.sort, each.level) for each in held] == [
        ("everyone", "editor"), ("person", "viewer"), ("person", "owner"),
    ]  # fmt: skip
    grants.remove(actor=owner, obj=conversation, principal=inside.member)
    grants.remove(actor=owner, obj=conversation, principal=everyone())
    assert not sees(inside, inside.member, conversation, VIEW)
    kinds = (
        AuditRecord.objects.filter(subject_id=conversation.pk).order_by("pk").values_list("kind", flat=True)
    )
    assert list(kinds) == ["grant.set", "grant.set", "grant.removed", "grant.removed"]


def test_granting_what_is_granted_already_changes_and_records_nothing(inside: Company) -> None:
    conversation, owner = conversation_of(inside.operator), inside.actor(inside.operator)
    for _ in range(2):
        grants.set_level(actor=owner, obj=conversation, principal=inside.member, level="viewer")
    assert AuditRecord.objects.filter(subject_id=conversation.pk).count() == 1


def _sharings(company: Company, conversation: Conversation, user: User) -> list[Callable[[], object]]:
    actor = company.actor(user)
    return [
        lambda: grants.set_level(actor=actor, obj=conversation, principal=user, level="viewer"),
        lambda: grants.set_level(actor=actor, obj=conversation, principal=everyone(), level="viewer"),
        lambda: grants.remove(actor=actor, obj=conversation, principal=company.member),
        lambda: grants.transfer_ownership(actor=actor, obj=conversation, to=user),
    ]


@pytest.mark.parametrize("role", [role for role in Role if role != Role.MEMBER])
def test_nobody_grants_themselves_a_conversation_whatever_their_role(inside: Company, role: Role) -> None:
    conversation = conversation_of(inside.member)
    for share in _sharings(inside, conversation, getattr(inside, role)):
        with pytest.raises(NotVisible):
            share()
    assert not sees(inside, getattr(inside, role), conversation, VIEW)


def test_an_editor_does_not_share(inside: Company) -> None:
    conversation = conversation_of(inside.operator)
    put_grant(conversation, inside.member, Level.EDITOR)
    with pytest.raises(NotVisible):
        grants.set_level(
            actor=inside.actor(inside.member), obj=conversation, principal=inside.curator, level="viewer"
        )


@pytest.mark.parametrize("role", list(Role))
def test_routes_are_shared_by_those_who_manage_grants_or_operate_models(inside: Company, role: Role) -> None:
    route = route_called("new")
    actor = inside.actor(getattr(inside, role))

    def share() -> None:
        grants.set_level(actor=actor, obj=route, principal=inside.member, level="viewer")

    if role in (Role.OWNER, Role.ADMINISTRATOR, Role.OPERATOR):
        share()
        assert sees(inside, inside.member, route, USE)
    else:
        with pytest.raises(NotVisible):
            share()


def test_the_last_owner_stays_until_there_is_another(inside: Company) -> None:
    conversation, owner = conversation_of(inside.member), inside.actor(inside.member)
    put_grant(conversation, everyone(), Level.OWNER)  # no person who answers for it
    for change in (
        lambda: grants.remove(actor=owner, obj=conversation, principal=inside.member),
        lambda: grants.set_level(actor=owner, obj=conversation, principal=inside.member, level="viewer"),
    ):
        with pytest.raises(Refused) as refused:
            change()
        assert refused.value.code == "last_owner"
    put_grant(conversation, inside.operator, Level.OWNER)
    Membership.objects.filter(user=inside.operator).update(disabled="2026-01-01T00:00Z")
    with pytest.raises(Refused):
        grants.remove(actor=owner, obj=conversation, principal=inside.member)
    Membership.objects.filter(user=inside.operator).update(disabled=None)
    grants.remove(actor=owner, obj=conversation, principal=inside.member)
    assert not CONVERSATIONS.user_grants.objects.filter(user=inside.member).exists()


def test_a_conversation_is_handed_over(inside: Company) -> None:
    conversation = conversation_of(inside.member)
    grants.transfer_ownership(actor=inside.actor(inside.member), obj=conversation, to=inside.operator)
    conversation.refresh_from_db()
    assert conversation.owner == inside.operator
    assert sees(inside, inside.operator, conversation, DELETE)
    assert sees(inside, inside.member, conversation, CHANGE)
    assert not sees(inside, inside.member, conversation, DELETE)


def test_anybody_gives_up_what_was_shared_with_them(inside: Company) -> None:
    conversation = conversation_of(inside.operator)
    put_grant(conversation, inside.member, Level.VIEWER)
    grants.remove(actor=inside.actor(inside.member), obj=conversation, principal=inside.member)
    assert not sees(inside, inside.member, conversation, VIEW)
    with pytest.raises(NotVisible):
        grants.remove(actor=inside.actor(inside.member), obj=conversation, principal=inside.member)


def test_nothing_is_granted_to_people_and_groups_of_elsewhere(acme: Company, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        foreign_group = group_called(north, "Theirs")
        foreign = conversation_of(north.member)
    with tenant_scope(acme.tenant.pk):
        conversation, owner = conversation_of(acme.member), acme.actor(acme.member)
        for principal, code in ((north.member, "member_unknown"), (foreign_group, "group_unknown")):
            with pytest.raises(Refused) as refused:
                grants.set_level(actor=owner, obj=conversation, principal=principal, level="viewer")
            assert refused.value.code == code
        with pytest.raises(Refused):
            grants.set_level(actor=owner, obj=conversation, principal=acme.operator, level="emperor")
        for look in (
            lambda: grants.grants_of(actor=acme.actor(acme.administrator), obj=foreign),
            lambda: grants.set_level(actor=owner, obj=foreign, principal=acme.member, level="viewer"),
        ):
            with pytest.raises(NotVisible):
                look()


def test_whoever_leaves_and_comes_back_finds_their_own_and_nothing_that_was_shared(inside: Company) -> None:
    own, shared = conversation_of(inside.member), conversation_of(inside.operator)
    put_grant(shared, inside.member, Level.EDITOR)
    membership = Membership.objects.get(user=inside.member)
    people.remove_member(actor=inside.actor(inside.administrator), membership_id=membership.pk)
    Membership.objects.create(user=inside.member, role=Role.MEMBER)
    assert sees(inside, inside.member, own, DELETE)
    assert not sees(inside, inside.member, shared, VIEW)


def test_an_administrator_does_not_walk_into_a_group_that_reads_content(inside: Company) -> None:
    top = group_called(inside, "Board", inside.owner)
    below, apart = group_called(inside, "Staff", parent=top), group_called(inside, "Apart")
    administrator = inside.actor(inside.administrator)
    mine = [Membership.objects.get(user=inside.administrator).pk]
    groups.add_members(actor=administrator, group_id=apart.pk, membership_ids=mine)
    put_grant(conversation_of(inside.member), top, Level.VIEWER)
    steps = (
        lambda: groups.add_members(actor=administrator, group_id=top.pk, membership_ids=mine),
        lambda: groups.add_members(actor=administrator, group_id=below.pk, membership_ids=mine),
        lambda: groups.update_group(actor=administrator, group_id=apart.pk, parent_id=below.pk),
        lambda: groups.create_group(
            actor=administrator, name="Mine", parent_id=below.pk, membership_ids=mine
        ),
    )
    for step in steps:
        with pytest.raises(Refused) as refused:
            step()
        assert refused.value.code == "own_membership"
    others = [Membership.objects.get(user=inside.curator).pk]
    assert groups.add_members(actor=administrator, group_id=top.pk, membership_ids=others) == 1


# --- The matrix --------------------------------------------------------------------------------


def test_the_matrix_lists_objects_against_principals_page_by_page(inside: Company) -> None:
    for number in range(3):
        put_grant(route_called(f"model-{number}"), inside.member, Level.VIEWER)
    put_grant(Route.objects.get(name="model-1"), group_called(inside, "Traders"), Level.EDITOR)
    auditor = inside.actor(inside.auditor)
    table = grants.matrix(actor=auditor, kind=ROUTES, search="model", page=1, page_size=2)
    assert ([row.label for row in table.rows], table.total, table.pages) == (["model-0", "model-1"], 3, 2)
    assert [each.label for each in table.principals] == ["Traders", inside.member.email]
    levels = [sorted(row.levels.values()) for row in table.rows]
    assert levels == [["viewer"], ["editor", "viewer"]]
    last = grants.matrix(actor=auditor, kind=ROUTES, search="model", page=99, page_size=2)
    assert [row.label for row in last.rows] == ["model-2"]
    assert grants.matrix(actor=auditor, kind=ROUTES, search="no such thing").rows == []


def test_members_find_what_they_own_in_the_matrix_and_no_more(inside: Company) -> None:
    own, shared = conversation_of(inside.member), conversation_of(inside.operator)
    put_grant(shared, inside.member, Level.EDITOR)
    table = grants.matrix(actor=inside.actor(inside.member), kind=CONVERSATIONS)
    assert [row.id for row in table.rows] == [own.pk]
    with pytest.raises(NotVisible):
        grants.matrix(actor=inside.actor(inside.reviewer), kind=CONVERSATIONS)


def test_an_administrator_sees_whose_a_conversation_is_and_not_what_it_says(inside: Company) -> None:
    conversation = conversation_of(inside.member)
    table = grants.matrix(actor=inside.actor(inside.administrator), kind=CONVERSATIONS, search="member")
    (row,) = table.rows
    assert row.label.startswith(f"{inside.member.email} · ")
    assert row.levels == {inside.member.pk: Level.OWNER}
    with pytest.raises(NotVisible):
        access_object(
            inside.actor(inside.administrator), Conversation.objects.all(), VIEW, pk=conversation.pk
        )
