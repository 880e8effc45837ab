"""Working on an item: claim it, open its record, comment, decide, take the decision back, reopen.

Deeds raise NotVisible, Refused (also when somebody else was faster: code "conflict") and AuditUnavailable.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.utils.translation import gettext as _

from audit import selectors
from audit.review import access, flags, hooks, people, queues, rules, steps
from audit.review.deeds import deed
from audit.review.models import Deed, Outcome, ReviewItem, ReviewStep, Source, State
from tenants import clock, envelope
from tenants.access import Actor, NotVisible
from tenants.actors import system_actor
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 500
_SETTLED_AT_ONCE = 100
_TOLD = 300  # Characters of the reason of an opening.
_NEWS = (Deed.FLAGGED, Deed.DECIDED, Deed.WITHDRAWN, Deed.APPROVED, Deed.RETURNED, Deed.REOPENED)


@dataclass(frozen=True, slots=True)
class Opened:
    """The record of an item with its content, and the flags that say why it is here. reason: as it was recorded."""

    item: ReviewItem
    view: selectors.RecordView
    reason: str


@deed
def claim(*, actor: Actor, item_id: UUID, take_over: bool = False) -> ReviewItem:
    """Say that the actor works on it, for a while: others are told, so that two people do not do the same work.

    Refused "claimed" while somebody else does, unless taken over from them.
    """
    item = access.item_of(actor, item_id, lock=True)
    _allow(item, Deed.CLAIMED)
    if not take_over:
        refuse_claimed(actor, item)
    _claim(actor, item)
    return item


@deed
def release(*, actor: Actor, item_id: UUID) -> None:
    """Let others work on it; the actor goes on to something else."""
    item = access.item_of(actor, item_id, lock=True)
    if item.claimed_by_id == actor.user_id:
        item.claimed_by_id, item.claimed_until = None, None
        item.save(update_fields=["claimed_by_id", "claimed_until"])


@deed
def open_item(*, actor: Actor, item_id: UUID) -> Opened:
    """The record under review with its content, once its opening is recorded with the flags' reason.

    The opening is known only to those who work on such items. Claims the item where nobody else has; let nothing of
    the result out before the transaction that is open is committed.
    """
    item = access.item_of(actor, item_id, lock=True)
    reason = reason_to_open(item)
    view = selectors.open_record(
        actor, item.request_id, reason=reason, client_address=actor.address, confined_to=item.room_id
    )
    if (item.state, Deed.CLAIMED) in rules.NEXT and not is_claimed_by_another(actor, item):
        _claim(actor, item)
    return Opened(item, view, reason)


def reason_to_open(item: ReviewItem) -> str:
    """What is recorded as the reason of an opening: where the flags came from, and what the newest says."""
    found = list(flags.flags_of(item))
    sources = dict.fromkeys(str(Source(flag.source).label) for flag in found)
    try:
        words = flags.words_of(found[-1])
    except envelope.Tampered:
        words = None
    said = (words.reason if words else "") or found[-1].code
    reason = _("Review of a flag (%(sources)s)") % {"sources": ", ".join(sources)}
    return f"{reason}: {said}"[:_TOLD] if said else reason


@deed
def comment(*, actor: Actor, item_id: UUID, text: str) -> ReviewStep:
    """Say something to whoever works on the item."""
    item = access.item_of(actor, item_id, lock=True)
    return steps.add(actor, item, Deed.COMMENTED, words=flags.clean_words(text, "comment"))


@deed
def decide(
    *, actor: Actor, item_id: UUID, outcome: str, reason: str, seen_turn: int | None = None
) -> ReviewItem:
    """Dismiss, confirm or escalate, with a reason.

    Takes effect after a moment in which it can be taken back, or when a second person has signed it. seen_turn: the
    item's turn when the decision was formed; Refused "conflict" when something came in between.
    """
    item = access.item_of(actor, item_id, lock=True)
    _decide(actor, item, outcome, flags.clean_words(reason, "reason"), seen_turn)
    return item


@deed
def decide_many(*, actor: Actor, item_ids: Collection[UUID], outcome: str, reason: str) -> list[ReviewItem]:
    """The same decision, with one reason, on several items: on all or on none."""
    if len(item_ids) > MOST_AT_ONCE:
        raise Refused("too_many", _("Select at most %(most)d at once.") % {"most": MOST_AT_ONCE})
    reason = flags.clean_words(reason, "reason")
    items = [access.item_of(actor, item_id, lock=True) for item_id in sorted(set(item_ids))]
    for item in items:
        _decide(actor, item, outcome, reason, None)
    return items


@deed
def withdraw(*, actor: Actor, item_id: UUID) -> ReviewItem:
    """Take one's own decision back before it takes effect, or before the second person has signed it."""
    item = access.item_of(actor, item_id, lock=True)
    in_time = item.state == State.SECOND or (
        item.takes_effect is not None and clock.now() < item.takes_effect
    )
    if (item.state, Deed.WITHDRAWN) not in rules.NEXT or not in_time:
        raise conflict(actor, item, _("It has taken effect. Reopen it, with a reason, to decide anew."))
    if item.decided_by_id != actor.user_id:
        raise Refused("not_yours", _("Only whoever decided can take it back. Return it, or reopen it later."))
    outcome, decided = item.outcome, _decided(item)
    back_to_open(item, assignee_id=actor.user_id)
    data = {"decision": decided.seq} if decided else {}
    steps.add(actor, item, Deed.WITHDRAWN, outcome=outcome, data=data)
    return item


