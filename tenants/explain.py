"""Why somebody can, or cannot, see an object: the path of the decision, step by step.

Walks the rules on its own, in words, where `tenants.access` asks one query; a test over random worlds holds the two
together. It names grants, groups and roles, never content.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.utils.translation import gettext as _

from tenants.actors import Actor, NotVisible, permissions_of, tenant_networks
from tenants.custom_roles import roles
from tenants.grants import may_inspect
from tenants.kinds import Kind, Level, kind_of
from tenants.models import ApiKey, Group, GroupMember, Membership, Tenant, TenantModel, User
from tenants.roles import permissions_in_scopes


@dataclass(frozen=True)
class Step:
    """One thing that was looked at.

    sort: conditions must all hold; of grants, one that suffices is enough; notes decide nothing here.
    """

    code: str
    sort: Literal["condition", "grant", "note"]
    holds: bool
    text: str


@dataclass(frozen=True)
class Explanation:
    """The answer for one person or key, one object and one permission. level: the most that grants amount to."""

    allowed: bool
    permission: str
    level: Level | None
    steps: tuple[Step, ...]


def explain(
    *, actor: Actor, obj: TenantModel, subject: User | ApiKey, permission: str | None = None
) -> Explanation:
    """Why `subject` may or may not do that with the object; without a permission: see it.

    For those who may inspect the object's grants. Raises NotVisible, and ValueError for a permission that no level has.
    """
    if not may_inspect(actor, obj):
        raise NotVisible("explanation")
    if isinstance(subject, ApiKey) and subject.tenant_id != actor.tenant_id:
        raise NotVisible("key")
    kind = kind_of(type(obj))
    permission = permission or kind.permission(Level.VIEWER)
    needed = kind.level_needed(permission)
    conditions = [*_of_tenant(actor, kind, obj), *_of_subject(kind, obj, subject)]
    paths = list(_paths(kind, obj, subject))
    steps = [*conditions, *(_grant_step(path, needed) for path in paths)]
    if not paths:
        steps.append(
            Step("no_grant", "grant", False, _("Nothing is granted to them, to their groups or to everyone."))
        )
    granted = any(step.holds for step in steps if step.sort == "grant")
    allowed = granted and all(step.holds for step in conditions if step.sort == "condition")
    level = max((path.level for path in paths), key=lambda each: each.rank, default=None)
    return Explanation(allowed, permission, level, tuple(steps))


# --- Conditions --------------------------------------------------------------------------------


def _condition(code: str, holds: bool, yes: str, no: str) -> Step:
    return Step(code, "condition", holds, yes if holds else no)


def _of_tenant(actor: Actor, kind: Kind, obj: TenantModel) -> Iterator[Step]:
    tenant = Tenant.objects.get(pk=actor.tenant_id)
    is_active = tenant.status == Tenant.Status.ACTIVE
    state = {"status": tenant.get_status_display()}
    yield _condition(
        "tenant", is_active, _("The workspace is active."), _("The workspace is: %(status)s.") % state
    )
    if tenant_networks():
        text = _("Only from addresses in the workspace’s networks.")
        yield Step("tenant_networks", "note", True, text)
    if kind.limit is not None:
        holds = kind.model._default_manager.filter(kind.limit(), pk=obj.pk).exists()
        words = {"words": str(kind.limit_words)}
        yield _condition("limit", holds, _("%(words)s: yes.") % words, _("%(words)s: no.") % words)


def _of_subject(kind: Kind, obj: TenantModel, subject: User | ApiKey) -> Iterator[Step]:
    if isinstance(subject, User):
        membership = Membership.objects.filter(user=subject).first()
        yield from _of_person(subject, membership)
        yield _of_role(kind, membership.role if membership else "", None)
    else:
        yield from _of_key(kind, obj, subject)


def _of_person(user: User, membership: Membership | None) -> Iterator[Step]:
    name = {"name": user.email}
    yield _condition(
        "account",
        user.is_active,
        _("The account of %(name)s is active.") % name,
        _("The account of %(name)s is switched off.") % name,
    )
    yield _condition(
        "member",
        membership is not None,
        _("%(name)s is a member of the workspace.") % name,
        _("%(name)s is not a member of the workspace.") % name,
    )
    if membership is not None and membership.disabled is not None:
        no = _("The membership of %(name)s is disabled.") % name
        yield Step("membership", "condition", False, no)


def _of_key(kind: Kind, obj: TenantModel, key: ApiKey) -> Iterator[Step]:
    name = {"name": key.name}
    yes, no = (
        _("The key “%(name)s” is valid.") % name,
        _("The key “%(name)s” was revoked or has ended.") % name,
    )
    yield _condition("key", key.is_valid, yes, no)
    if key.user is not None:
        membership = Membership.objects.filter(user=key.user).first()
        yield from _of_person(key.user, membership)
        role = membership.role if membership else ""
    else:
        account = key.service_account
        assert account is not None  # a key has one owner
        of = {"name": account.name}
        yes = _("The service account “%(name)s” is active.") % of
        no = _("The service account “%(name)s” is disabled.") % of
        yield _condition("service_account", account.disabled is None, yes, no)
        role = account.role
    yield _of_role(kind, role, key.scopes)
    if kind.named_in_keys and key.allowed_routes:
        named = getattr(obj, kind.named_in_keys)
        yes = _("The key's list of models names “%(name)s”.") % {"name": named}
        no = _("The key is confined to other models: %(names)s.") % {"names": ", ".join(key.allowed_routes)}
        yield _condition("key_list", named in key.allowed_routes, yes, no)
    if key.networks:
        yield Step("key_networks", "note", True, _("Only from addresses in the key's networks."))


def _of_role(kind: Kind, role: str, scopes: list[str] | None) -> Step:
    """Whether the role, within a key's scopes if there is one, allows to use such objects at all."""
    held = permissions_of([role])[role]
    words = {"role": {code: name for code, name, _held in roles()}.get(role, role), "what": kind.label_plural}
    if (
        scopes is not None
        and kind.requires & held
        and not kind.requires & permissions_in_scopes(held, scopes)
    ):
        return Step("scope", "condition", False, _("The key's scopes do not reach %(what)s.") % words)
    yes = _("The role “%(role)s” allows the use of %(what)s.") % words
    no = _("The role “%(role)s” does not allow the use of %(what)s.") % words
    return _condition("role", bool(kind.requires & held), yes, no)


