"""Kinds of objects that are granted one by one, and the levels of a grant.

A kind is a model with two tables of grants (`tenants.access.UserGrant` and `GroupGrant`) and one call of `register`
below them. Access, services, pages, the API, the explanations and the isolation tests all derive from `granted_kinds`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from tenants.models import TenantModel


class Level(models.TextChoices):
    """What a grant allows; each level includes the ones before it."""

    VIEWER = "viewer", _("Viewer")
    EDITOR = "editor", _("Editor")
    OWNER = "owner", _("Owner")

    @property
    def rank(self) -> int:
        """1 for the lowest."""
        return _RANKS[self]


_RANKS = {level: number for number, level in enumerate(Level, start=1)}

# What each level adds to the ones before it. An owner may also share.
_VERBS = {Level.VIEWER: "view", Level.EDITOR: "change", Level.OWNER: "delete"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of granted objects.

    requires: permissions of a role, one of which somebody must hold for a grant to be of any use.
    holds_content: only its owners share it. Of any other kind, whoever holds one of `managed_by` shares every object.
    describe: an object's name for people who may not read it; never its content.
    related, search, ordering: for lists, as query sets name them.
    limit: what the whole tenant limits itself to, as a condition on the model; limit_words: the same for people.
    named_in_keys: the field that the names in an API key's list of allowed routes are compared with, or "".
    owner_field: a foreign key that names an owner, kept in step when the object is handed over, or "".
    """

    model: type[TenantModel]
    user_grants: type[models.Model]
    group_grants: type[models.Model]
    requires: frozenset[str]
    describe: Callable[[Any], str]
    holds_content: bool = True
    managed_by: frozenset[str] = frozenset()
    related: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ordering: tuple[str, ...] = ("pk",)
    limit: Callable[[], Q] | None = None
    limit_words: Any = ""
    named_in_keys: str = ""
    owner_field: str = ""

    @property
    def code(self) -> str:
        """Its name in addresses and records, such as "conversation"."""
        return str(self.model._meta.model_name)

    @property
    def label(self) -> Any:
        return self.model._meta.verbose_name

    @property
    def label_plural(self) -> Any:
        return self.model._meta.verbose_name_plural

    def permission(self, level: Level) -> str:
        """The codename that a level adds: "view_…", "change_…", "delete_…"."""
        return f"{_VERBS[level]}_{self.code}"

    def permissions(self, level: Level) -> list[str]:
        """All codenames that a level allows."""
        return [self.permission(each) for each in Level if each.rank <= level.rank]

    def level_needed(self, permission: str) -> Level:
        """The lowest level that allows a codename. Raises ValueError for one that no level allows."""
        for level in Level:
            if self.permission(level) == permission:
                return level
        raise ValueError(f"no level of {self.code} allows {permission!r}")

    def level_of(self, permissions: Iterable[str]) -> Level | None:
        """The level that these codenames amount to."""
        held = set(permissions)
        return next((each for each in reversed(Level) if self.permission(each) in held), None)


_kinds: dict[type[models.Model], Kind] = {}


def register(kind: Kind) -> Kind:
    """Make a kind of objects known. Raises ImproperlyConfigured when it does not hang together."""
    for table in (kind.user_grants, kind.group_grants):
        field = table._meta.get_field("content_object")
        if field.remote_field is None or field.remote_field.model is not kind.model:
            raise ImproperlyConfigured(f"the grants of {table.__name__} are not on {kind.model.__name__}")
    if kind.holds_content and kind.managed_by:
        raise ImproperlyConfigured(f"{kind.model.__name__} holds content: nobody but its owners may share it")
    _kinds[kind.model] = kind
    return kind


def granted_kinds() -> list[Kind]:
    """All of them, by code."""
    return sorted(_kinds.values(), key=lambda kind: kind.code)


def kind_of(model: type[models.Model]) -> Kind:
    """Raises LookupError for a model whose objects are not granted one by one."""
    return _kinds[model]


def kind_named(code: str) -> Kind | None:
    """The kind of that code, as it comes from an address."""
    return next((kind for kind in _kinds.values() if kind.code == code), None)
