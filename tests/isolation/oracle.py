"""Who sees what, in a few lines of plain Python: the rules as people understand them, to hold the product against.

Knows nothing of the product's code. Names stand for tenants, people, groups and objects.
"""

from dataclasses import dataclass, field

LEVELS = ("viewer", "editor", "owner")
EVERYONE = ("everyone", "")

# Roles by which somebody uses the chat and models at all; the tenant's own role is added when it may.
USING = frozenset({"owner", "administrator", "operator", "curator", "member"})
OWN_ROLE = "own-role"

Principal = tuple[str, str]  # ("person" or "group", name), or EVERYONE.


@dataclass
class Oracle:
    """What is the case. Objects are "conversation" or "route" by their first word."""

    suspended: set[str] = field(default_factory=set)
    inactive: set[str] = field(default_factory=set)
    roles: dict[tuple[str, str], str] = field(default_factory=dict)  # of (tenant, person): the members
    disabled: set[tuple[str, str]] = field(default_factory=set)
    own_role_uses: dict[str, bool] = field(default_factory=dict)  # by tenant
    home: dict[str, str] = field(default_factory=dict)  # the tenant of a group or an object
    parents: dict[str, str | None] = field(default_factory=dict)  # of each group
    inside: set[tuple[str, str]] = field(default_factory=set)  # (group, person)
    levels: dict[tuple[str, Principal], str] = field(default_factory=dict)  # of (object, principal)

    def enters(self, tenant: str, person: str) -> bool:
        """Whether the person is let into the tenant now."""
        member = (tenant, person) in self.roles and (tenant, person) not in self.disabled
        return member and tenant not in self.suspended and person not in self.inactive

    def may(self, person: str, thing: str, level: str) -> bool:
        tenant = self.home[thing]
        role = self.roles.get((tenant, person), "")
        uses = role in USING or (role == OWN_ROLE and self.own_role_uses[tenant])
        held = [self.levels.get((thing, principal)) for principal in self._principals(tenant, person)]
        reached = [LEVELS.index(each) >= LEVELS.index(level) for each in held if each]
        return self.enters(tenant, person) and uses and any(reached)

    def _principals(self, tenant: str, person: str) -> list[Principal]:
        return [("person", person), EVERYONE, *(("group", name) for name in self._groups(tenant, person))]

    def _groups(self, tenant: str, person: str) -> set[str]:
        found = {group for group, who in self.inside if who == person and self.home[group] == tenant}
        while above := {self.parents[group] for group in found} - found - {None}:
            found |= {group for group in above if group}
        return found

    def below(self, group: str) -> set[str]:
        """The group and all that stand below it."""
        found = {group}
        while more := {each for each, parent in self.parents.items() if parent in found} - found:
            found |= more
        return found

    def is_last_owner(self, thing: str, principal: Principal) -> bool:
        """Of a conversation: whether without this person nobody who can come in owns it."""
        if not thing.startswith("conversation") or self.levels.get((thing, principal)) != "owner":
            return False
        if principal[0] != "person":
            return False
        tenant = self.home[thing]
        owners = {who for (each, who), level in self.levels.items() if each == thing and level == "owner"}
        return not any(
            (tenant, name) in self.roles and (tenant, name) not in self.disabled and name not in self.inactive
            for sort, name in owners - {principal}
            if sort == "person"
        )

    def forget_member(self, tenant: str, person: str) -> None:
        """What remains of somebody who left is what they own."""
        del self.roles[tenant, person]
        self.disabled.discard((tenant, person))
        self.inside = {(g, p) for g, p in self.inside if p != person or self.home[g] != tenant}
        self.levels = {
            (thing, who): level
            for (thing, who), level in self.levels.items()
            if who != ("person", person) or self.home[thing] != tenant or level == "owner"
        }

    def forget_group(self, group: str) -> None:
        del self.parents[group], self.home[group]
        self.inside = {(g, p) for g, p in self.inside if g != group}
        self.levels = {key: level for key, level in self.levels.items() if key[1] != ("group", group)}
