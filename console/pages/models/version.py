"""A version: its facts, files, card and figures, where it is used, and its way through the stages."""

from typing import NamedTuple
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt
from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import selectors, stages, versions
from inference.registry.models import ModelVersion, Stage
from tenants.actors import NotVisible


class ReasonForm(PageForm):
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=500)


class DeriveForm(PageForm):
    precision = forms.ChoiceField(label=gettext_lazy("Precision"), choices=words.PRECISIONS)


class Turn(NamedTuple):
    """A step to another stage. The words have a place for the version's %(name)s."""

    title: str | Promise
    text: str | Promise
    button: str | Promise
    is_danger: bool = False


TURNS: dict[str, Turn] = {
    Stage.STAGED: Turn(
        gettext_lazy("Stage %(name)s?"),
        gettext_lazy("It can be deployed and tried, before it is for everyone."),
        gettext_lazy("Stage"),
    ),
    Stage.PRODUCTION: Turn(
        gettext_lazy("Bring %(name)s into production?"),
        gettext_lazy("It is for everyone from then on. What is deployed stays deployed."),
        gettext_lazy("Into production"),
    ),
    Stage.ARCHIVED: Turn(
        gettext_lazy("Archive %(name)s?"),
        gettext_lazy(
            "Nobody can deploy it. What the audit says about its answers stays; it can come back as a draft."
        ),
        gettext_lazy("Archive"),
        is_danger=True,
    ),
    Stage.DRAFT: Turn(
        gettext_lazy("Make %(name)s a draft again?"),
        gettext_lazy("It has to be staged before it can be deployed."),
        gettext_lazy("Back to draft"),
    ),
    "approve": Turn(
        gettext_lazy("Approve %(name)s for production?"),
        gettext_lazy("Another person asked for it. It is for everyone from then on."),
        gettext_lazy("Approve"),
    ),
    "decline": Turn(
        gettext_lazy("Decline production for %(name)s?"),
        gettext_lazy("It stays in the stage where it is, and production can be asked for again."),
        gettext_lazy("Decline"),
        is_danger=True,
    ),
}


@require_safe
@platform_view
def page(request: HttpRequest, version_id: UUID) -> HttpResponse:
    return _page(request, selectors.version_by_id(version_id))


@require_POST
@platform_view
def derive(request: HttpRequest, version_id: UUID) -> HttpResponse:
    """A further version of the same files, in another precision."""
    form = DeriveForm(request.POST)
    if form.is_valid():
        asked = form.cleaned_data
        made = attempt(
            form, lambda: versions.derive(by=words.acting(request), version_id=version_id, **asked)
        )
        if not isinstance(made, Failed):
            messages.success(request, _("%(version)s is registered as a draft.") % {"version": made})
            return redirect("model_version", made.pk)
    return _page(request, selectors.version_by_id(version_id), form, status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def turn(request: HttpRequest, version_id: UUID, action: str) -> HttpResponse:
    """To another stage, or an answer to who asked for one: after a question, with a reason."""
    if action not in TURNS:
        raise NotVisible(action)
    version, words_of, by = selectors.version_by_id(version_id), TURNS[action], words.acting(request)
    form = ReasonForm(request.POST if is_confirmed(request) else None)
    if form.is_bound and form.is_valid():
        asked = {"by": by, "version_id": version_id, "reason": form.cleaned_data["reason"]}
        services = {"approve": stages.approve, "decline": stages.decline}
        done = attempt(
            form,
            lambda: services[action](**asked) if action in services else stages.move(stage=action, **asked),
        )
        if not isinstance(done, Failed):
            said = _("Another platform administrator has to approve it.") if done.is_proposal else _("Done.")
            messages.success(request, said)
            return redirect("model_version", version_id)
    question = Question(
        title=str(words_of.title) % {"name": version},
        text=str(words_of.text),
        button=str(words_of.button),
        action=reverse("model_version_turn", args=[version_id, action]),
        back=reverse("model_version", args=[version_id]),
        form=form,
        is_danger=words_of.is_danger,
    )
    return ask(request, question, frame=words.FRAME)


def _page(
    request: HttpRequest, version: ModelVersion, form: DeriveForm | None = None, *, status: int = 200
) -> HttpResponse:
    stage, pending = selectors.stage_of(version), selectors.pending_of(version)
    if pending is None:
        turns = [(str(action), TURNS[action]) for action in stages.NEXT[stage]]
    else:
        is_own = pending.by_id == words.acting(request).user_id
        turns = [
            (action, TURNS[action])
            for action in ("approve", "decline")
            if not (is_own and action == "approve")
        ]
    figures = selectors.figures_of(version)
    siblings = selectors.versions().filter(model=version.model).exclude(pk=version.pk).order_by("-number")
    context = {
        "title": str(version),
        "version": version,
        "look": words.STAGES[stage],
        "pending": pending,
        "deployable": stage in (Stage.STAGED, Stage.PRODUCTION) and version.kind == ModelVersion.Kind.TEXT,
        "turns": turns,
        "wants_two": settings.MODELS_FOUR_EYES,
        "facts": words.facts(version),
        "history": [
            (row, words.STAGES[row.stage]) for row in version.stage_changes.order_by("-number")[:100]
        ],
        "figures": [(words.metric_label(name), words.measured(row), row) for name, row in figures.items()],
        "uses": selectors.uses_of(version),
        "siblings": siblings,
        "children": version.children.select_related("model").order_by("number"),
        "derive_form": form or DeriveForm(),
    }
    return render(request, "models/version.html", context, status=status)
