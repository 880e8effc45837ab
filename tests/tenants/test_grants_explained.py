"""Why somebody can or cannot see an object: the explanation never disagrees with what happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from console.chat.models import CONVERSATIONS, Conversation
from inference.registry.models import ROUTES, Route
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import clock, grants, groups, keys
from tenants.access import (
    Actor,
    Level,
    Need,
    NotVisible,
    access_object,
    actor_for_key,
    actor_for_user,
    kind_of,
    lost,
    put_grant,
)
from tenants.explain import Explanation, explain
from tenants.kinds import Kind
from tenants.models import (
    ApiKey,
    Group,
    GroupMember,
    Membership,
    ServiceAccount,
    Tenant,
    TenantModel,
    TenantSettings,
    User,
)
from tenants.roles import Role, Scope
from tenants.scope import tenant_scope
from tests.conftest import Company

KINDS = (CONVERSATIONS, ROUTES)


class _Undo(Exception):
    pass


@contextmanager
def rolled_back() -> Iterator[None]:
    """What is written inside is gone afterwards: a fresh start for the next example."""
    try:
        with transaction.atomic():
            yield
            raise _Undo
    except _Undo:
        pass


def conversation_of(owner: User) -> Conversation:
    made = Conversation.objects.create(owner=owner, sealed_title=b"the secret merger")
    put_grant(made, owner, Level.OWNER)
    return made


def default_route() -> Route:
    ensure_default_registry()
    return ensure_default_route()


# --- In words ----------------------------------------------------------------------------------


@pytest.fixture
def inside(acme: Company, north: Company) -> Iterator[Company]:
    with tenant_scope(acme.tenant.pk):
        yield acme


def failing(found: Explanation) -> list[str]:
    return [step.code for step in found.steps if not step.holds]


def test_the_path_leads_through_nested_groups_by_name(inside: Company) -> None:
    administrator = inside.actor(inside.administrator)
    member = Membership.objects.get(user=inside.member)
    top = groups.create_group(actor=administrator, name="Front office")
    groups.create_group(actor=administrator, name="Bonds", parent_id=top.pk, membership_ids=[member.pk])
    route = default_route()
    put_grant(route, top, Level.EDITOR)
    found = explain(actor=administrator, obj=route, subject=inside.member)
    assert (found.allowed, found.level) == (True, Level.EDITOR)
    assert [step.text for step in found.steps if step.sort == "grant"] == [
        "Granted to the group “Front office”, which they are in through “Bonds”: Editor.",
        "Granted to everyone: Viewer.",
    ]


def test_it_says_what_is_missing(inside: Company, north: Company) -> None:
    administrator, route = inside.actor(inside.administrator), default_route()

    def why(subject: User | ApiKey, permission: str | None = None) -> list[str]:
        found = explain(actor=administrator, obj=route, subject=subject, permission=permission)
        assert not found.allowed
        return failing(found)

    assert why(inside.reviewer) == ["role"]
    assert why(north.member) == ["member", "role"]
    assert why(inside.member, ROUTES.permission(Level.EDITOR)) == ["everyone"]
    TenantSettings.objects.update(allowed_models=["another"])
    assert why(inside.member) == ["limit"]
    TenantSettings.objects.update(allowed_models=[])
    key, _text = keys.create_key(actor=inside.actor(inside.member), name="k", allowed_routes=["another"])
    assert why(key) == ["key_list"]
    key.scopes = [Scope.SCIM]
    assert why(key) == ["scope", "key_list"]
    Membership.objects.filter(user=inside.member).update(disabled=clock.now())
    assert why(inside.member) == ["membership"]
    grants.remove(actor=administrator, obj=route, principal=Group.objects.get(is_everyone=True))
    assert why(inside.operator) == ["no_grant"]


def test_of_a_conversation_it_names_grants_and_never_content(inside: Company) -> None:
    conversation = conversation_of(inside.member)
    found = explain(actor=inside.actor(inside.administrator), obj=conversation, subject=inside.administrator)
    assert failing(found) == ["no_grant"]
    assert "merger" not in repr(found)


@pytest.mark.parametrize("role", list(Role))
def test_who_may_ask(inside: Company, role: Role) -> None:
    conversation = conversation_of(inside.member)
    actor = inside.actor(getattr(inside, role))
    if role in (Role.OWNER, Role.ADMINISTRATOR, Role.AUDITOR, Role.MEMBER):
        assert explain(actor=actor, obj=conversation, subject=inside.member).allowed
    else:
        with pytest.raises(NotVisible):
            explain(actor=actor, obj=conversation, subject=inside.member)


def test_nobody_asks_about_another_tenants_object_or_key(acme: Company, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        theirs = conversation_of(north.member)
        key, _text = keys.create_key(actor=north.actor(north.member), name="k")
    with tenant_scope(acme.tenant.pk):
        administrator, route = acme.actor(acme.administrator), default_route()
        with pytest.raises(NotVisible):
            explain(actor=administrator, obj=theirs, subject=acme.member)
        with pytest.raises(NotVisible):
            explain(actor=administrator, obj=route, subject=key)


# --- In random worlds --------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What is the case in a tenant; indices name people (0 to 2) and groups (0 to 3)."""

    status: str
    allowed_models: list[str]
    roles: list[str]
    states: list[str]
    parents: list[int | None]
    insides: list[tuple[int, int]]
    grants: list[tuple[int, str, int, Level]]  # kind, to what, which, level
    scopes: list[str]
    key_routes: list[str]
    key_state: str
    account_role: str
    account_is_disabled: bool
    asked: Level
    route_is_open: bool