# --- Grants ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Path:
    """A grant that concerns the subject, and through which groups; none: it is their own."""

    level: Level
    groups: tuple[Group, ...]


def _paths(kind: Kind, obj: TenantModel, subject: User | ApiKey) -> Iterator[_Path]:
    person = subject if isinstance(subject, User) else subject.user
    if person is not None:
        own = kind.user_grants._default_manager.filter(content_object_id=obj.pk, user_id=person.pk)
        if level := kind.level_of(own.values_list("permission__codename", flat=True)):
            yield _Path(level, ())
    groups = {group.pk: group for group in Group.objects.all()}
    levels = _levels_of_groups(kind, obj)
    for chain in _chains(person, groups):
        if level := levels.get(chain[-1].pk):
            yield _Path(level, chain)


def _levels_of_groups(kind: Kind, obj: TenantModel) -> dict[UUID, Level]:
    held: dict[UUID, list[str]] = {}
    rows = kind.group_grants._default_manager.filter(content_object_id=obj.pk)
    for group_id, permission in rows.values_list("group_id", "permission__codename"):
        held.setdefault(group_id, []).append(permission)
    return {each: level for each, permissions in held.items() if (level := kind.level_of(permissions))}


def _chains(person: User | None, groups: dict[UUID, Group]) -> Iterator[tuple[Group, ...]]:
    """Every way up from a group that the person is in, to each group on it; then everyone's."""
    if person is not None:
        inside = GroupMember.objects.filter(membership__user=person, membership__disabled=None)
        for group_id in inside.order_by("group__name").values_list("group_id", flat=True):
            chain: tuple[Group, ...] = ()
            here: Group | None = groups.get(group_id)
            while here is not None and here not in chain:
                chain = (*chain, here)
                yield chain
                here = groups.get(here.parent_id) if here.parent_id else None
    yield from ((group,) for group in groups.values() if group.is_everyone)


def _grant_step(path: _Path, needed: Level) -> Step:
    suffices = path.level.rank >= needed.rank
    words: dict[str, Any] = {"level": path.level.label, "needed": needed.label}
    if not path.groups:
        code, text = "direct", _("Granted to them: %(level)s.")
    elif path.groups[-1].is_everyone:
        code, text = "everyone", _("Granted to everyone: %(level)s.")
    elif len(path.groups) == 1:
        code, text = "group", _("Granted to the group “%(group)s”, which they are in: %(level)s.")
    else:
        code, text = (
            "group",
            _("Granted to the group “%(group)s”, which they are in through %(through)s: %(level)s."),
        )
    if path.groups:
        words["group"] = path.groups[-1].name
        words["through"] = " › ".join(f"“{group.name}”" for group in path.groups[:-1])
    said = text % words
    if not suffices:
        said += " " + _("Too little: it takes %(needed)s.") % words
    return Step(code, "grant", suffices, said)
