"""Roles and the permission catalogue.

A role is what a membership or a service account holds; a permission is what code asks for. Duties are separated: who
administers reads nobody's content, and who reads it administers nothing, in custom roles too.
"""

from enum import StrEnum
from typing import NamedTuple

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class Role(models.TextChoices):
    OWNER = "owner", _("Owner")
    ADMINISTRATOR = "administrator", _("Tenant administrator")
    OPERATOR = "operator", _("Model operator")
    CURATOR = "curator", _("Knowledge curator")
    MEMBER = "member", _("Member")
    REVIEWER = "reviewer", _("Compliance reviewer")
    OFFICER = "officer", _("Compliance officer")
    AUDITOR = "auditor", _("Auditor (read-only)")


CHAT_USE = "chat.use"
API_USE = "api.use"
KNOWLEDGE_CURATE = "knowledge.curate"
MODELS_OPERATE = "models.operate"
OVERVIEW_VIEW = "overview.view"
USAGE_VIEW = "usage.view"
ADMINISTRATION_VIEW = "administration.view"
PEOPLE_MANAGE = "people.manage"
PEOPLE_APPOINT = "people.appoint"
ROLES_MANAGE = "roles.manage"
KEYS_MANAGE = "keys.manage"
QUOTAS_MANAGE = "quotas.manage"
SETTINGS_MANAGE = "settings.manage"
SIGN_IN_MANAGE = "sign_in.manage"
GRANTS_MANAGE = "grants.manage"
TENANT_CLOSE = "tenant.close"
AUDIT_LIST = "audit.list"
AUDIT_READ = "audit.read"
AUDIT_EXPORT = "audit.export"
REVIEW_WORK = "review.work"
REVIEW_MANAGE = "review.manage"
RETENTION_MANAGE = "retention.manage"

# Of platform administrators towards a tenant; no role holds it.
PLATFORM_MANAGE = "platform.manage"


class Duty(StrEnum):
    """What must not be in one hand with the other."""

    NONE = "none"
    ADMINISTER = "administer"
    REVIEW = "review"


class Permission(NamedTuple):
    """An entry of the catalogue."""

    code: str
    label: str | Promise
    area: str | Promise
    duty: Duty = Duty.NONE


_WORK, _VIEW = _("Work"), pgettext_lazy("kind of permissions", "Read")
_MANAGE, _AUDIT = _("Administration"), _("Compliance")

CATALOGUE = (
    Permission(CHAT_USE, _("Use the chat"), _WORK),
    Permission(API_USE, _("Use models through the API"), _WORK),
    Permission(KNOWLEDGE_CURATE, _("Make and fill knowledge bases"), _WORK),
    Permission(OVERVIEW_VIEW, _("See the overview and its figures"), _VIEW),
    Permission(USAGE_VIEW, _("See everybody’s usage"), _VIEW),
    Permission(ADMINISTRATION_VIEW, _("See people, roles, keys, quotas and settings"), _VIEW),
    Permission(MODELS_OPERATE, _("Operate models and routes"), _MANAGE, Duty.ADMINISTER),
    Permission(PEOPLE_MANAGE, _("Invite and remove people, manage groups"), _MANAGE, Duty.ADMINISTER),
    Permission(PEOPLE_APPOINT, _("Appoint administrators and reviewers"), _MANAGE, Duty.ADMINISTER),
    Permission(ROLES_MANAGE, _("Define roles"), _MANAGE, Duty.ADMINISTER),
    Permission(KEYS_MANAGE, _("Manage service accounts and API keys"), _MANAGE, Duty.ADMINISTER),
    Permission(QUOTAS_MANAGE, _("Set quotas"), _MANAGE, Duty.ADMINISTER),
    Permission(SETTINGS_MANAGE, _("Change the workspace’s settings"), _MANAGE, Duty.ADMINISTER),
    Permission(SIGN_IN_MANAGE, _("Manage sign-in and identity providers"), _MANAGE, Duty.ADMINISTER),
    Permission(GRANTS_MANAGE, _("Share models and other objects"), _MANAGE, Duty.ADMINISTER),
    Permission(TENANT_CLOSE, _("Archive or delete the workspace"), _MANAGE, Duty.ADMINISTER),
    Permission(AUDIT_LIST, _("List audit records, without content"), _AUDIT),
    Permission(AUDIT_READ, _("Search and open audit records with their content"), _AUDIT, Duty.REVIEW),
    Permission(AUDIT_EXPORT, _("Export audit records with proof"), _AUDIT, Duty.REVIEW),
    Permission(REVIEW_WORK, _("Flag records, review them and work on cases"), _AUDIT, Duty.REVIEW),
    Permission(REVIEW_MANAGE, _("Assign reviews, plan samples and see every case"), _AUDIT, Duty.REVIEW),
    Permission(RETENTION_MANAGE, _("Set retention, release holds and erase on request"), _AUDIT, Duty.REVIEW),
)
DUTIES = {permission.code: permission.duty for permission in CATALOGUE}

