"""The triage page: a record under review beside what can be done with it, for the keyboard and without scripts alike.

The record opens with the flag's reason, which is recorded before anything is shown: on a click, or at once while somebody
works through the queue, which they say by starting to.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from audit.record import EMBEDDING, AuditUnavailable
from audit.review import access, assignment, hooks, items, people, queues, seconds, work
from audit.review.items import Reason
from audit.review.models import Outcome, ReviewItem, State
from audit.search import snippets
from audit.search.query import BadQuery, parse
from console.pages.audit import record as record_page
from console.pages.audit import review
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.roles import REVIEW_MANAGE, REVIEW_WORK

Piece = tuple[str, bool]


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_WORK)
def page(request: TenantRequest, item_id: UUID) -> HttpResponse:
    """GET: the item. POST action=…: a deed on it; then the next one of the list."""
    item = access.item_of(request.actor, item_id)
    if request.method != "POST":
        return _shown(request, item, opens=_opens_at_once(request))
    action = request.POST.get("action", "")
    if action == "open":
        return _shown(request, item, opens=True)
    if action == "triage":
        request.session[review.TRIAGE] = request.POST.get("on") == "yes"
        return redirect(review.item_url(request, item_id))
    following = items.neighbours(request.actor, review.filters_of(request.GET), item_id)["after"]
    try:
        goes_on = _deed(request, item_id, action)
    except Refused as error:
        status = 409 if error.code in ("conflict", "claimed", "assigned") else 422
        item = access.item_of(request.actor, item_id)
        return _shown(request, item, opens=True, refused=error, status=status)
    except AuditUnavailable as error:
        return _shown(request, item, opens=False, unavailable=str(error), status=503)
    if goes_on and following is not None:
        return redirect(review.item_url(request, following))
    # An item may have left this person's sight with the deed.
    is_there = access.items_of(request.actor).filter(pk=item_id).exists()
    return redirect(
        review.list_url(request) if goes_on or not is_there else review.item_url(request, item_id)
    )


def _deed(request: TenantRequest, item_id: UUID, action: str) -> bool:
    """Do it; whether to go on with the next item."""
    actor, text = request.actor, request.POST.get("text", "")
    seen = request.POST.get("turn", "")
    turn = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 10 else None
    if action in Outcome.values:
        work.decide(actor=actor, item_id=item_id, outcome=action, reason=text, seen_turn=turn)
        return True
    if action == "approve":
        seconds.approve(actor=actor, item_id=item_id, comment=text, seen_turn=turn)
        messages.success(request, _("Signed. The decision has taken effect."))
        return True
    if action == "return":
        seconds.give_back(actor=actor, item_id=item_id, comment=text, seen_turn=turn)
        messages.success(request, _("Returned to whoever decided, with your comment."))
        return True
    simple: dict[str, tuple[Callable[[], Any], str]] = {
        "comment": (
            lambda: work.comment(actor=actor, item_id=item_id, text=text),
            _("Your comment is kept."),
        ),
        "mine": (
            lambda: assignment.assign(actor=actor, item_ids=[item_id], user_id=actor.user_id),
            _("It is assigned to you."),
        ),
        "free": (
            lambda: assignment.assign(actor=actor, item_ids=[item_id], user_id=None),
            _("It is nobody’s again."),
        ),
        "take_over": (
            lambda: work.claim(actor=actor, item_id=item_id, take_over=True),
            _("You work on it now."),
        ),
        "move": (
            lambda: work.move(actor=actor, item_ids=[item_id], queue_id=_queue(request)),
            _("It is in the other queue."),
        ),
        "withdraw": (lambda: work.withdraw(actor=actor, item_id=item_id), _("The decision is taken back.")),
        "reopen": (lambda: work.reopen(actor=actor, item_id=item_id, reason=text), _("It is open again.")),
    }
    if action not in simple:
        raise NotVisible("action")
    do, said = simple[action]
    do()
    messages.success(request, said)
    return False


def _queue(request: TenantRequest) -> UUID:
    try:
        return UUID(request.POST.get("queue", ""))
    except ValueError as error:
        raise NotVisible("review queue") from error


def _shown(
    request: TenantRequest,
    item: ReviewItem,
    *,
    opens: bool,
    refused: Refused | None = None,
    unavailable: str = "",
    status: int = 200,
) -> HttpResponse:
    actor, content = request.actor, {}
    reasons = items.reasons(item)
    # What is gone opens no more, and the item can be decided or signed all the same.
    if opens and items.lines(actor, [item])[0].summary:
        try:
            opened = work.open_item(actor=actor, item_id=item.pk)
            item = opened.item
            content = _content(opened, reasons)
        except AuditUnavailable as error:
            unavailable, status = str(error), 503
    (line,) = items.lines(actor, [item])
    around = items.neighbours(actor, review.filters_of(request.GET), item.pk)
    slug = actor.tenant_slug
    history = items.history(item)
    context = {
        "title": _("Flagged record"),
        "item": item,
        "line": line,
        "summary": line.summary,
        "queue_name": review.queue_name(item.queue),
        "reasons": reasons,
        "history": history,
        "decision": next((told for told in reversed(history) if told.step.deed == "decided"), None),
        "around": around,
        "before_url": review.item_url(request, around["before"]) if around["before"] else "",
        "after_url": review.item_url(request, around["after"]) if around["after"] else "",
        "list_url": review.list_url(request),
        "here": review.item_url(request, item.pk),
        "refused": refused,
        "unavailable": unavailable,
        "typed": request.POST.get("text", "") if refused else "",
        "can_escalate": hooks.can_escalate(),
        "is_mine": item.assignee_id == actor.user_id,
        "is_author": item.decided_by_id == actor.user_id,
        "decided_by": people.name(item.decided_by_id),
        "undo": review.undoable(actor),
        "may_manage": actor.can(REVIEW_MANAGE),
        "queues": _other_queues(actor, item),
        "review_keys": True,
        "in_triage": bool(request.session.get(review.TRIAGE)),
        "record_url": reverse("audit_record", args=[slug, item.request_id]) if line.summary else "",
        **content,
    }
    return render(request, "audit/review_item.html", context, status=status)


def _other_queues(actor: Actor, item: ReviewItem) -> list[tuple[UUID, str]]:
    """Where whoever manages may move it."""
    if not actor.can(REVIEW_MANAGE) or item.state != State.OPEN:
        return []
    return [
        (queue.pk, review.queue_name(queue)) for queue in queues.queues(actor) if queue.pk != item.queue_id
    ]


def _opens_at_once(request: TenantRequest) -> bool:
    """Not for a link on another site: an opening carries the name of whoever made it."""
    return bool(request.session.get(review.TRIAGE)) and request.headers.get("Sec-Fetch-Site") != "cross-site"


def _content(opened: work.Opened, reasons: list[Reason]) -> dict[str, Any]:
    view = opened.view
    terms = [term for reason in reasons if reason.words for term in _terms(reason.words.detail)]
    spans = [span for reason in reasons if reason.words for span in _spans(reason.words.detail)]
    asked = record_page.turns(view.input) if view.input is not None else []
    answered = record_page.answers(view.output)
    return {
        "view": view,
        "opening_reason": opened.reason,
        "marks": terms,
        "turns": _marked(asked, "input", terms, spans),
        "answers": _marked(answered, "output", terms, spans),
        "is_embedding": view.summary.kind == EMBEDDING,
    }


def _terms(detail: dict[str, Any]) -> list[Any]:
    """What a flag says was found: words of a rule, or the query of a saved search."""
    quoted = " OR ".join('"{}"'.format(str(term).replace('"', " ")) for term in detail.get("terms", ()))
    found = []
    for query in (quoted, str(detail.get("query", ""))):
        try:
            found += parse(query).terms() if query else []
        except BadQuery:
            continue
    return found


def _spans(detail: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in detail.get("spans", ()) if isinstance(span, dict)]


def _marked(
    texts: list[dict[str, str]], field: str, terms: list[Any], spans: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The texts in pieces, (text, is it marked). Spans count in the last question, or in the answer from its beginning."""
    found: list[dict[str, Any]] = []
    for index, each in enumerate(texts):
        holds_spans = index == (len(texts) - 1 if field == "input" else 0)
        places = [
            (span["start"], span["end"])
            for span in spans
            if holds_spans
            and span.get("field") == field
            and isinstance(span.get("start"), int)
            and isinstance(span.get("end"), int)
        ]
        found.append({"role": each["role"], "pieces": pieces(each["text"], places, terms)})
    return found


def pieces(text: str, places: Iterable[tuple[int, int]], terms: list[Any]) -> list[Piece]:
    """A text cut where a place, or one of the terms, begins and ends; all of it, in order."""
    marked = bytearray(len(text))
    for start, end in places:
        start, end = max(0, start), min(len(text), end)
        if start < end:
            marked[start:end] = b"\x01" * (end - start)
    at = 0
    for piece, is_match in snippets.marked(text, terms) if terms else ():
        if is_match:
            marked[at : at + len(piece)] = b"\x01" * len(piece)
        at += len(piece)
    found: list[Piece] = []
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or marked[index] != marked[start]:
            found.append((text[start:index], bool(marked[start])))
            start = index
    return found
