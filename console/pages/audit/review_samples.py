"""Sampling plans: what share of the records is looked at without a suspicion, with a preview and what was drawn."""

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

from audit.models import Status
from audit.review import sampling
from audit.review.models import Measure, Per, SamplePlan, Severity, Stratum
from console.pages import labels
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.pages.audit.review import FRAME
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.models import Group
from tenants.roles import REVIEW_MANAGE

RUNS_SHOWN = 30
_FILTERS = ("group", "model_version", "channel", "status")


class PlanForm(PageForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    size = forms.DecimalField(label=gettext_lazy("How many"), max_digits=9, decimal_places=2)
    measure = forms.ChoiceField(label=gettext_lazy("Of"), choices=Measure.choices)
    per = forms.ChoiceField(label=gettext_lazy("Per"), choices=Per.choices, help_text=gettext_lazy("In UTC."))
    stratum = forms.ChoiceField(
        label=gettext_lazy("Drawn from"),
        choices=Stratum.choices,
        required=False,
        help_text=gettext_lazy(
            "Of each person’s or model’s records at least one is drawn, so that none goes unseen."
        ),
    )
    severity = forms.ChoiceField(label=gettext_lazy("Severity of its flags"), choices=Severity.choices)
    group = forms.ChoiceField(label=gettext_lazy("Only people of the group"), required=False)
    model_version = forms.CharField(
        label=gettext_lazy("Only the model version"), max_length=200, required=False
    )
    channel = forms.ChoiceField(label=gettext_lazy("Only the channel"), required=False)
    status = forms.ChoiceField(label=gettext_lazy("Only what ended so"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        found = Group.objects.order_by("name").values_list("pk", "name", "is_everyone")
        groups = [(str(pk), name) for pk, name, is_everyone in found if not is_everyone]
        for field_name, choices in (
            ("group", groups),
            ("channel", list(labels.CHANNELS.items())),
            ("status", list(Status.choices)),
        ):
            field = self.fields[field_name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("Any")), *choices]

    def values(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        filters = {name: values.pop(name) for name in _FILTERS}
        return {**values, "filters": sampling.Filters(**filters)}


@require_safe
@tenant_view(REVIEW_MANAGE)
def page(request: TenantRequest) -> HttpResponse:
    plans = list(sampling.plans(request.actor))
    context = {
        "title": _("Samples"),
        "review_page": "samples",
        "may_manage": True,
        "rows": [(plan, sampling.coverage(request.actor, plan)) for plan in plans],
    }
    return render(request, "audit/review_samples.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_MANAGE)
def create(request: TenantRequest) -> HttpResponse:
    """POST: make the plan; with `preview`: say what it would have picked."""
    initial = {"measure": Measure.PERCENT, "size": 5, "per": Per.DAY, "severity": Severity.LOW}
    form = PlanForm(*posted(request), initial=initial)
    preview = None
    if form.is_bound and form.is_valid():
        if "preview" in request.POST:
            preview = _preview(request, form)
        else:
            made = attempt(form, lambda: sampling.create_plan(actor=request.actor, **form.values()))
            if isinstance(made, SamplePlan):
                messages.success(
                    request, _("The plan was made. It draws for the first time when its period ends.")
                )
                return redirect("review_sample", request.actor.tenant_slug, made.pk)
    return _form_page(request, form, _("New sampling plan"), preview=preview)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_MANAGE)
def edit(request: TenantRequest, plan_id: UUID) -> HttpResponse:
    """A plan with what it drew. POST: change it; with `preview`: say what it would have picked so."""
    plan = sampling.plan_of(request.actor, plan_id)
    lost = ""
    try:
        filters = sampling.filters_of(plan)
    except Refused as error:
        filters, lost = sampling.Filters(), error.message
    names = [name for name in PlanForm.base_fields if name not in _FILTERS]
    initial = {name: getattr(plan, name) for name in names} | {
        name: getattr(filters, name) for name in _FILTERS
    }
    form = PlanForm(*posted(request), initial=initial)
    preview = None
    if form.is_bound and form.is_valid():
        if "preview" in request.POST:
            preview = _preview(request, form)
        else:
            values = form.values()
            changed = attempt(
                form, lambda: sampling.update_plan(actor=request.actor, plan_id=plan_id, **values)
            )
            if changed is not FAILED:
                messages.success(
                    request, _("The plan was changed, for the periods that are drawn from now on.")
                )
                return redirect("review_sample", request.actor.tenant_slug, plan_id)
    return _form_page(request, form, plan.name, plan=plan, preview=preview, lost=lost)


@require_POST
@tenant_view(REVIEW_MANAGE)
def act(request: TenantRequest, plan_id: UUID) -> HttpResponse:
    """POST action=pause, resume, or retire, which asks first."""
    actor, action = request.actor, request.POST.get("action", "")
    plan = sampling.plan_of(actor, plan_id)
    if action == "retire":
        if not is_confirmed(request):
            return _ask_to_retire(request, plan)
        sampling.retire_plan(actor=actor, plan_id=plan_id)
        messages.success(request, _("The plan “%(name)s” was deleted.") % {"name": plan.name})
        return redirect("review_samples", actor.tenant_slug)
    if action == "pause":
        sampling.pause_plan(actor=actor, plan_id=plan_id)
        messages.success(request, _("The plan is paused: no period that ends meanwhile is drawn."))
    elif action == "resume":
        sampling.resume_plan(actor=actor, plan_id=plan_id)
        messages.success(request, _("The plan draws again."))
    else:
        raise NotVisible("action")
    return redirect("review_sample", actor.tenant_slug, plan_id)


def _preview(request: TenantRequest, form: PlanForm) -> sampling.Preview | None:
    found = attempt(form, lambda: sampling.preview(request.actor, **form.values()))
    return found if isinstance(found, sampling.Preview) else None


def _ask_to_retire(request: TenantRequest, plan: SamplePlan) -> HttpResponse:
    slug = request.actor.tenant_slug
    question = Question(
        title=_("Delete the plan “%(name)s”?") % {"name": plan.name},
        text=_(
            "It draws no more. What it drew stays under review, and can still be drawn again to check it."
        ),
        button=_("Delete"),
        action=reverse("review_sample_act", args=[slug, plan.pk]),
        back=reverse("review_sample", args=[slug, plan.pk]),
        hidden=[("action", "retire")],
    )
    return ask(request, question, frame=FRAME)


def _form_page(
    request: TenantRequest,
    form: PlanForm,
    title: str,
    *,
    plan: SamplePlan | None = None,
    preview: sampling.Preview | None = None,
    lost: str = "",
) -> HttpResponse:
    actor = request.actor
    context = {
        "title": title,
        "review_page": "samples",
        "may_manage": True,
        "form": form,
        "plan": plan,
        "preview": preview,
        "lost": lost,
        "coverage": sampling.coverage(actor, plan) if plan else None,
        "runs": list(sampling.runs_of(actor, plan)[:RUNS_SHOWN]) if plan else [],
        "back": reverse("review_samples", args=[actor.tenant_slug]),
    }
    return render(request, "audit/review_sample.html", context, status=status_of(form))