ROUTE_NAME = "smollm2-135m-instruct"
_mostly_fine = st.sampled_from(["fine"] * 9 + ["disabled", "inactive", "gone"])
_roles = st.sampled_from([*Role, *[Role.MEMBER] * 6, "no-such-role"])
_names = st.sampled_from([[], [], ["another"], ["another", ROUTE_NAME]])

worlds = st.builds(
    World,
    status=st.sampled_from([*["active"] * 9, "suspended"]),
    allowed_models=_names,
    roles=st.lists(_roles, min_size=3, max_size=3),
    states=st.lists(_mostly_fine, min_size=3, max_size=3),
    parents=st.tuples(st.none(), *(st.one_of(st.none(), st.integers(0, number)) for number in range(3))).map(
        list
    ),
    insides=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=5, unique=True),
    grants=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 1), st.just("person"), st.integers(0, 2), st.sampled_from(Level)),
            st.tuples(st.integers(0, 1), st.just("group"), st.integers(0, 3), st.sampled_from(Level)),
            st.tuples(st.integers(0, 1), st.just("everyone"), st.just(0), st.sampled_from(Level)),
        ),
        min_size=2,
        max_size=5,
    ),
    scopes=st.sampled_from([*[[Scope.INFERENCE]] * 4, [Scope.MANAGEMENT_READ], [Scope.SCIM]]),
    key_routes=_names,
    key_state=st.sampled_from([*["fine"] * 4, "revoked", "expired"]),
    account_role=_roles,
    account_is_disabled=st.booleans(),
    asked=st.sampled_from([*[Level.VIEWER] * 4, *Level]),
    route_is_open=st.booleans(),
)


