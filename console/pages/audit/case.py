"""The page of one case: what it holds, what was done, and all that can be done with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit.cases import attachments, decisions, opening, selectors, work
from audit.cases.access import case_of, cases_of
from audit.cases.selectors import CaseView
from audit.retention import deeds, holds
from console.pages.administration.forms import FAILED, attempt
from console.pages.audit import case_labels
from console.pages.audit.case_forms import (
    ChangeForm,
    DeadlineEndForm,
    DeadlineForm,
    DecisionForm,
    FileForm,
    MemberForm,
    NoteForm,
    NothingForm,
    ReasonForm,
    RecordForm,
    SignatureForm,
)
from console.pages.audit.retention import STATES as RELEASE_STATES
from console.tenancy import TenantRequest, tenant_view
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.roles import AUDIT_EXPORT, AUDIT_READ, RETENTION_MANAGE, REVIEW_WORK

Values = dict[str, Any]


@require_safe
@tenant_view(REVIEW_WORK)
def page(request: TenantRequest, case_id: UUID) -> HttpResponse:
    return _drawn(request, selectors.open_one(request.actor, case_id))


@require_POST
@tenant_view(REVIEW_WORK)
def act(request: TenantRequest, case_id: UUID, action: str) -> HttpResponse:
    """One of ACTIONS; what was refused is shown on the page of the case, with what was typed."""
    if action not in ACTIONS or case_id not in cases_of(request.actor):
        raise NotVisible("case")
    wanted, actor = ACTIONS[action], request.actor
    form = _form(request, action, case_id)
    if form.is_valid():
        values = {"case_id": case_id, **form.cleaned_data}
        if attempt(form, lambda: wanted.do(actor, values)) is not FAILED:
            messages.success(request, str(wanted.done))
            if case_id not in cases_of(actor):  # One may take oneself out.
                return redirect("cases", actor.tenant_slug)
            return redirect("case", actor.tenant_slug, case_id)
    return _drawn(request, selectors.open_one(actor, case_id), action, form)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_WORK)
def details(request: TenantRequest, case_id: UUID) -> HttpResponse:
    view = selectors.open_one(request.actor, case_id)
    if not view.may_work:
        raise NotVisible("case")
    known = {} if view.lost else {"title": view.title, "summary": view.summary, "typology": view.typology}
    initial = {
        **known,
        "severity": view.version.severity,
        "owner_id": str(view.version.owner_id or ""),
        "expected": str(view.version.seq),
    }
    form = ChangeForm(request.POST if request.method == "POST" else None, view=view, initial=initial)
    if form.is_bound and form.is_valid():
        values = {"case_id": case_id, **form.cleaned_data}
        if attempt(form, lambda: work.change_case(actor=request.actor, **values)) is not FAILED:
            messages.success(request, _("The case was changed."))
            return redirect("case", request.actor.tenant_slug, case_id)
    status = 422 if form.is_bound else 200
    context = {"title": _("Change %(number)s") % {"number": view.case.number}, "form": form, "view": view}
    return render(request, "audit/case_details.html", context, status=status)


@require_safe
@tenant_view(REVIEW_WORK)
def file(request: TenantRequest, case_id: UUID, file_id: UUID) -> HttpResponse:
    """A download, never shown in the browser, whatever it holds."""
    try:
        found, content = attachments.download(request.actor, case_id=case_id, file_id=file_id)
    except Refused as error:
        messages.error(request, error.message)
        return redirect("case", request.actor.tenant_slug, case_id)
    return as_download(found.name, content, found.media_type)


def as_download(name: str, content: bytes, media_type: str) -> HttpResponse:
    """A file to save: no browser guesses what it is, runs it or keeps it."""
    response = HttpResponse(content, content_type=media_type)
    response.headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "no-store"
    return response


@dataclass(frozen=True)
class Action:
    """form: what it asks for. do: the service. done: what is said afterwards."""

    form: type[forms.Form]
    do: Callable[[Actor, Values], object]
    done: Any


def _attach(actor: Actor, values: Values) -> object:
    sent: UploadedFile = values["file"]
    return attachments.attach(
        actor=actor, case_id=values["case_id"], name=sent.name or "", content=sent.read()
    )


def _link(actor: Actor, values: Values) -> object:
    return opening.link_records(
        actor=actor,
        case_id=values["case_id"],
        request_ids=[values["request_id"]],
        reason=values["reason"],
    )


def _sign(actor: Actor, values: Values) -> object:
    is_approved = values.pop("verdict") == "approve"
    return decisions.sign(actor=actor, is_approved=is_approved, **values)


class UnlinkForm(ReasonForm):
    request_id = forms.UUIDField(widget=forms.HiddenInput)


class RemoveMemberForm(NothingForm):
    user_id = forms.UUIDField(widget=forms.HiddenInput)


ACTIONS: dict[str, Action] = {
    "note": Action(
        NoteForm, lambda actor, v: work.add_note(actor=actor, **v), gettext_lazy("The note was written.")
    ),
    "link": Action(RecordForm, _link, gettext_lazy("The record is in the case.")),
    "unlink": Action(
        UnlinkForm,
        lambda actor, v: opening.unlink_record(actor=actor, **v),
        gettext_lazy("The record was taken out. It stays held until two people release it."),
    ),
    "file": Action(FileForm, _attach, gettext_lazy("The file was attached.")),
    "member": Action(
        MemberForm, lambda actor, v: work.set_member(actor=actor, **v), gettext_lazy("The member was put in.")
    ),
    "member-remove": Action(
        RemoveMemberForm,
        lambda actor, v: work.remove_member(actor=actor, **v),
        gettext_lazy("The member was taken out."),
    ),
    "deadline": Action(
        DeadlineForm,
        lambda actor, v: work.set_deadline(actor=actor, **v),
        gettext_lazy("The deadline was set."),
    ),
    "deadline-end": Action(
        DeadlineEndForm,
        lambda actor, v: work.close_deadline(actor=actor, **v),
        gettext_lazy("The deadline was closed."),
    ),
    "review": Action(
        NothingForm,
        lambda actor, v: decisions.start_review(actor=actor, **v),
        gettext_lazy("The review has begun."),
    ),
    "decide": Action(
        DecisionForm,
        lambda actor, v: decisions.decide(actor=actor, **v),
        gettext_lazy("The decision waits for another person’s signature."),
    ),
    "withdraw": Action(
        NothingForm,
        lambda actor, v: decisions.withdraw(actor=actor, **v),
        gettext_lazy("The decision was withdrawn."),
    ),
    "sign": Action(SignatureForm, _sign, gettext_lazy("Your signature was recorded.")),
    "hold": Action(
        ReasonForm,
        lambda actor, v: opening.hold_records(actor=actor, **v),
        gettext_lazy("The records are held."),
    ),
    "release": Action(
        ReasonForm,
        lambda actor, v: holds.request_release(actor=actor, **v),
        gettext_lazy("Asked for. Somebody else decides it."),
    ),
    "reopen": Action(
        ReasonForm,
        lambda actor, v: decisions.reopen(actor=actor, **v),
        gettext_lazy("The case was reopened."),
    ),
}


def _form(request: TenantRequest, action: str, case_id: UUID) -> forms.Form:
    kind = ACTIONS[action].form
    more: Values = {}
    if kind is MemberForm:
        case = case_of(request.actor, case_id)
        more["candidates"] = selectors.candidates(request.actor, case)
    return kind(request.POST, request.FILES, auto_id=_ids(action), **more)


def _ids(action: str) -> str:
    """Several forms stand on the page, and no two of their fields have one id."""
    return f"{action}_%s"


def _drawn(
    request: TenantRequest, view: CaseView, action: str = "", bound: forms.Form | None = None
) -> HttpResponse:
    """The page; `bound`: the form of an action that was refused, in its place."""
    actor = request.actor
    candidates = selectors.candidates(actor, view.case) if view.may_lead else []
    waiting = {"decision_id": view.waiting.id if view.waiting else None}
    fresh: dict[str, forms.Form] = {
        "note": NoteForm(auto_id=_ids("note")),
        "link": RecordForm(auto_id=_ids("link")),
        "file": FileForm(auto_id=_ids("file")),
        "member": MemberForm(auto_id=_ids("member"), candidates=candidates),
        "deadline": DeadlineForm(auto_id=_ids("deadline")),
        "decide": DecisionForm(auto_id=_ids("decide"), initial={"expected": str(view.version.seq)}),
        "sign": SignatureForm(auto_id=_ids("sign"), initial=waiting),
        "reopen": ReasonForm(auto_id=_ids("reopen")),
        "hold": ReasonForm(auto_id=_ids("hold")),
        "release": ReasonForm(auto_id=_ids("release")),
    }
    errors: list[str] = []
    held = _held(actor, view)
    # Refused above, where the page has no such form, or not now.
    is_missing = {
        "hold": not held["unheld_count"],
        "release": not (held["held_count"] and held["may_release"]),
    }
    if bound is not None and is_missing.get(action, action not in fresh):
        errors = [str(each) for field in bound.errors.values() for each in field]
    if bound is not None:
        fresh[action] = bound
    names = {str(user_id): name for user_id, name in selectors.names_of(_people(view)).items()}
    context = {
        "title": view.title,
        "view": view,
        "forms": fresh,
        "refused": action,
        "errors": errors,
        "status": case_labels.STATUSES[view.version.status],
        "severity": case_labels.SEVERITIES[view.version.severity],
        "typology": case_labels.typology(view.typology),
        "members": [(each, case_labels.member_role(each.role)) for each in view.members],
        "deadlines": [(row, said, case_labels.DEADLINES[row.state]) for row, said in view.deadlines],
        "decisions": [(each, case_labels.outcome(each.outcome)) for each in reversed(view.decisions)],
        "timeline": [case_labels.told(each, names) for each in reversed(view.timeline)],
        "readings": [(each, case_labels.looked(each.how)) for each in view.readings],
        **held,
        "may_report": actor.can(AUDIT_READ) and actor.can(AUDIT_EXPORT),
        "next_due": next((row.due for row, _said in view.deadlines if row.state == "open"), None),
        "is_overdue": any(row.state == "open" and row.due <= clock.now() for row, _said in view.deadlines),
    }
    return render(request, "audit/case.html", context, status=422 if bound is not None else 200)


def _held(actor: Actor, view: CaseView) -> dict[str, Any]:
    """What the case holds, and what was last asked of that."""
    asked = next(iter(holds.releases(actor, view.case.pk)), None)
    is_open = asked is not None and asked.state in (deeds.State.ASKED, deeds.State.APPROVED)
    return {
        "held_count": len(holds.of(actor, view.case.pk)),
        "unheld_count": len(opening.unheld(actor, view.case)) if view.may_work else 0,
        "release": asked,
        "release_look": asked and RELEASE_STATES[asked.state],
        "may_release": actor.can(RETENTION_MANAGE) and not is_open,
        "sees_release": actor.can(RETENTION_MANAGE),
    }


def _people(view: CaseView) -> list[UUID | None]:
    found = [each.detail.get("user") for each in view.timeline]
    return [UUID(each) for each in found if each]
