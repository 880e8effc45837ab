"""Roles: what each allows, and the tenant's own ones."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.tenancy import TenantRequest, tenant_view
from tenants import custom_roles
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.models import CustomRole, Membership, ServiceAccount
from tenants.roles import ADMINISTRATION_VIEW, CATALOGUE, ROLES_MANAGE, Duty

DUTY_LABELS = {
    Duty.NONE: "",
    Duty.ADMINISTER: gettext_lazy("duty: administering"),
    Duty.REVIEW: gettext_lazy("duty: reading content"),
}


class CustomRoleForm(PageForm):
    """A role of the tenant's own. Its short name is chosen once."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    slug = forms.CharField(
        label=gettext_lazy("Short name"),
        max_length=50,
        help_text=gettext_lazy("For files and programs, such as credit-analyst. It cannot be changed later."),
        error_messages={"required": gettext_lazy("Enter a short name.")},
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    permissions = forms.MultipleChoiceField(
        label=gettext_lazy("Permissions"),
        required=False,  # The service says what is missing.
        widget=forms.CheckboxSelectMultiple,
        choices=[(permission.code, permission.label) for permission in CATALOGUE],
    )

    def __init__(self, *args: Any, is_new: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["slug"]


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    """Every role against every permission."""
    _require_seeing(request.actor)
    found = custom_roles.roles()
    own = {role.slug: role for role in CustomRole.objects.all()}
    holders = _holders()
    columns = [
        {"code": code, "name": name, "own": own.get(code), "holders": holders.get(code, 0)}
        for code, name, _permissions in found
    ]
    context = {
        "title": _("Roles"),
        "columns": columns,
        "areas": _matrix([permissions for _code, _name, permissions in found]),
        "own": [column for column in columns if column["own"]],
        "may_manage": request.actor.can(ROLES_MANAGE),
    }
    return render(request, "administration/roles.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(ROLES_MANAGE)
def create(request: TenantRequest) -> HttpResponse:
    form = CustomRoleForm(*posted(request), is_new=True)
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: custom_roles.create_role(actor=request.actor, **form.cleaned_data))
        if isinstance(made, CustomRole):
            messages.success(request, _("The role “%(name)s” can be given now.") % {"name": made.name})
            return redirect("roles", request.actor.tenant_slug)
    return _form_page(request, form, _("New role"))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(ROLES_MANAGE)
def edit(request: TenantRequest, role_id: UUID) -> HttpResponse:
    role = _role(role_id)
    initial = {"name": role.name, "description": role.description, "permissions": role.permissions}
    form = CustomRoleForm(*posted(request), is_new=False, initial=initial)
    if form.is_bound and form.is_valid():
        changes = {"role_id": role.pk, **form.cleaned_data}
        if attempt(form, lambda: custom_roles.update_role(actor=request.actor, **changes)) is not FAILED:
            messages.success(request, _("The role was changed. It counts from now on."))
            return redirect("roles", request.actor.tenant_slug)
    return _form_page(request, form, role.name, role)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(ROLES_MANAGE)
def delete(request: TenantRequest, role_id: UUID) -> HttpResponse:
    role, slug = _role(role_id), request.actor.tenant_slug
    if not is_confirmed(request):
        question = Question(
            title=_("Delete the role “%(name)s”?") % {"name": role.name},
            text=_("It can be given no more. This is refused while anybody has it."),
            button=_("Delete"),
            action=reverse("role_delete", args=[slug, role.pk]),
            back=reverse("role", args=[slug, role.pk]),
        )
        return ask(request, question)
    try:
        custom_roles.delete_role(actor=request.actor, role_id=role.pk)
    except Refused as error:
        messages.error(request, error.message)
        return redirect("role", slug, role.pk)
    messages.success(request, _("The role “%(name)s” was deleted.") % {"name": role.name})
    return redirect("roles", slug)


def _require_seeing(actor: Actor) -> None:
    if not (actor.can(ADMINISTRATION_VIEW) or actor.can(ROLES_MANAGE)):
        raise NotVisible(ADMINISTRATION_VIEW)


def _role(role_id: UUID) -> CustomRole:
    role = CustomRole.objects.filter(pk=role_id).first()
    if role is None:
        raise NotVisible("role")
    return role


def _holders() -> dict[str, int]:
    """How many people and programs have each role, by code."""
    found: dict[str, int] = {}
    for model in (Membership, ServiceAccount):
        for code, count in model.objects.values_list("role").annotate(Count("pk")).order_by():
            found[code] = found.get(code, 0) + count
    return found


def _matrix(held: list[frozenset[str]]) -> list[tuple[Any, list[tuple[Any, Any, list[bool]]]]]:
    """(area, [(label, duty, whether each role holds it)])."""
    areas: dict[Any, list[tuple[Any, Any, list[bool]]]] = {}
    for permission in CATALOGUE:
        marks = [permission.code in permissions for permissions in held]
        areas.setdefault(permission.area, []).append((permission.label, DUTY_LABELS[permission.duty], marks))
    return list(areas.items())


def _form_page(
    request: TenantRequest, form: CustomRoleForm, title: str, role: CustomRole | None = None
) -> HttpResponse:
    ticked = form["permissions"].value() or []
    context = {
        "title": title,
        "form": form,
        "role": role,
        "areas": _choices(ticked),
        "holders": _holders().get(role.slug, 0) if role else 0,
    }
    return render(request, "administration/role.html", context, status=status_of(form))


def _choices(ticked: Collection[str]) -> list[tuple[Any, list[dict[str, Any]]]]:
    """The catalogue as boxes to tick, by area."""
    areas: dict[Any, list[dict[str, Any]]] = {}
    for permission in CATALOGUE:
        box = {
            "code": permission.code,
            "label": permission.label,
            "duty": permission.duty if permission.duty != Duty.NONE else "",
            "duty_label": DUTY_LABELS[permission.duty],
            "is_ticked": permission.code in ticked,
        }
        areas.setdefault(permission.area, []).append(box)
    return list(areas.items())
