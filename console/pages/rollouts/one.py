"""A rollout: how its two sides compare, what was done with it and why, and what can be done with it."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt
from console.pages.models.words import acting
from console.pages.rollouts import words
from console.tenancy import platform_view
from inference.registry.operators import Operator
from inference.rollouts import selectors, services
from inference.rollouts.models import Rollout, State
from inference.rollouts.words import reason_in_words
from tenants.actors import NotVisible


class ReasonForm(PageForm):
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=500, required=False)


class ShareForm(ReasonForm):
    percent = forms.IntegerField(label=gettext_lazy("Of a hundred requests"))
    field_order = ("percent", "reason")


@require_safe
@platform_view
def page(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    rollout = selectors.rollout_by_id(rollout_id)
    title = _("%(candidate)s for %(baseline)s") % _names(rollout)
    terms = {name: words.percent(getattr(rollout, name)) for name in ("alpha", "error_rise", "slow_rise")}
    return render(request, "rollouts/one.html", {"title": title, "terms": terms, **_state(rollout)})


@require_safe
@platform_view
def state(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    """What of the page changes by itself."""
    return render(request, "rollouts/one_state.html", _state(selectors.rollout_by_id(rollout_id)))


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def turn(request: HttpRequest, rollout_id: UUID, action: str) -> HttpResponse:
    if action not in words.TURNS:
        raise NotVisible(action)
    rollout, words_of = selectors.rollout_by_id(rollout_id), words.TURNS[action]
    sent = request.POST if is_confirmed(request) else None
    form = ShareForm(sent, initial={"percent": rollout.percent}) if action == "share" else ReasonForm(sent)
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        done = attempt(form, lambda: _done(acting(request), rollout_id, action, asked))
        if not isinstance(done, Failed):
            messages.success(request, str(words_of.done))
            return redirect("rollout", rollout_id)
    question = Question(
        title=str(words_of.title) % _names(rollout),
        text=str(words_of.text) % _names(rollout),
        button=str(words_of.button),
        action=reverse("rollout_turn", args=[rollout_id, action]),
        back=reverse("rollout", args=[rollout_id]),
        form=form,
        is_danger=words_of.is_danger,
    )
    return ask(request, question, frame=words.FRAME)


def _done(by: Operator, rollout_id: UUID, action: str, asked: dict[str, Any]) -> Rollout:
    if action == "share":
        return services.set_share(by=by, rollout_id=rollout_id, **asked)
    if action == "promote":
        return services.promote(by=by, rollout_id=rollout_id, **asked)
    return services.roll_back(by=by, rollout_id=rollout_id, **asked)


def _names(rollout: Rollout) -> dict[str, str]:
    return {"baseline": rollout.baseline.name, "candidate": rollout.candidate.name}


def _state(rollout: Rollout) -> dict[str, Any]:
    standing = selectors.standing_of(rollout)
    return {
        "rollout": rollout,
        "look": words.STATES[rollout.state],
        "summary": words.summary(rollout),
        "sides": words.sides(rollout, standing),
        "criteria": words.rows(rollout, standing),
        "steps": [
            (step, words.STATES[step.state], reason_in_words(step.reason), words.told(step.figures))
            for step in rollout.steps.order_by("-pk")
        ],
        "turns": [(action, words.TURNS[action]) for action in _possible(rollout)],
    }


def _possible(rollout: Rollout) -> list[str]:
    if rollout.is_open:
        return ["share", "promote", "back"]
    return ["undo"] if rollout.state == State.PROMOTED else []
