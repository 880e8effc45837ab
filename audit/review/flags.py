"""Flags: the one way by which a record comes to be reviewed, for people, searches, samples and rules alike."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit import secrecy
from audit.models import AuditRecord
from audit.record import REQUESTS
from audit.review import assignment, queues, rules, sealing, steps
from audit.review.models import RANKS, SEVERITIES, Deed, Flag, ReviewItem, Severity, Source, State
from tenants import clock
from tenants.access import Actor, NotVisible, require
from tenants.actors import system_actor
from tenants.errors import Refused
from tenants.ids import day_of, uuid7
from tenants.models import Tenant
from tenants.roles import REVIEW_WORK
from tenants.scope import tenant_scope

MOST_WORDS = 2000  # Characters of a reason or comment.
FIELD = "flag"


@dataclass(frozen=True, slots=True)
class Raised:
    """What became of a flag. is_new: False where the same source had flagged the record before."""

    flag_id: UUID
    item_id: UUID
    is_new: bool


@dataclass(frozen=True, slots=True)
class FlagWords:
    """What a flag says; None: its key is gone. detail: as it was given, such as {"terms": […], "spans": […]}."""

    reason: str
    detail: dict[str, Any]


def flagging_actor(tenant: Tenant, label: str) -> Actor:
    """Custos itself as one who flags: for samples, searches and rules, which `label` names in records."""
    return system_actor(tenant, label, frozenset({REVIEW_WORK}))


def raise_flag(
    *,
    actor: Actor,
    request_id: UUID,
    source: str,
    severity: str = Severity.MEDIUM,
    source_id: str = "",
    reason: str = "",
    code: str = "",
    detail: dict[str, Any] | None = None,
) -> Raised:
    """Put a record under review; it waits in the queue that takes such flags, with all its flags in one item.

    source_id: which rule, plan or search; by hand it is the person. A source flags a record once: again returns what
    is there. reason: words, sealed. code: a short reason that is nobody's words, plain. detail: JSON, sealed; "terms"
    (words to highlight) and "spans" ([{"field": "input" or "output", "start", "end"}]) are shown to reviewers.

    Opens the tenant's scope; part of the transaction that is open. Raises NotVisible without review.work and for
    records that do not exist, Refused for what makes no sense, AuditUnavailable when it cannot be recorded.
    """
    require(actor, REVIEW_WORK)
    if source == Source.HAND:
        source_id = str(actor.user_id)
    _check(source=source, severity=severity, source_id=source_id, reason=reason, code=code)
    with tenant_scope(actor.tenant_id):
        record = _record(actor, request_id)
        if actor.user_id is not None and record.user_id == actor.user_id:
            raise Refused("own_record", _("This is your own record. Ask a colleague to flag it."))
        item, is_fresh = _item(record, source, severity)
        known = Flag.objects.filter(item=item, source=source, source_id=source_id).first()
        if known is not None:
            return Raised(known.pk, item.pk, False)
        flag = _insert(actor, item, source, source_id, severity, reason, code, detail or {})
        _gather(actor, item, flag, is_fresh=is_fresh, reason=reason)
        return Raised(flag.pk, item.pk, True)


def flags_of(item: ReviewItem) -> QuerySet[Flag]:
    """An item's flags, oldest first; inside the tenant's scope."""
    return Flag.objects.filter(item=item).order_by("created", "pk")


def words_of(flag: Flag) -> FlagWords | None:
    """What a flag says; None when its key is gone. Inside the tenant's scope."""
    found = sealing.unseal(flag.sealed, tenant_id=flag.tenant_id, row_id=flag.pk, field=FIELD)
    return None if found is None else FlagWords(found["reason"], found["detail"])


def clean_words(text: str, field: str, *, required: bool = True) -> str:
    """A reason or a comment as it is kept. Raises Refused."""
    text = text.strip()
    if required and not text:
        raise Refused("words_missing", _("Write why. It is kept with the decision."), field)
    if len(text) > MOST_WORDS:
        raise Refused("too_long", _("Use at most %(most)d characters.") % {"most": MOST_WORDS}, field)
    return text


