"""A tenant as it is, and the difference between two states."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from audit.record import Keeping
from audit.retention import policies
from tenants.actors import Actor
from tenants.lifecycle import settings_of
from tenants.models import CustomRole, Group, GroupMember, Invitation, Membership, ServiceAccount, Tenant
from tenants.quotas.models import Limit, SubjectKind

Thing = tuple[str, str]  # What it is, and its name.
State = dict[Thing, dict[str, Any]]

SETTINGS = (
    "display_name",
    "accent",
    "default_language",
    "allowed_models",
    "registration",
    "registration_domains",
    "networks",
    "mfa_required",
)
EVERY = {SubjectKind.TENANT: "tenant", SubjectKind.MEMBER: "every member", SubjectKind.KEY: "every key"}


@dataclass(frozen=True)
class Change:
    """What becomes of one thing. fields: by name, (before, after); None where there was or is nothing."""

    action: Literal["create", "change", "remove"]
    kind: str
    name: str
    fields: dict[str, tuple[Any, Any]]

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        fields = {name: {"before": old, "after": new} for name, (old, new) in self.fields.items()}
        return {"action": self.action, "kind": self.kind, "name": self.name, "fields": fields}


def differences(before: State, after: State) -> list[Change]:
    """What makes one state of the other: first what is made, then what changes, then what goes."""
    made = [_change("create", thing, {}, after[thing]) for thing in after if thing not in before]
    changed = [
        _change("change", thing, before[thing], after[thing])
        for thing in after
        if thing in before and before[thing] != after[thing]
    ]
    gone = [_change("remove", thing, before[thing], {}) for thing in before if thing not in after]
    return [*made, *changed, *gone]


def _change(
    action: Literal["create", "change", "remove"], thing: Thing, before: dict[str, Any], after: dict[str, Any]
) -> Change:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Change(action, *thing, {name: (before.get(name), after.get(name)) for name in names})


def of(actor: Actor) -> State:
    """Everything that a file can say of the tenant. Inside its scope."""
    row = settings_of(actor)
    settings = {name: getattr(row, name) for name in SETTINGS}
    # What was decided last, whether it counts already or not, so that a second run has nothing to do.
    settings["retention_days"] = policies.in_force(actor.tenant_id)[Keeping.REQUESTS].wanted
    groups = {each.pk: each for each in Group.objects.filter(is_everyone=False)}
    return {
        ("tenant", actor.tenant_slug): {"name": Tenant.objects.get(pk=actor.tenant_id).name},
        ("settings", actor.tenant_slug): settings,
        **{("role", each.slug): _role(each) for each in CustomRole.objects.order_by("slug")},
        **{
            ("group", each.name): {
                "description": each.description,
                "parent": groups[each.parent_id].name if each.parent_id else None,
            }
            for each in groups.values()
        },
        **{
            ("service account", each.name): _account(each) for each in ServiceAccount.objects.order_by("name")
        },
        **_members(groups),
        **_invitations(groups),
        **_limits(groups),
    }


def _role(row: CustomRole) -> dict[str, Any]:
    return {"name": row.name, "description": row.description, "permissions": row.permissions}


def _account(row: ServiceAccount) -> dict[str, Any]:
    return {"role": row.role, "description": row.description, "enabled": row.disabled is None}


def _members(groups: dict[UUID, Group]) -> State:
    inside: dict[UUID, list[str]] = defaultdict(list)
    for row in GroupMember.objects.filter(group_id__in=groups):
        inside[row.membership_id].append(groups[row.group_id].name)
    members = Membership.objects.select_related("user").order_by("user__email")
    return {
        ("member", each.user.email): {"role": each.role, "groups": sorted(inside[each.pk])}
        for each in members
    }


def _invitations(groups: dict[UUID, Group]) -> State:
    """Those whose links work; what people asked for themselves is no part of what a file says."""
    found = Invitation.objects.filter(mailed_only=False, accepted=None, revoked=None).order_by("email")
    return {
        ("invitation", each.email): {
            "role": each.role,
            "groups": sorted(groups[pk].name for pk in each.groups if pk in groups),
        }
        for each in found
        if each.is_open
    }


def _limits(groups: dict[UUID, Group]) -> State:
    """The tenant's own: no ceilings, and none of single members and keys, which a file does not name."""
    found: State = {}
    for limit in Limit.objects.filter(is_ceiling=False).order_by("subject_kind", "metric"):
        if limit.subject_kind == SubjectKind.GROUP and limit.subject_id in groups:
            subject = f"group {groups[limit.subject_id].name}"
        elif limit.subject_id is None:
            subject = EVERY[SubjectKind(limit.subject_kind)]
        else:
            continue
        found[("limit", f"{subject}: {limit.metric}")] = {"value": limit.value}
    return found
