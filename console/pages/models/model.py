"""A model: what is said about it, and its versions."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import selectors, versions


class ModelForm(PageForm):
    title = forms.CharField(label=gettext_lazy("Title"), max_length=100)
    licence = forms.CharField(label=gettext_lazy("Licence"), max_length=100, required=False)
    description = forms.CharField(
        label=gettext_lazy("Description"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "input mono"}),
        help_text=gettext_lazy("In Markdown."),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def page(request: HttpRequest, model_id: UUID) -> HttpResponse:
    model = selectors.model_by_id(model_id)
    said = {"title": model.title, "licence": model.licence, "description": model.description}
    form = ModelForm(*posted(request), initial=said)
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        done = attempt(form, lambda: versions.describe(by=words.acting(request), model_id=model_id, **asked))
        if not isinstance(done, Failed):
            messages.success(request, _("Saved."))
            return redirect("model", model_id)
    found = selectors.versions().filter(model=model).order_by("-number")
    context = {
        "title": model.title,
        "model": model,
        "form": form,
        "rows": [(row, words.STAGES[row.stage]) for row in found],
    }
    return render(request, "models/model.html", context, status=status_of(form))