def _check(*, source: str, severity: str, source_id: str, reason: str, code: str) -> None:
    if source not in Source.values:
        raise ValueError(f"no flags come from {source!r}: use one of {', '.join(Source.values)}")
    if severity not in RANKS:
        raise Refused("choice_unknown", _("Choose one of those offered."), "severity")
    if not source_id or len(source_id) > 64:
        raise ValueError(
            "name the rule, plan or search that flags in at most 64 characters, so that it flags a record once"
        )
    if len(code) > 64:
        raise ValueError("a code is a name of at most 64 characters, not a text")
    clean_words(reason, "reason", required=source == Source.HAND)


def _record(actor: Actor, request_id: UUID) -> AuditRecord:
    """The record to flag: something that was asked of a model, and that exists for the actor."""
    try:
        day = day_of(request_id)
    except (ValueError, OverflowError) as error:
        raise NotVisible("record") from error
    found = AuditRecord.objects.filter(day=day, id=request_id, kind__in=REQUESTS)
    record = secrecy.visible(actor, found).only("id", "user_id").first()
    if record is None:
        raise NotVisible("record")
    return record


def _item(record: AuditRecord, source: str, severity: str) -> tuple[ReviewItem, bool]:
    """The record's item, locked, and whether this flag makes it."""
    found = ReviewItem.objects.select_for_update(of=("self",)).select_related("queue")
    item = found.filter(request_id=record.id).first()
    if item is not None:
        return item, False
    queue = queues.queue_for(source, severity)
    fresh = ReviewItem(
        request_id=record.id,
        subject_user_id=record.user_id,
        queue=queue,
        room=steps.room(queue, record.user_id),
        rank=RANKS[severity],
        due=queues.due(queue, severity),
    )
    # Another process may flag the record at this moment: the first to commit makes the item and both find that one.
    ReviewItem.objects.bulk_create([fresh], ignore_conflicts=True)
    item = found.get(request_id=record.id)
    return item, item.pk == fresh.pk


def _insert(
    actor: Actor,
    item: ReviewItem,
    source: str,
    source_id: str,
    severity: str,
    reason: str,
    code: str,
    detail: dict[str, Any],
) -> Flag:
    flag_id = uuid7()
    value = {"reason": reason.strip(), "detail": detail}
    return Flag.objects.create(
        id=flag_id,
        item=item,
        source=source,
        source_id=source_id,
        severity=severity,
        code=code,
        raised_by_id=actor.user_id,
        raised_by=actor.label,
        sealed=sealing.seal(value, tenant_id=actor.tenant_id, row_id=flag_id, field=FIELD),
    )


def _gather(actor: Actor, item: ReviewItem, flag: Flag, *, is_fresh: bool, reason: str) -> None:
    """What a further flag means for where the item stands, and the record of it."""
    before, rank = item.state, max(item.rank, RANKS[flag.severity])
    item.state = rules.after_flag(item.state, item.outcome)
    is_anew = item.state == State.OPEN and before != State.OPEN
    rises = rank > item.rank
    item.rank, item.turn = rank, item.turn + 1
    if is_anew:
        item.opened = clock.now()
        item.forget_decision()
    if not is_fresh and item.state == State.OPEN and (is_anew or rises):
        severity = SEVERITIES[item.rank]
        if item.assignee_id is None:
            item.queue = queues.queue_for(flag.source, severity)
            item.room = steps.room(item.queue, item.subject_user_id)
        again = queues.due(item.queue, severity)
        item.due = again if is_anew else min(item.due, again)
    item.save()
    data = {"source": flag.source, "severity": flag.severity, "flag": str(flag.pk), "state": item.state}
    steps.add(actor, item, Deed.FLAGGED, words=reason.strip(), data=data)
    if item.state == State.OPEN and item.assignee_id is None and item.queue.assigns_in_turn:
        assignment.give_in_turn(actor, item)