@deed
def reopen(*, actor: Actor, item_id: UUID, reason: str) -> ReviewItem:
    """Ask anew about what was decided, with a reason; what became a case goes on there."""
    item = access.item_of(actor, item_id, lock=True)
    reason = flags.clean_words(reason, "reason")
    _allow(item, Deed.REOPENED, actor)
    if item.outcome == Outcome.ESCALATE:
        raise Refused("is_a_case", _("This has become a case. Go on there."))
    outcome = item.outcome
    back_to_open(item, assignee_id=None)
    item.opened, item.due = clock.now(), queues.due(item.queue, item.severity)
    item.save(update_fields=["opened", "due"])
    steps.add(actor, item, Deed.REOPENED, words=reason, outcome=outcome)
    return item


@deed
def move(*, actor: Actor, item_ids: Collection[UUID], queue_id: UUID) -> int:
    """Put open items into another queue; how many moved. Whoever works on them there sees them from now on."""
    queue = queues.own_queue(actor, queue_id)
    count = 0
    for item_id in sorted(set(item_ids)):
        item = access.item_of(actor, item_id, lock=True)
        _allow(item, Deed.MOVED, actor)
        if item.queue_id == queue.pk:
            continue
        former, item.queue = item.queue_id, queue
        item.room = steps.room(queue, item.subject_user_id)
        item.due = min(item.due, queues.due(queue, item.severity))
        if item.assignee_id is not None and not access.may_work_on(item, item.assignee_id):
            item.assignee_id = None
        item.claimed_by_id, item.claimed_until = None, None
        item.save()
        steps.add(actor, item, Deed.MOVED, data={"from": str(former), "to": str(queue.pk)})
        count += 1
    return count


def settle(tenant: Tenant) -> int:
    """Let the decisions take effect whose time to be taken back is over; how many did. Opens the tenant's scope."""
    with tenant_scope(tenant.pk):
        due = ReviewItem.objects.filter(state=State.DECIDED, takes_effect__lte=clock.now())
        ids = list(due.order_by("takes_effect").values_list("pk", flat=True)[:_SETTLED_AT_ONCE])
    return sum(_settle(tenant, item_id) for item_id in ids)


# --- Shared with seconds.py ------------------------------------------------------------------


def is_claimed_by_another(actor: Actor, item: ReviewItem) -> bool:
    return (
        item.claimed_until is not None
        and item.claimed_until > clock.now()
        and item.claimed_by_id != actor.user_id
    )


def refuse_claimed(actor: Actor, item: ReviewItem) -> None:
    if is_claimed_by_another(actor, item):
        message = _("%(name)s is working on this. Take it over, or go on with another.")
        raise Refused("claimed", message % {"name": people.name(item.claimed_by_id)})


def refuse_stale(actor: Actor, item: ReviewItem, seen_turn: int | None) -> None:
    if seen_turn is not None and seen_turn != item.turn:
        raise conflict(actor, item, _("Something came in between. Look at it again."))


def conflict(actor: Actor, item: ReviewItem, otherwise: str) -> Refused:
    """That somebody else was faster, with who and what, as far as it was somebody else."""
    last = ReviewStep.objects.filter(item=item, deed__in=_NEWS).order_by("-seq").first()
    if last is None or last.actor_id == actor.user_id:
        return Refused("conflict", otherwise)
    told = {
        Deed.FLAGGED: _("%(name)s flagged this again meanwhile. Look at it again."),
        Deed.DECIDED: _("%(name)s decided this meanwhile."),
        Deed.WITHDRAWN: _("%(name)s took the decision back meanwhile."),
        Deed.APPROVED: _("%(name)s signed this meanwhile."),
        Deed.RETURNED: _("%(name)s returned this meanwhile."),
        Deed.REOPENED: _("%(name)s reopened this meanwhile. Look at it again."),
    }
    name = people.actor_of(last, people.names([last.actor_id]))
    return Refused("conflict", told[Deed(last.deed)] % {"name": name})


def back_to_open(item: ReviewItem, *, assignee_id: UUID | None) -> None:
    """The item waits again, as if it had not been decided; its history says that it was."""
    item.state, item.turn, item.assignee_id = State.OPEN, item.turn + 1, assignee_id
    if assignee_id is not None and not access.may_work_on(item, assignee_id):
        item.assignee_id = None
    item.forget_decision()
    item.save()


