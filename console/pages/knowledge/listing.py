"""All bases that the asker may ask; making one."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console.pages.administration.forms import PageForm, attempt, posted, status_of
from console.pages.listing import Column, Listing, csv_response
from console.tenancy import TenantRequest, tenant_view
from knowledge import bases, selectors
from knowledge.models import Base
from knowledge.selectors import ListedBase
from tenants.access import Actor, NotVisible
from tenants.roles import CHAT_USE, KNOWLEDGE_CURATE
from tenants.words import search_words

# They are sorted here: the database cannot read the names.
COLUMNS = (
    Column("name", gettext_lazy("Name"), ("pk",)),
    Column("documents", gettext_lazy("Documents"), ("pk",), number=True),
    Column("state", gettext_lazy("State")),
    Column("owner", gettext_lazy("Owner"), ("pk",)),
    Column("updated", gettext_lazy("Changed"), ("pk",)),
)
_KEYS: dict[str, Any] = {
    "name": lambda row: row.name.casefold(),
    "documents": lambda row: row.documents,
    "owner": lambda row: row.base.owner.email,
    "updated": lambda row: row.base.updated,
}


class BaseForm(PageForm):
    """What a base is called, and how its passages are found."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=500,
        required=False,
        help_text=gettext_lazy("What is in it, and for which questions."),
    )
    embedding_model = forms.ChoiceField(
        label=gettext_lazy("Found by"),
        required=False,
        help_text=gettext_lazy(
            "Words are always searched. With an embedding model, passages that say it in other words are found too."
        ),
    )

    def __init__(self, *args: Any, actor: Actor, now: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = bases.embedding_models(actor)
        names = [*offered, *([now] if now and now not in offered else [])]
        models = [(name, _("words and the model %(name)s") % {"name": name}) for name in names]
        self.fields["embedding_model"].choices = [("", _("words alone")), *models]  # type: ignore[attr-defined]


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    if not (actor.can(CHAT_USE) or actor.can(KNOWLEDGE_CURATE)):
        raise NotVisible("knowledge")
    sort = request.GET.get("sort", "")
    rows = selectors.bases_of(actor, search_words(request.GET.get("q", "")))
    if (key := _KEYS.get(sort.removeprefix("-"))) is not None:
        rows.sort(key=key, reverse=sort.startswith("-"))
    listing = Listing(request, rows, COLUMNS)
    if request.GET.get("format") == "csv":
        return _csv(rows)
    context = {
        "title": _("Knowledge"),
        "listing": listing,
        "may_make": actor.can(KNOWLEDGE_CURATE) and actor.user_id is not None,
    }
    return render(request, "knowledge/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(KNOWLEDGE_CURATE)
def create(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    offered = bases.embedding_models(actor)
    form = BaseForm(*posted(request), actor=actor, initial={"embedding_model": offered[0] if offered else ""})
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: bases.make_base(actor=actor, **form.cleaned_data))
        if isinstance(made, Base):
            messages.success(request, _("The base is made. Bring its documents."))
            return redirect("knowledge_base", actor.tenant_slug, made.pk)
    context = {"title": _("New knowledge base"), "form": form}
    return render(request, "knowledge/new.html", context, status=status_of(form))


def _csv(rows: list[ListedBase]) -> HttpResponse:
    heading = [_("Name"), _("Description"), _("Documents"), _("Ready"), _("Failed"), _("Owner"), _("Changed")]
    cells = [
        [
            row.name,
            row.description,
            row.documents,
            row.ready,
            row.failed,
            row.base.owner.email,
            row.base.updated.isoformat(),
        ]
        for row in rows
    ]
    return csv_response("knowledge", heading, cells)
