"""A new rollout: which deployment may replace which, how it begins, and what would be too much."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.models.words import acting
from console.tenancy import platform_view
from inference.deployments.selectors import Standing, standings
from inference.registry.models import ModelVersion
from inference.rollouts import services
from inference.rollouts.models import Rollout

SHADOW, SHARE = "shadow", "share"
SHARES = ("error_rise", "slow_rise", "alpha")  # Typed as percentages.


class NewForm(PageForm):
    baseline_id = forms.ChoiceField(
        label=gettext_lazy("Baseline"), help_text=gettext_lazy("The deployment that answers now.")
    )
    candidate_id = forms.ChoiceField(
        label=gettext_lazy("Candidate"),
        help_text=gettext_lazy("The one that may take its place. It has to be ready."),
    )
    mode = forms.ChoiceField(
        label=gettext_lazy("Begin"),
        widget=forms.RadioSelect,
        initial=SHADOW,
        choices=[
            (SHADOW, gettext_lazy("In the shadow: it gets copies, and nobody is shown its answers")),
            (SHARE, gettext_lazy("With a share: it answers some conversations and programs")),
        ],
    )
    percent = forms.IntegerField(
        label=gettext_lazy("Of a hundred requests"),
        initial=10,
        help_text=gettext_lazy("Who is chosen stays chosen, for the whole conversation."),
    )
    error_rise = forms.FloatField(
        label=gettext_lazy("More failures, at most, in %"),
        initial=5,
        help_text=gettext_lazy(
            "It is rolled back once more of its requests fail than of the baseline’s and this."
        ),
    )
    slow_rise = forms.FloatField(
        label=gettext_lazy("More slow answers, at most, in %"),
        initial=15,
        help_text=gettext_lazy(
            "The same for slow beginnings and slow tokens. Slow is what is half as slow again as nine of ten of the "
            "baseline’s first answers."
        ),
    )
    alpha = forms.FloatField(
        label=gettext_lazy("Chance of a wrong decision, at most, in %"),
        initial=5,
        help_text=gettext_lazy("However often the two are compared meanwhile. Less takes more requests."),
    )
    least = forms.IntegerField(
        label=gettext_lazy("Requests before a promotion"),
        initial=200,
        help_text=gettext_lazy("As many the candidate must have answered at least."),
    )
    longest_hours = forms.IntegerField(
        label=gettext_lazy("Hours, at most"),
        initial=72,
        help_text=gettext_lazy("What is not decided by then ends, and the baseline stays."),
    )
    promotes_itself = forms.BooleanField(
        label=gettext_lazy("Promote it without asking"),
        required=False,
        help_text=gettext_lazy(
            "Once it is shown to be no worse in all three. Its version must be in production."
        ),
    )
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=500, required=False)

    def __init__(self, *args: Any, deployments: list[Standing], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [
            (str(each.deployment.pk), f"{each.deployment.name} · {each.deployment.version}")
            for each in deployments
        ]
        for name in ("baseline_id", "candidate_id"):
            self.fields[name].choices = [("", _("Choose one")), *choices]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """What a share may be is said as it was typed."""
        for name in SHARES:
            least, most = (100 * bound for bound in services.BOUNDS[name])
            if name in self.cleaned_data and not least <= self.cleaned_data[name] <= most:
                message = _("Write a number from %(least)s to %(most)s.")
                self.add_error(name, message % {"least": f"{least:g}", "most": f"{most:g}"})
        return self.cleaned_data


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def begin(request: HttpRequest) -> HttpResponse:
    """?baseline=…&candidate=…: what is chosen at first."""
    deployments = [each for each in standings() if each.deployment.version.kind == ModelVersion.Kind.TEXT]
    initial = {f"{name}_id": request.GET.get(name, "") for name in ("baseline", "candidate")}
    form = NewForm(*posted(request), deployments=deployments, initial=initial)
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: _begun(request, form.cleaned_data))
        if not isinstance(made, Failed):
            messages.success(request, _("The rollout has begun."))
            return redirect("rollout", made.pk)
    context = {"title": _("Begin a rollout"), "form": form, "has_two": len(deployments) > 1}
    return render(request, "rollouts/new.html", context, status=status_of(form))


def _begun(request: HttpRequest, asked: dict[str, Any]) -> Rollout:
    shares = {name: asked[name] / 100 for name in SHARES}
    others = {name: asked[name] for name in ("least", "longest_hours", "promotes_itself")}
    return services.begin(
        by=acting(request),
        baseline_id=UUID(asked["baseline_id"]),
        candidate_id=UUID(asked["candidate_id"]),
        in_shadow=asked["mode"] == SHADOW,
        percent=asked["percent"],
        reason=asked["reason"],
        **shares,
        **others,
    )
