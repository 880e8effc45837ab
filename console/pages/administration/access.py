"""Who was granted what on which object, and why somebody can or cannot see one. Names of objects, never content."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.tenancy import TenantRequest, tenant_view
from tenants import grants
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.explain import explain
from tenants.grants import Principal
from tenants.keys import keys
from tenants.kinds import Kind, Level, granted_kinds
from tenants.models import ApiKey, Group, Membership, TenantModel, User
from tenants.roles import ADMINISTRATION_VIEW, GRANTS_MANAGE, KEYS_MANAGE

COLUMNS_MOST = 24
LEVELS = [(level.value, level.label) for level in Level]


class GrantForm(PageForm):
    """A level for a group, or for a person by address."""

    is_either_or = True

    group = forms.ChoiceField(label=gettext_lazy("Group"), required=False)
    principal = forms.EmailField(
        label=gettext_lazy("Or a person, by e-mail address"),
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "list": "people-found"}),
        error_messages={
            "invalid": gettext_lazy("Enter a whole e-mail address, such as name@company.example.")
        },
    )
    level = forms.ChoiceField(label=gettext_lazy("May be"), choices=LEVELS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        found = Group.objects.order_by("-is_everyone", "name").values_list("pk", "name", "is_everyone")
        offered = [(str(pk), _("Everyone") if is_everyone else name) for pk, name, is_everyone in found]
        self.fields["group"].choices = [("", _("Choose…")), *offered]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Adds `to`: the user or the group."""
        values = super().clean() or {}
        if self.errors:
            return values
        if bool(values["group"]) == bool(values["principal"]):
            self.add_error("group", _("Choose a group or enter a person's address: one of the two."))
        elif values["group"]:
            values["to"] = Group.objects.get(pk=values["group"])
        elif (user := member_of_address(values["principal"])) is None:
            self.add_error("principal", _("No member of this workspace has this address."))
        else:
            values["to"] = user
        return values