def close(actor: Actor, item: ReviewItem) -> None:
    """The decision takes effect. An escalation opens its case now, as the actor's deed, or this raises."""
    item.state, item.closed, item.takes_effect = State.CLOSED, clock.now(), None
    item.turn += 1
    item.claimed_by_id, item.claimed_until = None, None
    if item.outcome == Outcome.ESCALATE:
        item.case_id = hooks.escalate(actor=actor, item=item, reason=decision_words(item))
    item.save()


def decision_words(item: ReviewItem) -> str:
    """The reason of the decision that stands, in its words, or that these are lost."""
    decided = _decided(item)
    try:
        found = steps.words_of(decided) if decided else None
    except envelope.Tampered:
        found = None
    return found or _("The reason of the escalation cannot be read any more.")


# --- Inside ----------------------------------------------------------------------------------


def _decided(item: ReviewItem) -> ReviewStep | None:
    return ReviewStep.objects.filter(item=item, deed=Deed.DECIDED).order_by("-seq").first()


def _allow(item: ReviewItem, deed_: str, actor: Actor | None = None) -> None:
    """Raises Refused "conflict" for what the table of rules does not have."""
    if (item.state, deed_) not in rules.NEXT:
        message = _("This can be done no more, or not yet. Look at it again.")
        raise conflict(actor, item, message) if actor else Refused("conflict", message)


def _claim(actor: Actor, item: ReviewItem) -> None:
    is_new = item.claimed_by_id != actor.user_id or (item.claimed_until or clock.now()) <= clock.now()
    item.claimed_by_id, item.claimed_until = actor.user_id, clock.now() + rules.CLAIM
    item.save(update_fields=["claimed_by_id", "claimed_until"])
    if is_new:
        steps.add(actor, item, Deed.CLAIMED)


def _decide(actor: Actor, item: ReviewItem, outcome: str, reason: str, seen_turn: int | None) -> None:
    if outcome not in Outcome.values:
        raise Refused("choice_unknown", _("Choose one of those offered."), "outcome")
    _allow(item, Deed.DECIDED, actor)
    refuse_stale(actor, item, seen_turn)
    refuse_claimed(actor, item)
    if item.assignee_id not in (None, actor.user_id):
        message = _("This is assigned to %(name)s. Have it assigned to you first.")
        raise Refused("assigned", message % {"name": people.name(item.assignee_id)})
    if outcome == Outcome.ESCALATE and not hooks.can_escalate():
        raise Refused("no_cases", _("Cases are not available here. Confirm the flag instead."), "outcome")
    now = clock.now()
    state = rules.after_decision(outcome, item.severity, seconds_escalations=item.queue.seconds_escalations)
    item.state, item.outcome, item.turn = state, outcome, item.turn + 1
    item.decided_by_id, item.decided, item.approved_by_id = actor.user_id, now, None
    item.takes_effect = now + rules.UNDO if state == State.DECIDED else None
    item.assignee_id = actor.user_id
    item.claimed_by_id, item.claimed_until = None, None
    item.save()
    data = {
        "severity": item.severity,
        "queue": str(item.queue_id),
        "needs_second": state == State.SECOND,
        "waited_s": round((now - item.opened).total_seconds()),
        "late": now > item.due,
    }
    steps.add(actor, item, Deed.DECIDED, words=reason, outcome=outcome, data=data)


def _settle(tenant: Tenant, item_id: UUID) -> bool:
    """One decision, in a transaction of its own; what stands in the way of one does not hold up the others."""
    custos = system_actor(tenant, "review")
    try:
        with tenant_scope(tenant.pk):
            item = ReviewItem.objects.select_for_update(of=("self",)).select_related("queue").get(pk=item_id)
            if item.state != State.DECIDED or item.takes_effect is None or item.takes_effect > clock.now():
                return False
            escalates = item.outcome == Outcome.ESCALATE
            close(people.on_behalf_of(tenant, item.decided_by_id) if escalates else custos, item)
            steps.add(custos, item, Deed.TOOK_EFFECT, outcome=item.outcome)
        return True
    except (NotVisible, Refused) as error:
        # Whoever decided has left, or there are no cases any more: somebody else has to look.
        code = error.code if isinstance(error, Refused) else "author_gone"
        with tenant_scope(tenant.pk):
            item = ReviewItem.objects.select_for_update(of=("self",)).select_related("queue").get(pk=item_id)
            if item.state == State.DECIDED:
                outcome = item.outcome
                back_to_open(item, assignee_id=None)
                steps.add(custos, item, Deed.RETURNED, outcome=outcome, data={"why": code})
        return False
    except Exception:
        logger.exception("the decision on review item %s could not take effect; it is tried again", item_id)
        return False
