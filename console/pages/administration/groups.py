"""Groups: the tree of them, and the page of each with its details and its people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.pages.listing import Column, Listing, csv_response, selected
from console.tenancy import TenantRequest, tenant_view
from tenants import groups, people
from tenants.actors import NotVisible, require
from tenants.errors import Refused
from tenants.models import Group, GroupMember, Membership
from tenants.roles import PEOPLE_MANAGE
from tenants.words import search_words

FOUND_MOST = 20

COLUMNS = (
    Column("name", gettext_lazy("Name"), ("name",)),
    Column("description", gettext_lazy("Description")),
    Column("members", gettext_lazy("Members"), ("members",), number=True),
)
MEMBER_COLUMNS = (
    Column("name", pgettext_lazy("of a person", "Name"), ("user__name", "user__email")),
    Column("through", gettext_lazy("In this group")),
)


class DetailsForm(PageForm):
    """What a group is called, and which group it stands below."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    parent_id = forms.TypedChoiceField(
        label=gettext_lazy("Below"),
        required=False,
        coerce=UUID,
        empty_value=None,
        help_text=gettext_lazy(
            "Whoever is in this group is in the one above it too, and gets what it may see."
        ),
        error_messages={"invalid_choice": gettext_lazy("This group is gone. Choose another.")},
    )

    def __init__(self, *args: Any, tree: Sequence["Row"], itself: UUID | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        above = [
            (str(row.group.pk), "\u2003" * row.depth + row.group.name)
            for row in tree
            if not row.group.is_everyone and row.group.pk != itself
        ]
        self.fields["parent_id"].choices = [("", _("No other group")), *above]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Row:
    """A group in the tree. path: the names above it, from the top. members: those who are in it directly."""

    group: Group
    depth: int
    path: tuple[str, ...]
    members: int


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    tree = _tree(groups.groups(request.actor), request.GET.get("sort", "name"))
    wanted = search_words(request.GET.get("q", "").casefold())
    rows = [row for row in tree if all(word in row.group.name.casefold() for word in wanted)]
    listing = Listing(request, rows, COLUMNS, default_sort="name")
    if request.GET.get("format") == "csv":
        heading = [_("Name"), _("Description"), _("Below"), _("Members"), _("In the directory")]
        cells = (
            [row.group.name, row.group.description, " / ".join(row.path), row.members, row.group.external_id]
            for row in rows
        )
        return csv_response("groups", heading, cells)
    context = {"title": _("Groups"), "listing": listing, "may_manage": request.actor.can(PEOPLE_MANAGE)}
    return render(request, "administration/groups.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(PEOPLE_MANAGE)
def create(request: TenantRequest) -> HttpResponse:
    tree = _tree(groups.groups(request.actor))
    form = DetailsForm(*posted(request), tree=tree, initial={"parent_id": request.GET.get("below", "")})
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: groups.create_group(actor=request.actor, **form.cleaned_data))
        if isinstance(made, Group):
            messages.success(
                request, _("The group “%(name)s” was made. Add its people.") % {"name": made.name}
            )
            return redirect("group", request.actor.tenant_slug, made.pk)
    context = {"title": _("New group"), "form": form}
    return render(request, "administration/group_new.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def group(request: TenantRequest, group_id: UUID) -> HttpResponse:
    """A group with its people; POST changes its details."""
    actor = request.actor
    shown = _group(request, group_id)
    tree = _tree(groups.groups(actor))
    initial = {"name": shown.name, "description": shown.description, "parent_id": str(shown.parent_id or "")}
    form = DetailsForm(*posted(request), tree=tree, itself=shown.pk, initial=initial)
    if request.method == "POST":
        require(actor, PEOPLE_MANAGE)
        if form.is_valid():
            changes = {"group_id": shown.pk, **form.cleaned_data}
            if attempt(form, lambda: groups.update_group(actor=actor, **changes)) is not FAILED:
                messages.success(request, _("The group was changed."))
                return redirect("group", actor.tenant_slug, shown.pk)
        shown = _group(request, group_id)
    found = groups.members_of(shown).defer("user__avatar", "user__password")
    listing = Listing(request, _matching(found, request.GET.get("q", "")), MEMBER_COLUMNS, kept=("find",))
    context = {
        "title": shown.name,
        "group": shown,
        "form": form,
        "listing": listing,
        "rows": _member_rows(shown, listing.page),
        "below": [row for row in tree if row.group.parent_id == shown.pk],
        "path": next(row.path for row in tree if row.group.pk == shown.pk),
        "find": request.GET.get("find", "").strip(),
        "candidates": _candidates(request, shown),
        "may_manage": actor.can(PEOPLE_MANAGE),
        "actions": [("remove", _("Take out of the group…"), True)],
    }
    return render(request, "administration/group.html", context, status=status_of(form))


@require_POST
@tenant_view(PEOPLE_MANAGE)
def members(request: TenantRequest, group_id: UUID) -> HttpResponse:
    """POST action=add or remove with the people selected; taking out asks first."""
    actor, shown = request.actor, _group(request, group_id)
    chosen = list(people.members(actor).filter(pk__in=selected(request, UUID)))
    back = reverse("group", args=[actor.tenant_slug, shown.pk])
    if not chosen:
        messages.warning(request, _("Select at least one person first."))
        return redirect(back)
    ids = [member.pk for member in chosen]
    if request.POST.get("action") == "remove":
        if not is_confirmed(request):
            return ask(request, _question_about_members(actor.tenant_slug, shown, chosen))
        count = groups.remove_members(actor=actor, group_id=shown.pk, membership_ids=ids)
        text = ngettext(
            "%d person was taken out of the group.", "%d people were taken out of the group.", count
        )
    else:
        count = groups.add_members(actor=actor, group_id=shown.pk, membership_ids=ids)
        text = ngettext("%d person was added.", "%d people were added.", count)
    messages.success(request, text % count)
    return redirect(back)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(PEOPLE_MANAGE)
def delete(request: TenantRequest, group_id: UUID) -> HttpResponse:
    actor, shown = request.actor, _group(request, group_id)
    back = reverse("group", args=[actor.tenant_slug, shown.pk])
    if not is_confirmed(request):
        return ask(
            request, _question_about(shown, reverse("group_delete", args=[actor.tenant_slug, shown.pk]), back)
        )
    try:
        groups.delete_group(actor=actor, group_id=shown.pk)
    except Refused as error:
        messages.error(request, error.message)
        return redirect(back)
    messages.success(request, _("The group “%(name)s” was deleted.") % {"name": shown.name})
    return redirect("groups", actor.tenant_slug)


# --- The tree --------------------------------------------------------------------------------


def _tree(found: Iterable[Group], sort: str = "name") -> list[Row]:
    """All groups, each below the one it belongs to; everyone's first, siblings by name or by size."""
    everybody = Membership.objects.count()
    sizes = dict(GroupMember.objects.values_list("group").annotate(Count("pk")).order_by())
    children: dict[UUID | None, list[Group]] = {}
    for each in sorted(found, key=_sort_key(sort, sizes), reverse=sort.startswith("-")):
        children.setdefault(each.parent_id, []).append(each)
    rows: list[Row] = []

    def walk(parent_id: UUID | None, path: tuple[str, ...]) -> None:
        for each in children.get(parent_id, ()):
            count = everybody if each.is_everyone else sizes.get(each.pk, 0)
            rows.append(Row(each, len(path), path, count))
            walk(each.pk, (*path, each.name))

    walk(None, ())
    return sorted(rows, key=lambda row: not row.group.is_everyone)


def _sort_key(sort: str, sizes: dict[UUID, int]) -> Any:
    if sort.removeprefix("-") == "members":
        return lambda each: (sizes.get(each.pk, 0), each.name.casefold())
    return lambda each: each.name.casefold()


# --- One group -------------------------------------------------------------------------------


def _group(request: TenantRequest, group_id: UUID) -> Group:
    """A group that people made: the one of everyone is the list of people."""
    found = groups.groups(request.actor).filter(pk=group_id, is_everyone=False).first()
    if found is None:
        raise NotVisible("group")
    return found


def _matching(found: QuerySet[Membership], search: str) -> QuerySet[Membership]:
    for word in search_words(search):
        found = found.filter(Q(user__email__icontains=word) | Q(user__name__icontains=word))
    return found


def _member_rows(shown: Group, members: Iterable[Membership]) -> list[dict[str, Any]]:
    """(member, whether directly, the groups below through which) for a page of members."""
    listed = list(members)
    below = groups.groups_below(shown.pk)
    places = GroupMember.objects.filter(membership__in=listed, group_id__in=below).select_related("group")
    through: dict[UUID, list[Group]] = {}
    for place in places.order_by("group__name"):
        through.setdefault(place.membership_id, []).append(place.group)
    return [
        {
            "member": member,
            "is_direct": any(each.pk == shown.pk for each in through.get(member.pk, ())),
            "through": [each.name for each in through.get(member.pk, ()) if each.pk != shown.pk],
        }
        for member in listed
    ]


def _candidates(request: TenantRequest, shown: Group) -> list[Membership] | None:
    """People to add, by what was typed; None when nothing was."""
    find = request.GET.get("find", "").strip()
    if not find or not request.actor.can(PEOPLE_MANAGE):
        return None
    inside = GroupMember.objects.filter(group=shown).values("membership_id")
    found = people.members(request.actor, find).exclude(pk__in=inside)
    return list(found.defer("user__avatar", "user__password")[:FOUND_MOST])


def _question_about_members(slug: str, shown: Group, chosen: Sequence[Membership]) -> Question:
    count = len(chosen)
    title = ngettext(
        "Take %(count)d person out of “%(group)s”?", "Take %(count)d people out of “%(group)s”?", count
    )
    return Question(
        title=title % {"count": count, "group": shown.name},
        text=_("They lose what was shared with this group and the groups above it, within a second."),
        button=_("Take out"),
        action=reverse("group_members", args=[slug, shown.pk]),
        back=reverse("group", args=[slug, shown.pk]),
        names=[member.user.email for member in chosen],
        hidden=[("action", "remove"), *(("selected", str(member.pk)) for member in chosen)],
    )


def _question_about(shown: Group, action: str, back: str) -> Question:
    count = GroupMember.objects.filter(group=shown).count()
    text = ngettext(
        "%d person loses what was shared with it, within a second. Nobody is removed from the workspace.",
        "%d people lose what was shared with it, within a second. Nobody is removed from the workspace.",
        count,
    )
    title = _("Delete the group “%(name)s”?") % {"name": shown.name}
    return Question(title=title, text=text % count, button=_("Delete"), action=action, back=back)
