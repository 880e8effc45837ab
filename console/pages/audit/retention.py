"""Retention: for how long records are kept, what goes when, what went; erasures and the release of holds."""

import json
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit.cases.models import Case
from audit.models import AuditRecord
from audit.record import Keeping
from audit.retention import calendar, deeds, erasure, holds, policies, schedule
from audit.retention.models import Deed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.labels import State
from console.tenancy import TenantRequest, tenant_view
from tenants.models import Membership
from tenants.roles import AUDIT_LIST, RETENTION_MANAGE

KEEPINGS = {
    Keeping.REQUESTS: gettext_lazy("Requests and answers"),
    Keeping.CHANGES: gettext_lazy("Changes"),
    Keeping.READINGS: gettext_lazy("Readings"),
}
STATES = {
    deeds.State.ASKED: State("warn", "s-time", gettext_lazy("Waits for somebody else")),
    deeds.State.APPROVED: State("busy", "s-time", gettext_lazy("Approved, done after a day")),
    deeds.State.REFUSED: State("", "s-no", gettext_lazy("Refused")),
    deeds.State.WITHDRAWN: State("", "s-off", gettext_lazy("Called off")),
    deeds.State.DONE: State("ok", "s-ok", gettext_lazy("Done")),
}


def reason_field(label: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        widget=forms.Textarea(attrs={"rows": 2, "maxlength": policies.REASON_LENGTH}),
        error_messages={"required": gettext_lazy("State a reason. It is kept with the record of this.")},
    )


class PolicyForm(PageForm):
    keeping = forms.ChoiceField(label=gettext_lazy("Which records"), choices=list(KEEPINGS.items()))
    days = forms.IntegerField(
        label=gettext_lazy("Days"),
        min_value=policies.BOUNDS.start,
        max_value=policies.BOUNDS.stop - 1,
        widget=forms.NumberInput(attrs={"inputmode": "numeric"}),
        help_text=gettext_lazy(
            "Longer counts at once, shorter a day later: until then it can be taken back."
        ),
    )
    reason = reason_field(gettext_lazy("Reason"))