class WhyForm(PageForm):
    """About whom, or which key, and what they would do with the object."""

    is_either_or = True

    person = forms.EmailField(
        label=gettext_lazy("E-mail address of the person"),
        required=False,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "list": "people-found"}),
        error_messages={
            "invalid": gettext_lazy("Enter a whole e-mail address, such as name@company.example.")
        },
    )
    key = forms.ChoiceField(label=gettext_lazy("Or an API key"), required=False)
    level = forms.ChoiceField(
        label=gettext_lazy("To do what"),
        choices=[
            (Level.VIEWER.value, gettext_lazy("See or use it")),
            (Level.EDITOR.value, gettext_lazy("Change it")),
            (Level.OWNER.value, gettext_lazy("Share or delete it")),
        ],
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if actor.can(KEYS_MANAGE) or actor.can(ADMINISTRATION_VIEW):
            found = keys(actor).filter(revoked=None).values_list("pk", "name")
            self.fields["key"].choices = [("", "–"), *((str(pk), name) for pk, name in found)]  # type: ignore[attr-defined]
        else:
            del self.fields["key"]

    def clean(self) -> dict[str, Any]:
        """Adds `subject`: the user or the key."""
        values = super().clean() or {}
        if self.errors:
            return values
        if bool(values["person"]) == bool(values.get("key")):
            self.add_error("person", _("Enter an address or choose a key: one of the two."))
        elif values.get("key"):
            values["subject"] = ApiKey.objects.select_related("user", "service_account").get(pk=values["key"])
        elif (user := member_of_address(values["person"])) is None:
            self.add_error("person", _("No member of this workspace has this address."))
        else:
            values["subject"] = user
        return values


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    """A page of the objects of one kind against those to whom something was granted."""
    actor, kinds = request.actor, kinds_for(request.actor)
    if not kinds:
        raise NotVisible("access")
    kind = next((each for each in kinds if each.code == request.GET.get("kind")), kinds[0])
    search = request.GET.get("q", "").strip()
    found = grants.matrix(actor=actor, kind=kind, search=search, page=_page_number(request))
    columns = found.principals[:COLUMNS_MOST]
    context = {
        "title": _("Access"),
        "kinds": kinds,
        "kind": kind,
        "matrix": found,
        "columns": columns,
        "hidden_columns": len(found.principals) - len(columns),
        "rows": [(row, [row.levels.get(column.id) for column in columns]) for row in found.rows],
        "search": search,
    }
    return render(request, "administration/access.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def one(request: TenantRequest, code: str, object_id: UUID) -> HttpResponse:
    """Everything granted on an object, and why somebody may or may not; POST grants."""
    actor = request.actor
    kind, obj = _object(actor, code, object_id)
    may_share = grants.may_share(actor, obj)
    form = GrantForm(*posted(request), initial={"level": Level.VIEWER.value})
    if request.method == "POST":
        if not may_share:
            raise NotVisible(code)
        if form.is_valid():
            wanted = {"obj": obj, "principal": form.cleaned_data["to"], "level": form.cleaned_data["level"]}
            if attempt(form, lambda: grants.set_level(actor=actor, **wanted)) is not FAILED:
                messages.success(request, _("Granted. It counts from now on."))
                return redirect("access_object", actor.tenant_slug, code, object_id)
    asked = any(request.GET.get(name) for name in ("person", "key"))
    why = WhyForm(request.GET if asked else None, actor=actor)
    context = {
        "title": kind.describe(obj),
        "kind": kind,
        "object": obj,
        "grants": grants.grants_of(actor=actor, obj=obj),
        "levels": LEVELS,
        "may_share": may_share,
        "form": form,
        "why": why,
        "explanation": _explanation(actor, kind, obj, why),
    }
    status = max(status_of(form), status_of(why))
    return render(request, "administration/access_object.html", context, status=status)


@require_POST
@tenant_view()
def change(request: TenantRequest, code: str, object_id: UUID, sort: str, principal_id: UUID) -> HttpResponse:
    """POST level=…: another level for somebody who has one."""
    _kind, obj = _object(request.actor, code, object_id)
    change_level(request, obj, holder_of(request.actor, obj, sort, principal_id))
    return redirect("access_object", request.actor.tenant_slug, code, object_id)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def remove(request: TenantRequest, code: str, object_id: UUID, sort: str, principal_id: UUID) -> HttpResponse:
    """Take back what was granted; asks first."""
    actor = request.actor
    kind, obj = _object(actor, code, object_id)
    principal = holder_of(actor, obj, sort, principal_id)
    if not grants.may_share(actor, obj):
        raise NotVisible(code)
    back = reverse("access_object", args=[actor.tenant_slug, code, object_id])
    if not is_confirmed(request):
        return ask(request, take_back_question(kind.describe(obj), principal, request.path, back))
    take_back(request, obj, principal)
    return redirect(back)


# --- Of every page on which grants are changed ----------------------------------------------------------


def holder_of(actor: Actor, obj: TenantModel, sort: str, principal_id: UUID) -> User | Group:
    """Somebody who has a grant on the object. Raises NotVisible."""
    held: list[Principal] = [grant.principal for grant in grants.grants_of(actor=actor, obj=obj)]
    if not any(each.id == principal_id and (each.sort == "person") == (sort == "person") for each in held):
        raise NotVisible("grant")
    model: Any = User if sort == "person" else Group
    return model.objects.get(pk=principal_id)


def change_level(request: TenantRequest, obj: TenantModel, principal: User | Group) -> None:
    """Another level, the one that was posted, and a message that says so or why not."""
    try:
        level = request.POST.get("level", "")
        grants.set_level(actor=request.actor, obj=obj, principal=principal, level=level)
    except Refused as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _("The level was changed. It counts from now on."))


def take_back(request: TenantRequest, obj: TenantModel, principal: User | Group) -> None:
    """As `change_level`, for no level at all."""
    try:
        grants.remove(actor=request.actor, obj=obj, principal=principal)
    except Refused as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _("Taken back. What depended on it has ended."))


def take_back_question(described: str, principal: User | Group, action: str, back: str) -> Question:
    if isinstance(principal, User):
        name = principal.email
    else:
        name = _("Everyone") if principal.is_everyone else principal.name
    title = _("Take “%(object)s” back from %(name)s?") % {"object": described, "name": name}
    text = _(
        "What they have open on the strength of it ends within a second. They may still have it another way."
    )
    return Question(title=title, text=text, button=_("Take back"), action=action, back=back)


def kinds_for(actor: Actor) -> list[Kind]:
    """The kinds whose grants the actor may see as a whole; those without content first."""
    sees_all = actor.can(GRANTS_MANAGE) or actor.can(ADMINISTRATION_VIEW)
    found = [kind for kind in granted_kinds() if sees_all or kind.managed_by & actor.permissions]
    return sorted(found, key=lambda kind: kind.holds_content)


def member_of_address(email: str) -> User | None:
    members: Sequence[Membership] = Membership.objects.select_related("user").filter(
        user__email=email.lower()
    )[:1]
    return members[0].user if members else None


def _page_number(request: TenantRequest) -> int:
    text = request.GET.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def _object(actor: Actor, code: str, object_id: UUID) -> tuple[Kind, TenantModel]:
    """An object of a kind that the actor sees as a whole."""
    kind = next((each for each in kinds_for(actor) if each.code == code), None)
    if kind is None:
        raise NotVisible(code)
    obj = kind.model._default_manager.select_related(*kind.related).filter(pk=object_id).first()
    if obj is None:
        raise NotVisible(code)
    return kind, obj


def _explanation(actor: Actor, kind: Kind, obj: TenantModel, form: WhyForm) -> Any:
    if not (form.is_bound and form.is_valid()):
        return None
    permission = kind.permission(Level(form.cleaned_data["level"]))
    return explain(actor=actor, obj=obj, subject=form.cleaned_data["subject"], permission=permission)
