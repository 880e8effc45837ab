"""What can be done with several people at once: each in a step of its own, so that one refusal stops no other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.db import transaction
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.pages.administration.confirm import Question
from console.pages.administration.people_forms import GroupForm, RoleForm
from console.tenancy import TenantRequest
from tenants import groups, people
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.models import Membership

Choice = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Action:
    """button: on the list. one: the question about somebody, as "Remove %(name)s?"; many: about so many people.

    text: what happens then. verb: on the button that does it. success: the message after so many. form: what must be
    chosen. ends: afterwards they are no members.
    """

    name: str
    button: str | Promise
    one: str | Promise
    many: Callable[[int], str]
    text: str | Promise
    verb: str | Promise
    success: Callable[[int], str]
    do: Callable[[Actor, Membership, Choice], object]
    form: Callable[..., forms.Form] | None = None
    is_danger: bool = False
    ends: bool = False


def _change_role(actor: Actor, member: Membership, choice: Choice) -> None:
    people.change_role(actor=actor, membership_id=member.pk, role=choice["role"])


def _add_to_group(actor: Actor, member: Membership, choice: Choice) -> None:
    groups.add_members(actor=actor, group_id=UUID(choice["group"]), membership_ids=[member.pk])


def _disable(actor: Actor, member: Membership, choice: Choice) -> None:
    people.disable_member(actor=actor, membership_id=member.pk)


def _enable(actor: Actor, member: Membership, choice: Choice) -> None:
    people.enable_member(actor=actor, membership_id=member.pk)


def _remove(actor: Actor, member: Membership, choice: Choice) -> None:
    people.remove_member(actor=actor, membership_id=member.pk)


_ALL = (
    Action(
        name="role",
        button=gettext_lazy("Change role…"),
        one=gettext_lazy("Change the role of %(name)s?"),
        many=lambda count: (
            ngettext("Change the role of %d person?", "Change the role of %d people?", count) % count
        ),
        text=gettext_lazy(
            "The new role counts at once. What they have open and may no longer use closes in a second."
        ),
        verb=gettext_lazy("Change role"),
        success=lambda count: (
            ngettext("The role of %d person was changed.", "The role of %d people was changed.", count)
            % count
        ),
        do=_change_role,
        form=RoleForm,
    ),
    Action(
        name="group",
        button=gettext_lazy("Add to group…"),
        one=gettext_lazy("Add %(name)s to a group?"),
        many=lambda count: ngettext("Add %d person to a group?", "Add %d people to a group?", count) % count,
        text=gettext_lazy("They get what was shared with the group and with the groups above it."),
        verb=gettext_lazy("Add to group"),
        success=lambda count: (
            ngettext("%d person is in the group now.", "%d people are in the group now.", count) % count
        ),
        do=_add_to_group,
        form=GroupForm,
    ),
    Action(
        name="disable",
        button=gettext_lazy("Disable…"),
        one=gettext_lazy("Disable %(name)s?"),
        many=lambda count: ngettext("Disable %d person?", "Disable %d people?", count) % count,
        text=gettext_lazy(
            "They are kept out from now on: what they have open closes, and their API keys stop, within a second. "
            "Everything of theirs is kept, and they can be enabled again."
        ),
        verb=gettext_lazy("Disable"),
        success=lambda count: ngettext("%d person was disabled.", "%d people were disabled.", count) % count,
        do=_disable,
        is_danger=True,
    ),
    Action(
        name="enable",
        button=gettext_lazy("Enable…"),
        one=gettext_lazy("Let %(name)s in again?"),
        many=lambda count: ngettext("Let %d person in again?", "Let %d people in again?", count) % count,
        text=gettext_lazy("They can use the workspace again, in the role and the groups they have."),
        verb=gettext_lazy("Enable"),
        success=lambda count: ngettext("%d person was enabled.", "%d people were enabled.", count) % count,
        do=_enable,
    ),
    Action(
        name="remove",
        button=gettext_lazy("Remove…"),
        one=gettext_lazy("Remove %(name)s from this workspace?"),
        many=lambda count: (
            ngettext("Remove %d person from this workspace?", "Remove %d people from this workspace?", count)
            % count
        ),
        text=gettext_lazy(
            "Their membership ends within a second, with their places in groups; their personal API keys are revoked. "
            "To come back they must be invited again. The audit keeps its records."
        ),
        verb=gettext_lazy("Remove"),
        success=lambda count: ngettext("%d person was removed.", "%d people were removed.", count) % count,
        do=_remove,
        is_danger=True,
        ends=True,
    ),
)
ACTIONS = {action.name: action for action in _ALL}


def offered() -> list[tuple[str, str | Promise, bool]]:
    """(name, label, is_danger) of each, for the bar below a list."""
    return [(action.name, action.button, action.is_danger) for action in _ALL]


def question(
    request: TenantRequest,
    action: Action,
    chosen: Sequence[Membership],
    form: forms.Form | None,
    *,
    back: str,
) -> Question:
    """What is asked before `action` is done to the chosen people."""
    slug, names = request.actor.tenant_slug, [_called(member) for member in chosen]
    title = str(action.one) % {"name": names[0]} if len(chosen) == 1 else action.many(len(chosen))
    return Question(
        title=title,
        text=str(action.text),
        button=str(action.verb),
        action=reverse("people_act", args=[slug]),
        back=back,
        names=names if len(chosen) > 1 else (),
        hidden=[
            ("action", action.name),
            ("origin", request.POST.get("origin", "")),
            *(("selected", str(member.pk)) for member in chosen),
        ],
        form=form,
        is_danger=action.is_danger,
    )


def do(
    actor: Actor, action: Action, chosen: Sequence[Membership], choice: Choice
) -> list[tuple[Membership, str]]:
    """Do it for each of them; (whom, why) of those for whom it was refused."""
    refused = []
    for member in chosen:
        try:
            with transaction.atomic():
                action.do(actor, member, choice)
        except Refused as error:
            refused.append((member, error.message))
        except NotVisible:
            refused.append((member, _("This is no longer there.")))
    return refused


def _called(member: Membership) -> str:
    return f"{member.user.name} ({member.user.email})" if member.user.name else member.user.email
