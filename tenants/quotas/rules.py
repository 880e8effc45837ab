"""Which limits bind an actor."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Q

from tenants.actors import Actor
from tenants.groups import group_ids_of
from tenants.models import ApiKey, Group
from tenants.quotas.models import Limit, Metric, SubjectKind
from tenants.scope import tenant_scope

CACHED_S = 10.0  # The longest until a change of groups is noticed; changed limits have another version.
_CACHED_MOST = 10_000
_KEYS_MOST = 100  # Keys that followed one another by rotation.

MINUTE = frozenset({Metric.REQUESTS_PER_MINUTE, Metric.TOKENS_PER_MINUTE})
PERIOD = frozenset({Metric.TOKENS_PER_DAY, Metric.TOKENS_PER_MONTH})
TOKENS = frozenset({Metric.TOKENS_PER_MINUTE, *PERIOD})


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit as it binds one subject: `subject` is None for the tenant. `name` is a group's."""

    limit_id: UUID
    metric: Metric
    kind: SubjectKind
    subject: UUID | None
    value: int
    is_ceiling: bool = False
    name: str = field(default="", compare=False)

    @property
    def counts_tokens(self) -> bool:
        return self.metric in TOKENS


@dataclass(frozen=True, slots=True)
class _Subjects:
    """Who an actor is to limits. `keys`: the actor's own and those it replaced, nearest first."""

    user: UUID | None
    keys: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """The rules of an actor, and the version of the tenant's limits that they were looked up at."""

    rules: tuple[Rule, ...]
    version: str
    since: float = field(default_factory=time.monotonic)


_known: dict[tuple[UUID, UUID | None, UUID | None], Known] = {}


def known(actor: Actor) -> Known | None:
    """What was looked up a moment ago; whether it still holds is for the counters' script to say."""
    found = _known.get(_key(actor))
    return found if found is not None and time.monotonic() - found.since < CACHED_S else None


def remember(actor: Actor, found: Known) -> None:
    if len(_known) >= _CACHED_MOST:
        _known.clear()
    _known[_key(actor)] = found


def rules_for(actor: Actor) -> tuple[Rule, ...]:
    """The limits that bind the actor, each with its own counter. Opens the tenant's scope; one to five queries."""
    with tenant_scope(actor.tenant_id):
        return tuple(_load(actor))


def rule_of(limit: Limit, name: str = "") -> Rule:
    """The rule of a limit for its own subject."""
    metric, kind = Metric(limit.metric), SubjectKind(limit.subject_kind)
    return Rule(limit.pk, metric, kind, limit.subject_id, limit.value, limit.is_ceiling, name)


def _key(actor: Actor) -> tuple[UUID, UUID | None, UUID | None]:
    return actor.tenant_id, actor.user_id, actor.api_key_id


def _load(actor: Actor) -> list[Rule]:
    of = Q(subject_kind=SubjectKind.TENANT) | Q(subject_kind=SubjectKind.GROUP)
    if actor.user_id is not None:
        of |= Q(subject_kind=SubjectKind.MEMBER) & (Q(subject_id=None) | Q(subject_id=actor.user_id))
    if actor.api_key_id is not None:
        # Those of other keys come too: which of them this one replaced is looked up only when there are any.
        of |= Q(subject_kind=SubjectKind.KEY)
    limits = list(Limit.objects.filter(of).order_by("pk"))
    by_kind = {kind: [each for each in limits if each.subject_kind == kind] for kind in SubjectKind}
    rules = [rule_of(limit) for limit in by_kind[SubjectKind.TENANT]]
    rules += _of_groups(actor, by_kind[SubjectKind.GROUP])
    rules += _nearest(by_kind[SubjectKind.MEMBER], [actor.user_id] if actor.user_id else [])
    if of_keys := by_kind[SubjectKind.KEY]:
        rules += _nearest(of_keys, _lineage(actor.api_key_id))
    return rules


def _of_groups(actor: Actor, limits: list[Limit]) -> list[Rule]:
    if not limits:
        return []
    groups = group_ids_of(actor.user_id)
    own = [limit for limit in limits if limit.subject_id in groups]
    names = dict(Group.objects.filter(pk__in=[each.subject_id for each in own]).values_list("pk", "name"))
    return [rule_of(limit, names.get(limit.subject_id, "")) for limit in own]


def _nearest(limits: list[Limit], subjects: list[UUID]) -> list[Rule]:
    """Of each metric the first subject's limit that there is, or else the one for everybody, counted for the first."""
    rules = []
    for metric in Metric:
        of_metric = {limit.subject_id: limit for limit in limits if limit.metric == metric}
        own = next((of_metric[each] for each in subjects if each in of_metric), None)
        if own is not None:
            rules.append(rule_of(own))
        elif subjects and None in of_metric:
            limit = of_metric[None]
            rules.append(Rule(limit.pk, metric, SubjectKind(limit.subject_kind), subjects[0], limit.value))
    return rules


def _lineage(key_id: UUID | None) -> list[UUID]:
    """The key and those it replaced: a limit stays with a key that is rotated, and both draw on it."""
    found: list[UUID] = []
    while key_id is not None and key_id not in found and len(found) < _KEYS_MOST:
        found.append(key_id)
        key_id = ApiKey.objects.filter(pk=key_id).values_list("rotates_id", flat=True).first()
    return found
