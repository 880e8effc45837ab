"""The queues of the review, for whoever manages them: what each takes, who works there, how long things may wait."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from audit.review import access, people, queues, statistics
from audit.review.models import Queue, Severity, Source
from console.pages import labels
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.pages.audit.review import FRAME, queue_name
from console.tenancy import TenantRequest, tenant_view
from tenants.errors import Refused
from tenants.models import CustomRole, Membership
from tenants.roles import REVIEW_MANAGE


class QueueForm(PageForm):
    """A queue. Of the default one, which takes what no other does, neither name nor what it takes can be chosen."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    position = forms.IntegerField(
        label=gettext_lazy("Position"),
        min_value=0,
        max_value=1000,
        help_text=gettext_lazy("The first queue that takes a flag gets it."),
    )
    sources = forms.MultipleChoiceField(
        label=gettext_lazy("Takes flags raised"),
        choices=Source.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: of every kind."),
    )
    severities = forms.MultipleChoiceField(
        label=gettext_lazy("Takes severities"),
        choices=Severity.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all."),
    )
    roles = forms.MultipleChoiceField(
        label=gettext_lazy("Roles that work here"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("Neither roles nor people: everybody who reviews."),
    )
    member_ids = forms.MultipleChoiceField(
        label=gettext_lazy("People who work here"), required=False, widget=forms.CheckboxSelectMultiple
    )
    assigns_in_turn = forms.BooleanField(
        label=gettext_lazy("Assign in turn"),
        required=False,
        help_text=gettext_lazy("Each new item goes to whoever has gone longest without one."),
    )
    seconds_escalations = forms.BooleanField(
        label=gettext_lazy("Escalations need a second signature"),
        required=False,
        help_text=gettext_lazy("What is of high severity needs one always."),
    )
    hours_high = forms.IntegerField(
        label=gettext_lazy("Hours until due, high severity"), min_value=1, max_value=queues.MOST_HOURS
    )
    hours_medium = forms.IntegerField(
        label=gettext_lazy("Hours until due, medium severity"), min_value=1, max_value=queues.MOST_HOURS
    )
    hours_low = forms.IntegerField(
        label=gettext_lazy("Hours until due, low severity"), min_value=1, max_value=queues.MOST_HOURS
    )

    def __init__(self, *args: Any, is_default: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = dict(CustomRole.objects.values_list("slug", "name"))
        self._choose(
            "roles", [(code, own.get(code) or labels.role(code)) for code in queues.reviewing_roles()]
        )
        everybody = access.working(Membership.objects.filter(disabled=None).values_list("user_id", flat=True))
        named = sorted(people.names(everybody).items(), key=lambda person: person[1].casefold())
        self._choose("member_ids", [(str(user_id), name) for user_id, name in named])
        if is_default:
            for name in ("name", "position", "sources", "severities"):
                del self.fields[name]

    def _choose(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = choices

    def values(self) -> dict[str, Any]:
        return {
            **self.cleaned_data,
            "member_ids": [UUID(user_id) for user_id in self.cleaned_data["member_ids"]],
        }


@require_safe
@tenant_view(REVIEW_MANAGE)
def page(request: TenantRequest) -> HttpResponse:
    found = list(queues.queues(request.actor))
    counts = statistics.waiting(request.actor)
    context = {
        "title": _("Queues"),
        "review_page": "queues",
        "may_manage": True,
        "rows": [
            {
                "queue": queue,
                "name": queue_name(queue),
                "count": counts.get(queue.pk, {}),
                "sources": [str(Source(each).label) for each in queue.sources],
                "severities": [str(Severity(each).label) for each in queue.severities],
                "people": len(access.reviewers(queue)),
            }
            for queue in found
        ],
    }
    return render(request, "audit/review_queues.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_MANAGE)
def create(request: TenantRequest) -> HttpResponse:
    fresh = Queue()
    form = QueueForm(*posted(request), is_default=False, initial=_initial(fresh, []))
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: queues.create_queue(actor=request.actor, **form.values()))
        if made is not FAILED:
            messages.success(request, _("The queue was made. It takes flags from now on."))
            return redirect("review_queues", request.actor.tenant_slug)
    return _form_page(request, form, _("New queue"))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_MANAGE)
def edit(request: TenantRequest, queue_id: UUID) -> HttpResponse:
    queue = queues.own_queue(request.actor, queue_id)
    initial = _initial(queue, queues.members(queue))
    form = QueueForm(*posted(request), is_default=queue.is_default, initial=initial)
    if form.is_bound and form.is_valid():
        changed = attempt(
            form, lambda: queues.update_queue(actor=request.actor, queue_id=queue_id, **form.values())
        )
        if changed is not FAILED:
            messages.success(request, _("The queue was changed."))
            return redirect("review_queues", request.actor.tenant_slug)
    return _form_page(request, form, queue_name(queue), queue)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_MANAGE)
def retire(request: TenantRequest, queue_id: UUID) -> HttpResponse:
    queue, slug = queues.own_queue(request.actor, queue_id), request.actor.tenant_slug
    back = reverse("review_queues", args=[slug])
    if not is_confirmed(request):
        question = Question(
            title=_("Close the queue “%(name)s”?") % {"name": queue_name(queue)},
            text=_("It takes no flags any more. What was decided in it stays, for managers to see."),
            button=_("Close the queue"),
            action=reverse("review_queue_retire", args=[slug, queue_id]),
            back=back,
        )
        return ask(request, question, frame=FRAME)
    try:
        queues.retire_queue(actor=request.actor, queue_id=queue_id)
        messages.success(request, _("The queue “%(name)s” was closed.") % {"name": queue_name(queue)})
    except Refused as error:
        messages.error(request, error.message)
    return redirect(back)


def _initial(queue: Queue, member_ids: list[UUID]) -> dict[str, Any]:
    names = [name for name in QueueForm.base_fields if name != "member_ids"]
    return {
        **{name: getattr(queue, name) for name in names},
        "member_ids": [str(user_id) for user_id in member_ids],
    }


def _form_page(
    request: TenantRequest, form: QueueForm, title: str, queue: Queue | None = None
) -> HttpResponse:
    context = {
        "title": title,
        "review_page": "queues",
        "may_manage": True,
        "form": form,
        "queue": queue,
        "back": reverse("review_queues", args=[request.actor.tenant_slug]),
    }
    return render(request, "audit/review_queue.html", context, status=status_of(form))
