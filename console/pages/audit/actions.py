"""What can be done with records of the audit, in one place: with those ticked in a list, and with the one that is open.

A part of the audit is found here by adding a line. Its view takes POST `selected=<id>`, once for each record, and
`s=<what was searched for, sealed>` where there was a search, and answers with a page that asks for what else it needs.
"""

from typing import NamedTuple

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from tenants.actors import Actor
from tenants.roles import AUDIT_EXPORT, REVIEW_WORK


class Action(NamedTuple):
    url_name: str
    label: str | Promise
    permission: str
    icon: str


class Offered(NamedTuple):
    url: str
    label: str
    icon: str


ACTIONS: tuple[Action, ...] = (
    Action("review_flag", pgettext_lazy("verb", "Flag"), REVIEW_WORK, "flag"),
    Action("case_join", _("Add to a case"), REVIEW_WORK, "lock"),
    Action("audit_export", _("Export"), AUDIT_EXPORT, "down"),
)


def offered(actor: Actor) -> list[Offered]:
    """Those the actor may take."""
    return [
        Offered(reverse(action.url_name, args=[actor.tenant_slug]), str(action.label), action.icon)
        for action in ACTIONS
        if actor.can(action.permission)
    ]
