"""The test bench of a base: a question, what every stage finds for it, and the settings that decide."""

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.tenancy import TenantRequest, tenant_view
from knowledge import access, asking, bases, selectors
from knowledge.retrieval.options import Options, options_of

_MOST_CHARACTERS = 2000


class BenchForm(PageForm):
    """A question, and the settings to try it with. Sent in the body: questions do not belong in logs of addresses."""

    question = forms.CharField(
        label=gettext_lazy("Question"),
        max_length=_MOST_CHARACTERS,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    passages = forms.IntegerField(
        label=gettext_lazy("Passages of an answer, at most"), min_value=1, max_value=20
    )
    meaning = forms.FloatField(
        label=gettext_lazy("Weight of meaning"),
        min_value=0,
        max_value=1,
        help_text=gettext_lazy(
            "From 0 (words alone) to 1 (vectors alone). Without an embedding model it does nothing."
        ),
        widget=forms.NumberInput(attrs={"step": "0.05"}),
    )
    enough = forms.FloatField(
        label=gettext_lazy("Confidence needed"),
        min_value=0,
        max_value=1,
        help_text=gettext_lazy(
            "Below it the answer is that the documents do not have it. From 0 (never) to 1."
        ),
        widget=forms.NumberInput(attrs={"step": "0.05"}),
    )

    @property
    def options(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("passages", "meaning", "enough")}


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def page(request: TenantRequest, base_id: UUID) -> HttpResponse:
    """Whoever fills the base may try it; whoever owns it may keep the settings."""
    actor = request.actor
    listed = selectors.one_base(actor, base_id, access.CHANGE)
    may_own = selectors.may(actor, listed.base, access.DELETE)
    form = BenchForm(*posted(request), initial=options_of(listed.base.options).model_dump())
    found = None
    if form.is_bound and form.is_valid():
        if "keep" in request.POST:
            kept = attempt(
                form, lambda: bases.change_base(actor=actor, base_id=base_id, options=form.options)
            )
            if kept is not FAILED:
                messages.success(request, _("The settings were kept. They hold for the next question."))
                return redirect("knowledge_bench", actor.tenant_slug, base_id)
        elif question := form.cleaned_data["question"].strip():
            found = async_to_sync(asking.aask)(actor, [base_id], question, options=Options(**form.options))
        else:
            form.add_error("question", _("Write a question first."))
    context = {
        "title": _("Test bench"),
        "listed": listed,
        "form": form,
        "found": found,
        "may_own": may_own,
    }
    return render(request, "knowledge/bench.html", context, status=status_of(form))
