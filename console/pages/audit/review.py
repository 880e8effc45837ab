"""The review queue: what waits, for whom and until when; bulk deeds; flagging what was selected in the audit's list."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from audit.record import AuditUnavailable
from audit.review import access, assignment, flags, items, people, statistics, work
from audit.review.items import ItemFilters
from audit.review.models import Outcome, Queue, ReviewItem, Severity, Source
from console.pages import labels
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import PageForm
from console.pages.listing import selected
from console.tenancy import TenantRequest, tenant_view
from tenants import clock
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.roles import REVIEW_MANAGE, REVIEW_WORK

PAGE_SIZE = 50
FRAME = "audit/review_base.html"
TRIAGE = "review_triage"  # In the session: whether records open at once while somebody triages.
NAMES = ("view", "whose", "queue", "severity", "source", "outcome", "late", "sort")
SORTS: dict[str, tuple[str, ...]] = {
    "urgent": ("-rank", "due", "pk"),
    "due": ("due", "-rank", "pk"),
    "oldest": ("opened", "pk"),
    "newest": ("-opened", "-pk"),
}
SEVERITIES = {
    "low": labels.State("", "s-off", Severity.LOW.label),
    "medium": labels.State("warn", "s-warn", Severity.MEDIUM.label),
    "high": labels.State("bad", "s-bad", Severity.HIGH.label),
}
STATES = {
    "open": labels.State("busy", "s-busy", gettext_lazy("Open")),
    "second": labels.State("warn", "s-time", gettext_lazy("Waits for a second signature")),
    "decided": labels.State("", "s-time", gettext_lazy("Takes effect in a moment")),
    "dismiss": labels.State("", "s-no", Outcome.DISMISS.label),
    "confirm": labels.State("bad", "s-ok", Outcome.CONFIRM.label),
    "escalate": labels.State("bad", "s-warn", Outcome.ESCALATE.label),
}


class FilterForm(forms.Form):
    """The filters of the queue, from the query string; what is none of the choices narrows nothing."""

    whose = forms.ChoiceField(label=gettext_lazy("Assigned"), required=False)
    queue = forms.ChoiceField(label=gettext_lazy("Queue"), required=False)
    severity = forms.ChoiceField(label=gettext_lazy("Severity"), required=False)
    source = forms.ChoiceField(label=gettext_lazy("Flagged by"), required=False)
    sort = forms.ChoiceField(label=gettext_lazy("Order"), required=False)

    def __init__(self, data: Any, queues: list[Queue]) -> None:
        super().__init__(data)
        anything = ("", _("Any"))
        self._choose(
            "whose",
            [anything, ("mine", _("To me")), ("free", _("To nobody")), ("others", _("To others"))],
        )
        self._choose("queue", [anything, *((str(queue.pk), queue_name(queue)) for queue in queues)])
        self._choose("severity", [anything, *Severity.choices])
        self._choose("source", [anything, *Source.choices])
        self._choose(
            "sort",
            [
                ("", _("Most urgent first")),
                ("due", _("By due time")),
                ("oldest", _("Longest waiting first")),
                ("newest", _("Newest first")),
            ],
        )

    def _choose(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


class FlagForm(PageForm):
    severity = forms.ChoiceField(label=gettext_lazy("Severity"), choices=Severity.choices)
    reason = forms.CharField(
        label=gettext_lazy("Why should somebody look at this?"),
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": flags.MOST_WORDS}),
        error_messages={"required": gettext_lazy("Write why. It is kept with the flag.")},
    )


class ReasonForm(PageForm):
    reason = forms.CharField(
        label=gettext_lazy("One reason for all of them"),
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": flags.MOST_WORDS}),
        error_messages={"required": gettext_lazy("Write why. It is kept with each decision.")},
    )


class PersonForm(PageForm):
    user_id = forms.ChoiceField(label=gettext_lazy("Assign to"))

    def __init__(self, *args: Any, people: dict[UUID, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["user_id"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(str(user_id), name) for user_id, name in people.items()]


def queue_name(queue: Queue) -> str:
    return queue.name or _("Default queue")


def filters_of(query: Any) -> ItemFilters:
    """From a query string; what makes no sense narrows nothing."""
    view = query.get("view", "")
    try:
        queue = UUID(query.get("queue", ""))
    except ValueError:
        queue = None
    return ItemFilters(
        view=view if view in items.VIEWS else "open",
        whose=query.get("whose", ""),
        queue=queue,
        severity=query.get("severity", ""),
        source=query.get("source", "") if query.get("source") in Source.values else "",
        outcome=query.get("outcome", "") if query.get("outcome") in Outcome.values else "",
        late=bool(query.get("late")),
    )


def query_of(request: HttpRequest, **changes: str) -> str:
    """The filters of this page as a query string, with changes; "" takes one away."""
    asked = request.GET.copy()
    for name in list(asked):
        if name not in NAMES:
            del asked[name]
    for name, value in changes.items():
        asked[name] = value
        if not value:
            del asked[name]
    return asked.urlencode()


def list_url(request: TenantRequest) -> str:
    query = query_of(request)
    return reverse("review", args=[request.actor.tenant_slug]) + (f"?{query}" if query else "")


def undoable(actor: Actor) -> ReviewItem | None:
    """The actor's newest decision, while it can be taken back."""
    found = access.items_of(actor).filter(decided_by_id=actor.user_id, state="decided")
    return found.filter(takes_effect__gt=clock.now()).order_by("-decided").first()


