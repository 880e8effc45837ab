"""Random lives of two tenants, compared at every step with an oracle of who sees what.

Tenants are suspended, people come, go and change roles, groups are nested and moved, objects are made and shared, all
by the services that pages and the API use; after each step everybody sees exactly what the oracle says, in both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from console.chat.access import grant_to_owner
from console.chat.models import CONVERSATIONS, Conversation
from inference.registry.models import ROUTES, Deployment
from inference.registry.services import add_route, ensure_default_registry
from tenants import custom_roles, grants, groups, lifecycle, people
from tenants.access import Actor, Level, NotVisible, actor_for_user, visible_objects
from tenants.actors import platform_actor
from tenants.errors import Refused
from tenants.models import Group, Membership, Tenant, TenantModel, User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.conftest import Company, make_user
from tests.isolation.oracle import EVERYONE, OWN_ROLE, Oracle, Principal

TENANTS = ("acme-bank", "north-fund")
PEOPLE = ("ada", "ben", "eve")
tenants_ = st.sampled_from(TENANTS)
people_ = st.sampled_from(PEOPLE)
roles_ = st.sampled_from([*Role, Role.MEMBER, Role.MEMBER, OWN_ROLE])
levels_ = st.sampled_from(Level)
some = st.integers(0, 30)  # Which of those there are.


class Tenancies:
    """Both tenants as they are, in the database and in the oracle, and the small deeds that many others need.

    `owner` of each tenant acts where nobody else is named; they are not among the people who are looked at.
    """

    def __init__(self, companies: dict[str, Company], platform: User) -> None:
        self.companies, self.platform = companies, platform
        self.oracle = Oracle(own_role_uses=dict.fromkeys(TENANTS, True))
        self.users = {name: make_user(f"{name}@people.example") for name in PEOPLE}
        self.groups: dict[str, UUID] = {}
        self.objects: dict[str, TenantModel] = {}
        self.steps = 0

    def furnish(self, slug: str) -> None:
        """To begin with: a route; groups three deep with Ben below; a conversation that Ada shares with Ben and the top."""
        with self.inside(slug) as owner:
            role = {"slug": OWN_ROLE, "name": "Own role", "permissions": ["chat.use"]}
            custom_roles.create_role(actor=owner, **role)
            for name in PEOPLE[:2]:
                people.add_member(actor=owner, user=self.users[name], role=Role.MEMBER)
                self.oracle.roles[slug, name] = Role.MEMBER
        self.new_route(slug)
        above = None
        for name in (f"{slug} top", f"{slug} middle", f"{slug} bottom"):
            above = self.new_group(slug, name, above)
        with self.inside(slug) as owner:
            ids = [self.membership("ben")]
            groups.add_members(actor=owner, group_id=self.groups[f"{slug} bottom"], membership_ids=ids)
        self.oracle.inside.add((f"{slug} bottom", "ben"))
        thing = self.new_conversation(slug, "ada")
        for principal in (("person", "ben"), ("group", f"{slug} top")):
            with self.inside(slug, "ada") as actor:
                to = self.model_of(principal)
                grants.set_level(actor=actor, obj=self.objects[thing], principal=to, level=Level.VIEWER)
            self.oracle.levels[thing, principal] = Level.VIEWER

    @contextmanager
    def inside(self, slug: str, who: str = "") -> Iterator[Actor]:
        """The tenant's scope, and its owner or a person as the actor in it."""
        user = self.users[who] if who else self.companies[slug].owner
        actor = actor_for_user(user=User.objects.get(pk=user.pk), tenant_slug=slug)
        with tenant_scope(actor.tenant_id):
            yield actor

    def membership(self, name: str) -> UUID:
        return Membership.objects.get(user=self.users[name]).pk

    def model_of(self, principal: Principal) -> User | Group:
        sort, name = principal
        if sort == "person":
            return self.users[name]
        return Group.objects.get(
            **({"is_everyone": True} if sort == "everyone" else {"pk": self.groups[name]})
        )

    def new_group(self, slug: str, name: str, above: str | None) -> str:
        with self.inside(slug) as owner:
            made = groups.create_group(actor=owner, name=name, parent_id=above and self.groups[above])
        self.groups[name] = made.pk
        self.oracle.parents[name], self.oracle.home[name] = above, slug
        return name

    def new_conversation(self, slug: str, name: str) -> str:
        with self.inside(slug):
            made = Conversation.objects.create(owner=self.users[name], sealed_title=b"-")
            grant_to_owner(made)
        return self._made(f"conversation {len(self.objects)}", slug, made, ("person", name), "owner")

    def new_route(self, slug: str) -> str:
        name = f"route-{len(self.objects)}"
        with self.inside(slug):
            deployment = Deployment.objects.get(name=Deployment.EMBEDDED)
            made = add_route(name=name, label=name, deployment=deployment)
        return self._made(f"route {len(self.objects)}", slug, made, EVERYONE, "viewer")

    def _made(self, thing: str, slug: str, made: TenantModel, to: Principal, level: str) -> str:
        self.objects[thing] = made
        self.oracle.home[thing] = slug
        self.oracle.levels[thing, to] = level
        return thing


