"""What is chosen about people: roles and groups."""

from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.pages.administration.forms import PageForm
from tenants.actors import Actor
from tenants.custom_roles import roles
from tenants.models import Group
from tenants.roles import PEOPLE_APPOINT, duties_of


def roles_to_give(actor: Actor) -> dict[str, str]:
    """Code and name of the roles that the actor may give, and take."""
    appoints = actor.can(PEOPLE_APPOINT)
    return {code: name for code, name, permissions in roles() if appoints or not duties_of(permissions)}


def groups_to_join() -> list[tuple[str, str]]:
    """(id, name) of the groups that people made, by name."""
    found = Group.objects.filter(is_everyone=False).order_by("name")
    return [(str(pk), name) for pk, name in found.values_list("pk", "name")]


class RoleForm(PageForm):
    """One of the roles that the actor may give."""

    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        error_messages={
            "required": gettext_lazy("Choose a role."),
            "invalid_choice": gettext_lazy("Choose one of the roles offered."),
        },
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose = [] if self.initial.get("role") else [("", _("Choose…"))]
        self.fields["role"].choices = [*choose, *roles_to_give(actor).items()]  # type: ignore[attr-defined]


class GroupForm(PageForm):
    """One group that people made."""

    group = forms.ChoiceField(
        label=gettext_lazy("Group"),
        error_messages={
            "required": gettext_lazy("Choose a group."),
            "invalid_choice": gettext_lazy("This group is gone. Choose another."),
        },
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["group"].choices = [("", _("Choose…")), *groups_to_join()]  # type: ignore[attr-defined]


class GroupsForm(PageForm):
    """Any of the groups that people made."""

    groups = forms.MultipleChoiceField(
        label=gettext_lazy("Groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"invalid_choice": gettext_lazy("A group of these is gone. Look again.")},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups = groups_to_join()
        self.fields["groups"].choices = groups  # type: ignore[attr-defined]
        if not groups and "groups" not in self.data:
            del self.fields["groups"]  # There is nothing to ask, and nothing to refuse.

    def ids(self) -> set[UUID]:
        return {UUID(each) for each in self.cleaned_data.get("groups", ())}