@require_safe
@tenant_view(REVIEW_WORK)
def page(request: TenantRequest) -> HttpResponse:
    """The queue, by urgency; ?view=second: what waits for this person's signature."""
    actor = request.actor
    queues = list(access.queues_of(actor))
    filters = filters_of(request.GET)
    order = SORTS.get(request.GET.get("sort", ""), SORTS["urgent"])
    found = items.find(actor, filters).order_by(*order)
    shown = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    counts = statistics.waiting(actor)
    context = {
        "title": _("Review"),
        "form": FilterForm(request.GET, queues),
        "filters": filters,
        "lines": items.lines(actor, list(shown.object_list)),
        "page": shown,
        "total": counts[None],
        "queues": [(queue, queue_name(queue), counts.get(queue.pk)) for queue in queues],
        "query": query_of(request),
        "is_filtered": any(request.GET.get(name) for name in NAMES if name not in ("view", "sort")),
        "views": [
            (code, words, counts[None].get(count) if count else None, query_of(request, view=code))
            for code, words, count in (
                ("open", _("Waiting"), "open"),
                ("second", _("For my signature"), "second"),
                ("done", _("Decided"), ""),
                ("all", _("All"), ""),
            )
        ],
        "may_manage": actor.can(REVIEW_MANAGE),
        "undo": undoable(actor),
        "actions": _actions(actor, filters),
    }
    return render(request, "audit/review.html", context)


@require_POST
@tenant_view(REVIEW_WORK)
def start(request: TenantRequest) -> HttpResponse:
    """Work through the list from the top; records open at once from now on in this session, each of them recorded."""
    request.session[TRIAGE] = True
    first = items.find(request.actor, filters_of(request.GET)).first()
    if first is None:
        messages.info(request, _("Nothing waits here."))
        return redirect(list_url(request))
    return redirect(item_url(request, first.pk))


@require_POST
@tenant_view(REVIEW_WORK)
def take(request: TenantRequest) -> HttpResponse:
    """Take the most urgent item that is nobody's."""
    item = assignment.take_next(actor=request.actor, queue_id=filters_of(request.GET).queue)
    if item is None:
        messages.info(request, _("Nothing waits that is nobody’s."))
        return redirect(list_url(request))
    return redirect(item_url(request, item.pk))


@require_POST
@tenant_view(REVIEW_WORK)
def act(request: TenantRequest) -> HttpResponse:
    """POST action=… with the items selected: mine, free, assign (asks whom), dismiss (asks why)."""
    actor, action, chosen = request.actor, request.POST.get("action", ""), selected(request, UUID)
    known = set(access.items_of(actor).filter(pk__in=chosen).values_list("pk", flat=True))
    ids = [item_id for item_id in chosen if item_id in known]
    back = list_url(request)
    if not ids:
        messages.warning(request, _("Select at least one of them first."))
        return redirect(back)
    try:
        if action == "dismiss":
            return _dismiss(request, ids, back)
        if action == "assign":
            return _assign(request, ids, back)
        if action not in ("mine", "free"):
            raise NotVisible("action")
        count = assignment.assign(
            actor=actor, item_ids=ids, user_id=actor.user_id if action == "mine" else None
        )
        _say_assigned(request, count)
    except (Refused, AuditUnavailable) as error:
        messages.error(request, str(error))
    return redirect(back)


@require_POST
@tenant_view(REVIEW_WORK)
def flag(request: TenantRequest) -> HttpResponse:
    """POST selected=<record>…: asks why, and with `confirmed` flags them."""
    chosen = selected(request, UUID)
    back = _back(request)
    if not chosen:
        messages.warning(request, _("Select at least one record first."))
        return redirect(back)
    form = FlagForm(request.POST if is_confirmed(request) else None, initial={"severity": "medium"})
    if is_confirmed(request) and form.is_valid():
        try:
            raised = [
                flags.raise_flag(
                    actor=request.actor, request_id=request_id, source=Source.HAND, **form.cleaned_data
                )
                for request_id in chosen
            ]
        except Refused as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        except AuditUnavailable as error:
            form.add_error(None, str(error))
        else:
            return _flagged(request, raised, back)
    title = ngettext("Flag %(count)d record for review?", "Flag %(count)d records for review?", len(chosen))
    question = Question(
        title=title % {"count": len(chosen)},
        text=_(
            "It is put into the review queue. Nobody who does not review learns of it, nor does the person concerned."
        ),
        button=_("Flag"),
        action=reverse("review_flag", args=[request.actor.tenant_slug]),
        back=back,
        hidden=[("back", back), *(("selected", str(request_id)) for request_id in chosen)],
        form=form,
        is_danger=False,
    )
    return ask(request, question, frame=FRAME)