class ErasureForm(PageForm):
    person = forms.CharField(
        label=gettext_lazy("Person"),
        max_length=320,
        help_text=gettext_lazy("E-mail address of a member, or the id that records name."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    basis = forms.ChoiceField(label=gettext_lazy("Legal basis"), choices=Deed.Basis)
    metadata = forms.ChoiceField(
        label=gettext_lazy("Facts beside the content"), choices=Deed.Metadata, widget=forms.RadioSelect
    )
    reason = reason_field(gettext_lazy("Reason"))


class DecisionForm(PageForm):
    reason = reason_field(gettext_lazy("Reason"))


@require_safe
@tenant_view(AUDIT_LIST)
def page(request: TenantRequest) -> HttpResponse:
    return _page(request, PolicyForm())


@require_POST
@tenant_view(RETENTION_MANAGE)
def set_policy(request: TenantRequest) -> HttpResponse:
    """POST keeping=…&days=…&reason=…"""
    form = PolicyForm(*posted(request))
    if form.is_valid():
        made = attempt(form, lambda: policies.set_policy(actor=request.actor, **form.cleaned_data))
        if not isinstance(made, Failed):
            if made.pending is None:
                messages.success(request, _("It counts from now on."))
            else:
                messages.success(request, _("It counts in a day. Until then it can be taken back."))
            return redirect("retention", request.actor.tenant_slug)
    return _page(request, form)


@require_safe
@tenant_view(AUDIT_LIST)
def tombstone(request: TenantRequest, tombstone_id: UUID) -> HttpResponse:
    """What was stated of a day that went, and the proof that it stands in the log."""
    stated = calendar.stated(request.actor, tombstone_id)
    context = {
        "title": _("Tombstone"),
        "what": KEEPINGS[Keeping(stated.tombstone.keeping)],
        "stated": stated,
        "text": json.dumps(json.loads(stated.text), indent=2, ensure_ascii=False),
        "leaf": stated.proof.leaf.hex() if stated.proof else "",
        "path": [step.hex() for step in stated.proof.path] if stated.proof else [],
    }
    return render(request, "audit/retention_tombstone.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(RETENTION_MANAGE)
def erasures(request: TenantRequest) -> HttpResponse:
    """What people asked to have erased; POST person=…&basis=…&metadata=…&reason=…: ask for one."""
    form = ErasureForm(*posted(request), initial={"metadata": Deed.Metadata.KEPT})
    if form.is_bound and form.is_valid():
        values = dict(form.cleaned_data)
        person = _person(values.pop("person"))
        if person is None:
            form.add_error("person", _("There is no such person, and no record of one."))
        else:
            made = attempt(form, lambda: erasure.request(actor=request.actor, user_id=person, **values))
            if not isinstance(made, Failed):
                messages.success(request, _("Asked for. Somebody else decides it."))
                return redirect("retention_decision", request.actor.tenant_slug, made.pk)
    context = {
        "title": _("Erasure on request"),
        "form": form,
        "rows": [
            (view, STATES[view.state], _name(view.deed.subject_id)) for view in erasure.listed(request.actor)
        ],
    }
    return render(request, "audit/retention_erasures.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(RETENTION_MANAGE)
def held(request: TenantRequest, case_id: UUID) -> HttpResponse:
    """What a case holds, for those inside of it; POST reason=…: ask that it be released."""
    actor, form = request.actor, DecisionForm(*posted(request))
    listed = holds.of(actor, case_id)
    if form.is_bound and form.is_valid():
        reason = form.cleaned_data["reason"]
        made = attempt(form, lambda: holds.request_release(actor=actor, case_id=case_id, reason=reason))
        if not isinstance(made, Failed):
            messages.success(request, _("Asked for. Somebody else decides it."))
            return redirect("retention_decision", actor.tenant_slug, made.pk)
    context = {
        "title": _("Held for a case"),
        "case_id": case_id,
        "number": _numbers([case_id]).get(case_id, ""),
        "held": listed,
        "form": form,
        "rows": [(view, STATES[view.state]) for view in holds.releases(actor, case_id)],
    }
    return render(request, "audit/retention_held.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(RETENTION_MANAGE)
def decision(request: TenantRequest, deed_id: UUID) -> HttpResponse:
    """What was asked for, and what became of it; POST outcome=approve|refuse|withdraw&reason=…"""
    actor = request.actor
    view, is_release = _decided(request, deed_id)
    form = DecisionForm(*posted(request))
    services = _RELEASES if is_release else _ERASURES
    if form.is_bound and form.is_valid() and (service := services.get(request.POST.get("outcome", ""))):
        reason = form.cleaned_data["reason"]
        done = attempt(form, lambda: service(actor=actor, deed_id=deed_id, reason=reason))
        if not isinstance(done, Failed):
            messages.success(request, _("Recorded."))
            return redirect("retention_decision", actor.tenant_slug, deed_id)
    context = {
        "title": view.deed.get_kind_display(),
        "view": view,
        "look": STATES[view.state],
        "is_release": is_release,
        "number": _numbers([view.deed.subject_id]).get(view.deed.subject_id, "") if is_release else "",
        "person": "" if is_release else _name(view.deed.subject_id),
        "concerned": None if is_release else erasure.concerned(view.deed),
        "form": form,
        "is_open": view.state in (deeds.State.ASKED, deeds.State.APPROVED),
        "may_decide": view.state == deeds.State.ASKED and view.deed.requested_by != actor.user_id,
    }
    return render(request, "audit/retention_decision.html", context, status=status_of(form))


_ERASURES: dict[str, Any] = {
    "approve": erasure.approve,
    "refuse": erasure.refuse,
    "withdraw": erasure.withdraw,
}
_RELEASES: dict[str, Any] = {
    "approve": holds.approve_release,
    "refuse": holds.refuse_release,
    "withdraw": holds.withdraw_release,
}


def _decided(request: TenantRequest, deed_id: UUID) -> tuple[deeds.View, bool]:
    """(the deed, whether it is a release). Raises NotVisible."""
    if Deed.objects.filter(pk=deed_id, kind=Deed.Kind.RELEASE).exists():
        return holds.found_release(request.actor, deed_id), True
    return erasure.found(request.actor, deed_id), False


def _page(request: TenantRequest, form: PolicyForm) -> HttpResponse:
    actor = request.actor
    may_change = actor.can(RETENTION_MANAGE)
    context: dict[str, Any] = {
        "title": _("Retention"),
        "policies": [
            (KEEPINGS[keeping], each) for keeping, each in policies.in_force(actor.tenant_id).items()
        ],
        "gone": [(KEEPINGS[Keeping(each.keeping)], each) for each in calendar.gone(actor)],
        "may_change": may_change,
        "form": form,
        "held": _with_numbers(calendar.held(actor)) if may_change else [],
    }
    try:
        planned = calendar.planned(actor)
        context["planned"] = [(KEEPINGS[each.keeping], each) for each in planned]
        context["waiting"] = _waiting(planned)
        if request.GET.get("rehearse"):
            context["is_rehearsed"] = True
            context["rehearsed"] = [(KEEPINGS[each.keeping], each) for each in calendar.rehearsed(actor)]
    except schedule.ClocksDisagree as error:
        context["clocks"] = str(error)
    return render(request, "audit/retention.html", context, status=status_of(form))


def _with_numbers(held: list[calendar.HeldFor]) -> list[tuple[calendar.HeldFor, str]]:
    numbers = _numbers([each.case_id for each in held])
    return [(each, numbers.get(each.case_id, "")) for each in held]


def _numbers(case_ids: list[UUID]) -> dict[UUID, str]:
    """How people call these cases; the actor is inside of all of them."""
    return dict(Case.objects.filter(pk__in=case_ids).values_list("pk", "number"))


def _waiting(planned: list[calendar.Planned]) -> list[tuple[Any, int]]:
    """(what, how many days wait), for each keeping of which days wait."""
    counts = {
        keeping: sum(each.is_late and each.keeping == keeping for each in planned) for keeping in Keeping
    }
    return [(KEEPINGS[keeping], count) for keeping, count in counts.items() if count]


def _person(typed: str) -> UUID | None:
    """The person of an address or id that somebody typed."""
    member = Membership.objects.filter(user__email__iexact=typed.strip()).first()
    if member is not None:
        return member.user_id
    try:
        return UUID(typed.strip())
    except ValueError:
        pass
    named = AuditRecord.objects.filter(user_label__iexact=typed.strip()).exclude(user_id=None)
    return named.values_list("user_id", flat=True).first()


def _name(user_id: UUID) -> str:
    """A member's address, or the id of who is none any more."""
    found = Membership.objects.filter(user_id=user_id).values_list("user__email", flat=True).first()
    return found or str(user_id)
