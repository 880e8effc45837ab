"""Who may ask, fill and share a base, or read a restricted document: for its owners."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from console.pages.administration.access import (
    LEVELS,
    GrantForm,
    change_level,
    holder_of,
    take_back,
    take_back_question,
)
from console.pages.administration.confirm import ask, is_confirmed
from console.pages.administration.forms import FAILED, attempt, posted, status_of
from console.pages.knowledge import words
from console.tenancy import TenantRequest, tenant_view
from knowledge import access, documents, selectors
from knowledge.models import Base, Document
from tenants import grants
from tenants.access import Actor, Level, NotVisible


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def page(request: TenantRequest, code: str, object_id: UUID) -> HttpResponse:
    """Everything granted on it; POST grants."""
    actor = request.actor
    obj, name = _shared(actor, code, object_id)
    form = GrantForm(*posted(request), initial={"level": Level.VIEWER.value})
    if form.is_bound and form.is_valid():
        wanted = {"obj": obj, "principal": form.cleaned_data["to"], "level": form.cleaned_data["level"]}
        if attempt(form, lambda: grants.set_level(actor=actor, **wanted)) is not FAILED:
            messages.success(request, _("Granted. It counts from now on."))
            return redirect("knowledge_sharing", actor.tenant_slug, code, object_id)
    context = {
        "title": _("Share “%(name)s”") % {"name": name},
        "code": code,
        "object": obj,
        "name": name,
        "base": obj.base if isinstance(obj, Document) else obj,
        "base_name": selectors.one_base(actor, _base_of(obj)).name,
        "grants": grants.grants_of(actor=actor, obj=obj),
        "levels": LEVELS,
        "form": form,
    }
    return render(request, "knowledge/sharing.html", context, status=status_of(form))


@require_POST
@tenant_view()
def change(request: TenantRequest, code: str, object_id: UUID, sort: str, principal_id: UUID) -> HttpResponse:
    """POST level=…: another level for somebody who has one."""
    obj, _name = _shared(request.actor, code, object_id)
    change_level(request, obj, holder_of(request.actor, obj, sort, principal_id))
    return redirect("knowledge_sharing", request.actor.tenant_slug, code, object_id)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def remove(request: TenantRequest, code: str, object_id: UUID, sort: str, principal_id: UUID) -> HttpResponse:
    """Take back what was granted; asks first."""
    actor = request.actor
    obj, name = _shared(actor, code, object_id)
    principal = holder_of(actor, obj, sort, principal_id)
    back = reverse("knowledge_sharing", args=[actor.tenant_slug, code, object_id])
    if not is_confirmed(request):
        return ask(request, take_back_question(name, principal, request.path, back), frame=words.FRAME)
    take_back(request, obj, principal)
    return redirect(back if grants.may_share(actor, obj) else reverse("knowledge", args=[actor.tenant_slug]))


def _shared(actor: Actor, code: str, object_id: UUID) -> tuple[Base | Document, str]:
    """A base or a restricted document that the actor shares, with its name. Raises NotVisible."""
    obj: Base | Document
    if code == "base":
        obj = access.access_base(actor, object_id, access.DELETE)
        name = selectors.one_base(actor, object_id).name
    elif code == "document":
        obj = access.access_document(actor, object_id)
        name = documents.name_of(obj)
    else:
        raise NotVisible(code)
    if not grants.may_share(actor, obj):
        raise NotVisible(code)
    return obj, name


def _base_of(obj: Base | Document) -> UUID:
    return obj.base_id if isinstance(obj, Document) else obj.pk
