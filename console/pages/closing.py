"""What goes when a tenant is deleted, in words for whoever decides on it. Inside the tenant's scope; counts only."""

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.chat.models import Conversation
from tenants.models import ApiKey, CustomRole, Group, Membership, ServiceAccount


def what_goes() -> list[str]:
    """One line for each kind of thing that would be destroyed."""
    members, conversations = Membership.objects.count(), Conversation.objects.count()
    groups = Group.objects.filter(is_everyone=False).count() + CustomRole.objects.count()
    keys = ApiKey.objects.filter(revoked=None).count() + ServiceAccount.objects.count()
    return [
        ngettext(
            "%(count)d membership; the person’s account stays",
            "%(count)d memberships; the people’s accounts stay",
            members,
        )
        % {"count": members},
        ngettext("%(count)d group or role", "%(count)d groups and roles", groups) % {"count": groups},
        ngettext("%(count)d API key or service account", "%(count)d API keys and service accounts", keys)
        % {"count": keys},
        ngettext("%(count)d conversation", "%(count)d conversations", conversations)
        % {"count": conversations},
        _("Settings, sign-in providers, quotas and usage figures"),
        _("The encryption keys: what the audit recorded can never be opened again"),
    ]
