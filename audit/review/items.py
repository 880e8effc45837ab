"""Items as pages list and show them. All inside the tenant's scope; raises NotVisible without review.work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Q, QuerySet

from audit import selectors
from audit.models import AuditRecord
from audit.review import access, flags, people, steps, work
from audit.review.models import RANKS, Flag, ReviewItem, ReviewStep, State
from tenants import clock, envelope
from tenants.access import Actor
from tenants.ids import day_of

R = TypeVar("R")
W = TypeVar("W")

WHOSE = ("", "mine", "free", "others")
# What a list can show, and the states behind it.
VIEWS: dict[str, tuple[str, ...]] = {
    "open": (State.OPEN,),
    "second": (State.SECOND,),
    "done": (State.DECIDED, State.CLOSED),
    "all": tuple(State.values),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFilters:
    """Narrow a list; empty values do not. view: one of VIEWS; whose: one of WHOSE; source: of one of the flags."""

    view: str = "open"
    whose: str = ""
    queue: UUID | None = None
    severity: str = ""
    source: str = ""
    outcome: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """An item in a list. summary: its record's plain facts, None when it is gone; assignee, claimer: names, or ""."""

    item: ReviewItem
    summary: selectors.Summary | None
    sources: list[str]
    assignee: str
    claimer: str
    is_late: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A step of an item's history. words: "" for none, None when their key is gone or they were altered. about: a name."""

    step: ReviewStep
    actor: str
    about: str
    words: str | None
    is_altered: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """A flag with what it says; words None: its key is gone, or it was altered."""

    flag: Flag
    raised_by: str
    words: flags.FlagWords | None
    is_altered: bool


def find(actor: Actor, filters: ItemFilters = ItemFilters()) -> QuerySet[ReviewItem]:
    """The items that match, the most urgent first."""
    found = access.items_of(actor).filter(state__in=VIEWS[filters.view]).select_related("queue")
    if filters.view == "second":
        found = found.exclude(decided_by_id=actor.user_id)
    whose = {
        "mine": Q(assignee_id=actor.user_id),
        "free": Q(assignee_id=None),
        "others": ~Q(assignee_id=None) & ~Q(assignee_id=actor.user_id),
    }
    if filters.whose in whose:
        found = found.filter(whose[filters.whose])
    if filters.queue is not None:
        found = found.filter(queue_id=filters.queue)
    if filters.severity in RANKS:
        found = found.filter(rank=RANKS[filters.severity])
    if filters.source:
        found = found.filter(pk__in=Flag.objects.filter(source=filters.source).values("item"))
    if filters.outcome:
        found = found.filter(outcome=filters.outcome)
    if filters.late:
        found = found.filter(due__lt=clock.now(), state__in=(State.OPEN, State.SECOND))
    return found.order_by("-rank", "due", "pk")


def lines(actor: Actor, found: list[ReviewItem]) -> list[Line]:
    """These items with what a list says of them, in few queries."""
    summaries = _summaries([item.request_id for item in found])
    names = people.names(who for item in found for who in (item.assignee_id, item.claimed_by_id))
    sources: dict[UUID, list[str]] = {}
    for item_id, source in (
        Flag.objects.filter(item__in=[item.pk for item in found])
        .order_by("created")
        .values_list("item_id", "source")
    ):
        if source not in sources.setdefault(item_id, []):
            sources[item_id].append(source)
    now = clock.now()
    return [
        Line(
            item,
            summaries.get(item.request_id),
            sources.get(item.pk, []),
            names.get(item.assignee_id, "") if item.assignee_id else "",
            names.get(item.claimed_by_id, "")
            if item.claimed_by_id and work.is_claimed_by_another(actor, item)
            else "",
            item.due < now and item.state in (State.OPEN, State.SECOND),
        )
        for item in found
    ]


def history(item: ReviewItem) -> list[Told]:
    """What happened to the item, oldest first."""
    found = list(ReviewStep.objects.filter(item=item).order_by("seq"))
    names = people.names(who for step in found for who in (step.actor_id, step.about_id))
    return [
        Told(
            step,
            people.actor_of(step, names),
            names.get(step.about_id, "") if step.about_id else "",
            *_read(steps.words_of, step),
        )
        for step in found
    ]


def reasons(item: ReviewItem) -> list[Reason]:
    """The item's flags with what they say, oldest first."""
    found = list(flags.flags_of(item))
    names = people.names(flag.raised_by_id for flag in found)
    return [
        Reason(
            flag,
            names.get(flag.raised_by_id, flag.raised_by) if flag.raised_by_id else flag.raised_by,
            *_read(flags.words_of, flag),
        )
        for flag in found
    ]


def neighbours(actor: Actor, filters: ItemFilters, item_id: UUID) -> dict[str, Any]:
    """The items before and after one in a list, or the list's first where it is not in it (any more); how many there are."""
    ids = list(find(actor, filters).values_list("pk", flat=True)[:2000])
    if item_id not in ids:
        return {"before": None, "after": next(iter(ids), None), "position": None, "count": len(ids)}
    at = ids.index(item_id)
    return {
        "before": ids[at - 1] if at else None,
        "after": ids[at + 1] if at + 1 < len(ids) else None,
        "position": at + 1,
        "count": len(ids),
    }


def item_about(actor: Actor, request_id: UUID) -> ReviewItem | None:
    """The item of a record, as far as the actor may know of it."""
    return access.items_of(actor).filter(request_id=request_id).first()


def _read(words_of: Callable[[R], W | None], row: R) -> tuple[W | None, bool]:
    """(what is written there, whether that was altered)"""
    try:
        return words_of(row), False
    except envelope.Tampered:
        return None, True


def _summaries(request_ids: list[UUID]) -> dict[UUID, selectors.Summary]:
    days = {day_of(request_id) for request_id in request_ids}
    records = AuditRecord.objects.filter(day__in=days, id__in=request_ids)
    return {summary.id: summary for summary in selectors.summaries(records)}