class Lives(Tenancies, RuleBasedStateMachine):
    """What may happen to them. Each life begins anew from `start`."""

    start: ClassVar[Tenancies]

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self._undone = transaction.atomic()
        self._undone.__enter__()
        start = self.start
        self.companies, self.platform, self.users = start.companies, start.platform, start.users
        self.oracle, self.steps = deepcopy(start.oracle), 0
        self.groups, self.objects = dict(start.groups), dict(start.objects)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._undone.__exit__(None, None, None)

    # --- Helpers ---------------------------------------------------------------------------------

    def _is_open(self, slug: str) -> bool:
        """Whether the owner gets in; as the oracle says."""
        is_open = slug not in self.oracle.suspended
        if not is_open:
            with pytest.raises(NotVisible), self.inside(slug):
                pass
        return is_open

    def _expect(self, error: type[Exception] | None, deed: Callable[[], object]) -> bool:
        """Whether the deed was done: unless this error was to be expected."""
        if error is None:
            deed()
            return True
        with pytest.raises(error):
            deed()
        return False

    def _group(self, number: int) -> str:
        return sorted(self.groups)[number % len(self.groups)]

    def _object(self, number: int) -> str:
        return sorted(self.objects)[number % len(self.objects)]

    def _principal(self, slug: str, person: str, number: int, sort: str) -> Principal:
        groups_here = sorted(name for name in self.groups if self.oracle.home[name] == slug)
        if sort == "group" and groups_here:
            return "group", groups_here[number % len(groups_here)]
        return EVERYONE if sort == "everyone" else ("person", person)

    # --- Tenants and people ----------------------------------------------------------------------

    @rule(slug=tenants_)
    def suspend_or_resume(self, slug: str) -> None:
        tenant = Tenant.objects.get(slug=slug)
        actor = platform_actor(user=self.platform, tenant=tenant)
        with tenant_scope(tenant.pk):
            turn = lifecycle.resume if slug in self.oracle.suspended else lifecycle.suspend
            turn(actor=actor)
        self.oracle.suspended ^= {slug}

    @rule(name=people_)
    def switch_an_account_off_or_on(self, name: str) -> None:
        self.oracle.inactive ^= {name}
        User.objects.filter(pk=self.users[name].pk).update(is_active=name not in self.oracle.inactive)

    @rule(slug=tenants_, name=people_, role=roles_)
    def add_or_change_somebody(self, slug: str, name: str, role: str) -> None:
        if not self._is_open(slug):
            return
        with self.inside(slug) as owner:
            if (slug, name) in self.oracle.roles:
                people.change_role(actor=owner, membership_id=self.membership(name), role=role)
            else:
                people.add_member(actor=owner, user=self.users[name], role=role)
        self.oracle.roles[slug, name] = role

    @rule(
        slug=tenants_, name=st.sampled_from(["ben", *PEOPLE]), comes_back=st.sampled_from([True, True, False])
    )
    def remove_somebody(self, slug: str, name: str, comes_back: bool) -> None:
        if (slug, name) in self.oracle.roles and self._is_open(slug):
            with self.inside(slug) as owner:
                people.remove_member(actor=owner, membership_id=self.membership(name))
            self.oracle.forget_member(slug, name)
            if comes_back:
                self.add_or_change_somebody(slug, name, Role.MEMBER)

    @rule(slug=tenants_, name=people_)
    def disable_or_enable_somebody(self, slug: str, name: str) -> None:
        if (slug, name) in self.oracle.roles and self._is_open(slug):
            is_disabled = (slug, name) in self.oracle.disabled
            with self.inside(slug) as owner:
                turn = people.enable_member if is_disabled else people.disable_member
                turn(actor=owner, membership_id=self.membership(name))
            self.oracle.disabled ^= {(slug, name)}

    @rule(slug=tenants_)
    def change_the_tenants_own_role(self, slug: str) -> None:
        if self._is_open(slug):
            uses = not self.oracle.own_role_uses[slug]
            with self.inside(slug) as owner:
                role = custom_roles.CustomRole.objects.get(slug=OWN_ROLE)
                permissions = ["chat.use" if uses else "overview.view"]
                custom_roles.update_role(actor=owner, role_id=role.pk, permissions=permissions)
            self.oracle.own_role_uses[slug] = uses

    # --- Groups ----------------------------------------------------------------------------------

    @rule(slug=tenants_, parent=some, is_nested=st.booleans())
    def make_a_group(self, slug: str, parent: int, is_nested: bool) -> None:
        if len(self.groups) < 8 and self._is_open(slug):
            self.new_group(slug, f"group {self.steps}", self._parent(slug, parent) if is_nested else None)

    def _parent(self, slug: str, number: int) -> str | None:
        principal = self._principal(slug, "", number, "group")
        return principal[1] or None

    @precondition(lambda self: self.groups)
    @rule(number=some, parent=some)
    def move_a_group(self, number: int, parent: int) -> None:
        group = self._group(number)
        slug = self.oracle.home[group]
        if not self._is_open(slug):
            return
        above = self._parent(slug, parent)
        assert above is not None
        expected = Refused if above in self.oracle.below(group) else None
        with self.inside(slug) as owner:
            wanted = {"group_id": self.groups[group], "parent_id": self.groups[above]}
            if self._expect(expected, lambda: groups.update_group(actor=owner, **wanted)):
                self.oracle.parents[group] = above

    @precondition(lambda self: self.groups)
    @rule(number=some)
    def delete_a_group(self, number: int) -> None:
        group = self._group(number)
        slug = self.oracle.home[group]
        if not self._is_open(slug):
            return
        expected = Refused if self.oracle.below(group) != {group} else None
        with self.inside(slug) as owner:
            group_id = self.groups[group]
            if self._expect(expected, lambda: groups.delete_group(actor=owner, group_id=group_id)):
                del self.groups[group]
                self.oracle.forget_group(group)

    @precondition(lambda self: self.groups)
    @rule(number=some, name=people_)
    def put_somebody_in_or_out(self, number: int, name: str) -> None:
        group = self._group(number)
        slug = self.oracle.home[group]
        if (slug, name) in self.oracle.roles and self._is_open(slug):
            is_inside = (group, name) in self.oracle.inside
            with self.inside(slug) as owner:
                turn = groups.remove_members if is_inside else groups.add_members
                ids = [self.membership(name)]
                assert turn(actor=owner, group_id=self.groups[group], membership_ids=ids) == 1
            self.oracle.inside ^= {(group, name)}

    # --- Objects ---------------------------------------------------------------------------------

    @rule(slug=tenants_, name=people_)
    def start_a_conversation(self, slug: str, name: str) -> None:
        if len(self.objects) < 8 and self.oracle.enters(slug, name):
            self.new_conversation(slug, name)

    @rule(slug=tenants_)
    def add_a_route(self, slug: str) -> None:
        if len(self.objects) < 8 and self._is_open(slug):
            self.new_route(slug)

    @precondition(lambda self: self.objects)
    @rule(
        number=some,
        by=st.sampled_from(["", *PEOPLE]),
        to=people_,
        group=some,
        sort=st.sampled_from(["person", "group", "everyone"]),
        level=st.one_of(levels_, st.none()),
    )
    def share_or_unshare(
        self, number: int, by: str, to: str, group: int, sort: str, level: Level | None
    ) -> None:
        """By a person, or by the tenant's owner, whose conversations these never are. No level: take it back."""
        thing = self._object(number)
        slug = self.oracle.home[thing]
        if not (self.oracle.enters(slug, by) if by else self._is_open(slug)):
            return
        principal = self._principal(slug, to, group, sort)
        expected = self._refusal(thing, by, principal, level)
        with self.inside(slug, by) as actor:
            wanted: dict[str, Any] = {
                "actor": actor,
                "obj": self.objects[thing],
                "principal": self.model_of(principal),
            }
            deed = (
                (lambda: grants.set_level(**wanted, level=level))
                if level
                else (lambda: grants.remove(**wanted))
            )
            if self._expect(expected, deed):
                self.oracle.levels.pop((thing, principal), None)
                if level:
                    self.oracle.levels[thing, principal] = level

    def _refusal(
        self, thing: str, by: str, principal: Principal, level: Level | None
    ) -> type[Exception] | None:
        """What sharing must be answered with; None when it must be done."""
        slug = self.oracle.home[thing]
        before = self.oracle.levels.get((thing, principal))
        manages = thing.startswith("route") and (
            not by or self.oracle.roles[slug, by] in (Role.OWNER, Role.ADMINISTRATOR, Role.OPERATOR)
        )
        gives_up = level is None and by and principal == ("person", by)
        owns = bool(by) and self.oracle.may(by, thing, "owner")
        if not (manages or gives_up or owns):
            return NotVisible
        if level is None and before is None:
            return NotVisible
        if level and principal[0] == "person" and (slug, principal[1]) not in self.oracle.roles:
            return Refused
        return Refused if level != before and self.oracle.is_last_owner(thing, principal) else None

    # --- What must be so ---------------------------------------------------------------------------

    @invariant()
    def everybody_sees_what_the_oracle_says(self) -> None:
        self.steps += 1
        for level in (Level.VIEWER, (Level.EDITOR, Level.OWNER)[self.steps % 2]):
            for slug in TENANTS:
                for name in PEOPLE:
                    seen, foreseen = self._seen(slug, name, level), self._foreseen(slug, name, level)
                    assert seen == foreseen, (slug, name, level)

    def _foreseen(self, slug: str, name: str, level: Level) -> set[UUID] | None:
        if not self.oracle.enters(slug, name):
            return None
        return {
            made.pk
            for thing, made in self.objects.items()
            if self.oracle.home[thing] == slug and self.oracle.may(name, thing, level)
        }

    def _seen(self, slug: str, name: str, level: Level) -> set[UUID] | None:
        try:
            with self.inside(slug, name) as actor:
                return {
                    pk
                    for kind in (CONVERSATIONS, ROUTES)
                    for pk in visible_objects(
                        actor, kind.model._default_manager.all(), kind.permission(level)
                    ).values_list("pk", flat=True)
                }
        except NotVisible:
            return None


def test_everybody_sees_what_they_should_whatever_happens(
    acme: Company, north: Company, platform_administrator: User
) -> None:
    ensure_default_registry()
    Lives.start = Tenancies({"acme-bank": acme, "north-fund": north}, platform_administrator)
    for slug in TENANTS:
        Lives.start.furnish(slug)
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=10,
            stateful_step_count=16,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Without shrinking, which takes minutes of lives in a database.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