_ADMINISTRATOR = frozenset(
    {
        CHAT_USE,
        API_USE,
        OVERVIEW_VIEW,
        USAGE_VIEW,
        ADMINISTRATION_VIEW,
        PEOPLE_MANAGE,
        KEYS_MANAGE,
        QUOTAS_MANAGE,
        SETTINGS_MANAGE,
        SIGN_IN_MANAGE,
        GRANTS_MANAGE,
    }
)

PERMISSIONS: dict[str, frozenset[str]] = {
    Role.OWNER: _ADMINISTRATOR | {PEOPLE_APPOINT, ROLES_MANAGE, TENANT_CLOSE},
    Role.ADMINISTRATOR: _ADMINISTRATOR,
    Role.OPERATOR: frozenset({CHAT_USE, API_USE, OVERVIEW_VIEW, USAGE_VIEW, MODELS_OPERATE}),
    Role.CURATOR: frozenset({CHAT_USE, API_USE, KNOWLEDGE_CURATE}),
    Role.MEMBER: frozenset({CHAT_USE, API_USE}),
    Role.REVIEWER: frozenset({AUDIT_LIST, AUDIT_READ, AUDIT_EXPORT, REVIEW_WORK}),
    Role.OFFICER: frozenset(
        {AUDIT_LIST, AUDIT_READ, AUDIT_EXPORT, REVIEW_WORK, REVIEW_MANAGE, RETENTION_MANAGE}
    ),
    Role.AUDITOR: frozenset({AUDIT_LIST, ADMINISTRATION_VIEW, OVERVIEW_VIEW, USAGE_VIEW}),
}


class Scope(models.TextChoices):
    """What an API key may be used for, of what its owner may do."""

    INFERENCE = "inference", _("Use models: chat, completions, embeddings")
    MANAGEMENT_READ = "management.read", _("Read people, roles, keys, quotas, usage and settings")
    MANAGEMENT_WRITE = "management.write", _("Change people, roles, keys, quotas and settings")
    KNOWLEDGE_READ = "knowledge.read", _("Read knowledge bases and their documents")
    KNOWLEDGE_WRITE = "knowledge.write", _("Change knowledge bases and their documents")
    SCIM = "scim", _("Provision people and groups from a directory (SCIM)")


# Held by keys of the scope SCIM alone; it stands beside PEOPLE_MANAGE, which the owner must hold for it.
SCIM_PROVISION = "scim.provision"

_READS = frozenset({OVERVIEW_VIEW, USAGE_VIEW, ADMINISTRATION_VIEW, AUDIT_LIST})

SCOPE_PERMISSIONS: dict[str, frozenset[str]] = {
    Scope.INFERENCE: frozenset({API_USE}),
    Scope.MANAGEMENT_READ: _READS,
    Scope.MANAGEMENT_WRITE: _READS
    | {permission.code for permission in CATALOGUE if permission.duty == Duty.ADMINISTER},
    # Which of the two it is, is asked where such keys come in.
    Scope.KNOWLEDGE_READ: frozenset({KNOWLEDGE_CURATE}),
    Scope.KNOWLEDGE_WRITE: frozenset({KNOWLEDGE_CURATE}),
    Scope.SCIM: frozenset(),
}


def duties_of(permissions: frozenset[str]) -> set[Duty]:
    """The duties that somebody with these permissions has; more than one is one too many."""
    return {DUTIES.get(code, Duty.NONE) for code in permissions} - {Duty.NONE}


def permissions_in_scopes(permissions: frozenset[str], scopes: list[str]) -> frozenset[str]:
    """What a key with these scopes may do, when its owner may do `permissions`."""
    allowed = frozenset().union(*(SCOPE_PERMISSIONS.get(scope, frozenset()) for scope in scopes))
    provision = {SCIM_PROVISION} if Scope.SCIM in scopes and PEOPLE_MANAGE in permissions else frozenset()
    return (permissions & allowed) | provision
