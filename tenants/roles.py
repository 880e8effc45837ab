"""Roles and the permission catalogue.

A role is what a membership holds; a permission is what code asks for. Duties are separated: an administrator runs the
tenant but reads nobody's content; a reviewer reads the audit but administers nothing.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    ADMINISTRATOR = "administrator", _("Tenant administrator")
    MEMBER = "member", _("Member")
    REVIEWER = "reviewer", _("Compliance reviewer")


CHAT_USE = "chat.use"
API_USE = "api.use"
OVERVIEW_VIEW = "overview.view"
AUDIT_READ = "audit.read"

PERMISSIONS: dict[str, frozenset[str]] = {
    Role.ADMINISTRATOR: frozenset({CHAT_USE, OVERVIEW_VIEW}),
    Role.MEMBER: frozenset({CHAT_USE}),
    Role.REVIEWER: frozenset({AUDIT_READ}),
}

KEY_PERMISSIONS = frozenset({API_USE})