def item_url(request: TenantRequest, item_id: UUID) -> str:
    query = query_of(request)
    url = reverse("review_item", args=[request.actor.tenant_slug, item_id])
    return f"{url}?{query}" if query else url


def _flagged(request: TenantRequest, raised: list[flags.Raised], back: str) -> HttpResponse:
    new = sum(each.is_new for each in raised)
    if new:
        text = ngettext("%d record was flagged for review.", "%d records were flagged for review.", new)
        messages.success(request, text % new)
    else:
        messages.info(request, _("You had flagged this already."))
    return redirect(back)


def _back(request: TenantRequest) -> str:
    """Where flagging leads back to: the record, if it is one, else the list; never to another site."""
    asked, slug = request.POST.get("back", ""), request.actor.tenant_slug
    home = reverse("audit", args=[slug])
    if asked.startswith(home) and url_has_allowed_host_and_scheme(asked, allowed_hosts=None):
        return asked
    chosen = selected(request, UUID)
    return reverse("audit_record", args=[slug, chosen[0]]) if len(chosen) == 1 else home


def _dismiss(request: TenantRequest, ids: list[UUID], back: str) -> HttpResponse:
    form = ReasonForm(request.POST if is_confirmed(request) else None)
    if is_confirmed(request) and form.is_valid():
        reason = form.cleaned_data["reason"]
        try:
            done = work.decide_many(actor=request.actor, item_ids=ids, outcome=Outcome.DISMISS, reason=reason)
        except Refused as error:
            form.add_error(None, error.message)
        else:
            second = sum(item.state == "second" for item in done)
            text = ngettext("%d was dismissed.", "%d were dismissed.", len(done)) % len(done)
            if second:
                waits = ngettext(
                    "%d of them waits for a second signature.",
                    "%d of them wait for a second signature.",
                    second,
                )
                text = f"{text} {waits % second}"
            messages.success(request, text)
            return redirect(back)
    title = ngettext("Dismiss %(count)d flagged record?", "Dismiss %(count)d flagged records?", len(ids))
    question = Question(
        title=title % {"count": len(ids)},
        text=_("What is of high severity is dismissed only when a second person signs it."),
        button=_("Dismiss"),
        action=_act_url(request),
        back=back,
        hidden=[("action", "dismiss"), *(("selected", str(item_id)) for item_id in ids)],
        form=form,
    )
    return ask(request, question, frame=FRAME)


def _assign(request: TenantRequest, ids: list[UUID], back: str) -> HttpResponse:
    if not request.actor.can(REVIEW_MANAGE):
        raise NotVisible(REVIEW_MANAGE)
    queues = Queue.objects.filter(items__in=ids).distinct()
    candidates = {user_id for queue in queues for user_id in access.reviewers(queue)}
    found = sorted(people.names(candidates).items(), key=lambda person: person[1].casefold())
    form = PersonForm(request.POST if is_confirmed(request) else None, people=dict(found))
    if is_confirmed(request) and form.is_valid():
        user_id = UUID(form.cleaned_data["user_id"])
        try:
            _say_assigned(request, assignment.assign(actor=request.actor, item_ids=ids, user_id=user_id))
            return redirect(back)
        except Refused as error:
            form.add_error("user_id", error.message)
    title = ngettext("Assign %(count)d flagged record", "Assign %(count)d flagged records", len(ids))
    question = Question(
        title=title % {"count": len(ids)},
        text=_("Whoever it is assigned to decides; nobody can be given a record of their own."),
        button=_("Assign"),
        action=_act_url(request),
        back=back,
        hidden=[("action", "assign"), *(("selected", str(item_id)) for item_id in ids)],
        form=form,
        is_danger=False,
    )
    return ask(request, question, frame=FRAME)


def _act_url(request: TenantRequest) -> str:
    query = query_of(request)
    url = reverse("review_act", args=[request.actor.tenant_slug])
    return f"{url}?{query}" if query else url


def _say_assigned(request: TenantRequest, count: int) -> None:
    text = ngettext("%d changed hands.", "%d changed hands.", count)
    messages.success(request, text % count)


def _actions(actor: Actor, filters: ItemFilters) -> list[tuple[str, str, bool]]:
    """What can be done with the ticked items of a view: (name, label, is_danger)."""
    if filters.view not in ("open", "all"):
        return []
    found = [("mine", _("Assign to me"), False), ("free", _("Give back"), False)]
    if actor.can(REVIEW_MANAGE):
        found.append(("assign", _("Assign…"), False))
    return [*found, ("dismiss", _("Dismiss…"), True)]