class Built:
    """A world in the database, in the tenant's scope."""

    def __init__(self, company: Company, world: World) -> None:
        self.people = [company.member, company.operator, company.curator]
        self.objects: list[TenantModel] = [
            Conversation.objects.create(owner=company.owner, sealed_title=b"-"),
            Route.objects.get(name=ROUTE_NAME),
        ]
        self._groups = self._build_groups(world)
        self.keys = [self._key(world, user=self.people[0]), self._key(world, account=world.account_role)]
        ServiceAccount.objects.update(disabled=clock.now() if world.account_is_disabled else None)
        ROUTES.group_grants._default_manager.all().delete()
        if world.route_is_open:
            put_grant(self.objects[1], self._principal("everyone", 0), Level.VIEWER)
        for kind, sort, which, level in world.grants:
            put_grant(self.objects[kind], self._principal(sort, which), level)
        for user, role, state in zip(self.people, world.roles, world.states, strict=True):
            self._settle(user, role, state)
        TenantSettings.objects.update(allowed_models=world.allowed_models)
        Tenant.objects.filter(pk=company.tenant.pk).update(status=world.status)

    def _build_groups(self, world: World) -> list[Group]:
        built: list[Group] = []
        for number, parent in enumerate(world.parents):
            above = None if parent is None else built[parent]
            built.append(Group.objects.create(name=f"Group {number}", parent=above))
        for person, group in world.insides:
            membership = Membership.objects.get(user=self.people[person])
            GroupMember.objects.create(group=built[group], membership=membership)
        return built

    def _principal(self, sort: str, which: int) -> User | Group:
        if sort == "person":
            return self.people[which]
        return self._groups[which] if sort == "group" else Group.objects.get(is_everyone=True)

    def _settle(self, user: User, role: str, state: str) -> None:
        membership = Membership.objects.filter(user=user)
        membership.update(role=role, disabled=clock.now() if state == "disabled" else None)
        if state == "gone":
            membership.delete()
        User.objects.filter(pk=user.pk).update(is_active=state != "inactive")

    def _key(self, world: World, *, user: User | None = None, account: str = "") -> tuple[ApiKey, str]:
        key = ApiKey(user=user, name="of a person" if user else "of a program", scopes=world.scopes)
        if user is None:
            key.service_account = ServiceAccount.objects.create(name="robot", role=account)
        key.allowed_routes = world.key_routes
        key.revoked = clock.now() if world.key_state == "revoked" else None
        key.expires = clock.now() - timedelta(hours=1) if world.key_state == "expired" else None
        text = key.set_new_secret(self.objects[0].tenant_id)
        key.save(force_insert=True)
        return key, text


def actor_of(company: Company, subject: User | tuple[ApiKey, str]) -> Actor | None:
    if isinstance(subject, tuple):
        return actor_for_key(subject[1])
    try:
        return actor_for_user(user=User.objects.get(pk=subject.pk), tenant_slug=company.tenant.slug)
    except NotVisible:
        return None


def reaches(actor: Actor | None, obj: TenantModel, permission: str) -> bool:
    if actor is None:
        return False
    try:
        access_object(actor, type(obj)._default_manager.all(), permission, pk=obj.pk)
    except NotVisible:
        return False
    return True


def check_lost(actor: Actor, kind: Kind, obj: TenantModel, permission: str, is_reached: bool) -> None:
    """What goes on for as long as a grant lasts ends when, and only when, it could not begin any more."""
    names = actor.allowed_routes
    is_named = not kind.named_in_keys or names is None or getattr(obj, kind.named_in_keys) in names
    if kind.requires & actor.permissions and is_named:
        held = (actor, Need(type(obj), obj.pk, permission))
        assert (held in lost(actor.tenant_id, [held])) != is_reached


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # Shrinking worlds in a database takes minutes.
)
@given(world=worlds)
def test_the_explanation_never_disagrees_with_what_happens(acme: Company, world: World) -> None:
    administrator = acme.actor(acme.administrator)
    with rolled_back(), tenant_scope(acme.tenant.pk):
        default_route()
        built = Built(acme, world)
        subjects: list[Any] = [*built.people, *built.keys]
        for subject in subjects:
            actor = actor_of(acme, subject)
            model, key = (ApiKey, subject[0].pk) if isinstance(subject, tuple) else (User, subject.pk)
            asked: Any = model._default_manager.get(pk=key)  # as it is now
            for obj in built.objects:
                kind = kind_of(type(obj))
                permission = kind.permission(world.asked)
                is_reached = reaches(actor, obj, permission)
                found = explain(actor=administrator, obj=obj, subject=asked, permission=permission)
                assert found.allowed == is_reached, (subject, permission, found)
                if actor is not None:
                    check_lost(actor, kind, obj, permission, is_reached)
