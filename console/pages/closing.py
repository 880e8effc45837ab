"""Closing a tenant, from inside or by the platform: what goes, and typing its short name so that no other is meant."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.chat.models import Conversation
from console.pages.administration.forms import PageForm
from tenants.models import ApiKey, CustomRole, Group, Membership, ServiceAccount


class SlugForm(PageForm):
    """`slug`: what must be typed."""

    confirm_slug = forms.CharField(
        max_length=50, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )

    def __init__(self, *args: Any, slug: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slug = slug
        self.fields["confirm_slug"].label = _("Type “%(slug)s” to confirm") % {"slug": slug}

    def clean_confirm_slug(self) -> str:
        typed = self.cleaned_data["confirm_slug"]
        if typed != self._slug:
            message = _("To confirm, type the tenant's short name exactly: %(slug)s")
            raise forms.ValidationError(message % {"slug": self._slug})
        return typed


def what_goes() -> list[str]:
    """One line for each kind of thing that a deletion destroys. Inside the tenant's scope; numbers, no content."""
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
