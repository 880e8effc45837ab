"""Saved searches: kept by one person or shared with all reviewers, run again, and looked through for new hits.

Services and selectors; whoever may search may save. Raises NotVisible and Refused.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils.translation import gettext as _

from audit.search.asked import Asked
from audit.search.saved_search import SavedSearch
from tenants import clock, envelope, words
from tenants.access import Actor, NotVisible, require
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.roles import AUDIT_READ, REVIEW_MANAGE, REVIEW_WORK

PURPOSE = "audit.searches"  # Of the keys: a saved search outlives the days of the records that it finds.
MOST = 200  # A person's.
UNDO_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A saved search in plain. is_mine: the one who asks made it; may_change: and may change it."""

    id: UUID
    name: str
    asked: Asked
    owner_label: str
    shared: bool
    flags: bool
    created: datetime
    looked_until: datetime | None
    is_mine: bool
    may_change: bool


def all_for(actor: Actor) -> list[Saved]:
    """The actor's own and those shared with them, by name. Inside the tenant's scope."""
    require(actor, AUDIT_READ)
    found = [_opened(actor, row) for row in _visible(actor).filter(removed=None)]
    return sorted((each for each in found if each), key=lambda each: each.name.casefold())


def one(actor: Actor, saved_id: UUID) -> Saved:
    """Inside the tenant's scope."""
    require(actor, AUDIT_READ)
    return _shown(actor, _visible(actor).filter(pk=saved_id, removed=None).first())


def removed(actor: Actor, saved_id: UUID) -> Saved:
    """One that the actor deleted and can still bring back. Inside the tenant's scope."""
    require(actor, AUDIT_READ)
    row = _visible(actor).filter(pk=saved_id, removed__gt=clock.now() - UNDO_FOR).first()
    return _shown(actor, row)


@change
def save(*, actor: Actor, name: str, asked: Asked, shared: bool = False, flags: bool = False) -> Saved:
    """Keep a search under a name. flags: new hits are flagged for review from now on."""
    require(actor, AUDIT_READ)
    if actor.user_id is None:
        raise NotVisible("saved search")
    _forget_removed()
    own = SavedSearch.objects.filter(owner_id=actor.user_id, removed=None)
    if own.count() >= MOST:
        message = _("You have %(most)s saved searches, the most there can be. Delete one first.")
        raise Refused("too_many", message % {"most": MOST}, "name")
    row = SavedSearch(id=uuid7(), owner_id=actor.user_id, owner_label=actor.label)
    row.tenant_id = actor.tenant_id
    _fill(actor, row, name=name, asked=asked, shared=shared, flags=flags)
    row.save(force_insert=True)
    saved = _shown(actor, row)
    record_change(actor, "saved_search.created", subject_id=row.pk, after=_told(saved))
    return saved


@change
def update(*, actor: Actor, saved_id: UUID, **changes: Any) -> Saved:
    """Change name, asked, shared or flags."""
    row = _own_row(actor, saved_id)
    before = _shown(actor, row)
    wanted = {"name": before.name, "asked": before.asked, "shared": row.shared, "flags": row.flags, **changes}
    _fill(actor, row, **wanted)
    row.save()
    after = _shown(actor, row)
    if after != before:
        was, now = difference(_told(before), _told(after))
        record_change(actor, "saved_search.changed", subject_id=row.pk, before=was, after=now)
    return after


@change
def remove(*, actor: Actor, saved_id: UUID) -> Saved:
    """Delete it; for a day it can be brought back."""
    row = _own_row(actor, saved_id)
    saved = _shown(actor, row)
    row.removed = clock.now()
    row.save(update_fields=["removed"])
    _forget_removed()
    record_change(actor, "saved_search.deleted", subject_id=row.pk, before=_told(saved))
    return saved


@change
def restore(*, actor: Actor, saved_id: UUID) -> Saved:
    """Bring back what was deleted a moment ago."""
    saved = removed(actor, saved_id)
    if not saved.may_change:
        raise NotVisible("saved search")
    if any(each.is_mine and _same(each.name, saved.name) for each in all_for(actor)):
        raise Refused("name_taken", _("Another of your saved searches has this name by now."), "name")
    SavedSearch.objects.filter(pk=saved_id).update(removed=None)
    record_change(actor, "saved_search.restored", subject_id=saved_id, after=_told(saved))
    return saved


def _visible(actor: Actor) -> Any:
    return SavedSearch.objects.filter(Q(owner_id=actor.user_id) | Q(shared=True))


def _own_row(actor: Actor, saved_id: UUID) -> SavedSearch:
    row = _visible(actor).filter(pk=saved_id, removed=None).select_for_update().first()
    if not _shown(actor, row).may_change:
        raise NotVisible("saved search")
    assert row is not None
    return row


def _shown(actor: Actor, row: SavedSearch | None) -> Saved:
    saved = _opened(actor, row) if row is not None else None
    if saved is None:
        raise NotVisible("saved search")
    return saved


def _opened(actor: Actor, row: SavedSearch) -> Saved | None:
    """None for one whose key is gone."""
    try:
        told = json.loads(envelope.open_sealed(sealed=bytes(row.sealed), **_place(row)))
    except (envelope.KeyDestroyed, envelope.Tampered):
        return None
    is_mine = row.owner_id == actor.user_id
    return Saved(
        id=row.pk,
        name=told["name"],
        asked=Asked.of(told["asked"]),
        owner_label=row.owner_label,
        shared=row.shared,
        flags=row.flags,
        created=row.created,
        looked_until=row.looked_until,
        is_mine=is_mine,
        may_change=actor.can(AUDIT_READ) and (is_mine or (row.shared and actor.can(REVIEW_MANAGE))),
    )


def _fill(actor: Actor, row: SavedSearch, *, name: str, asked: Asked, shared: bool, flags: bool) -> None:
    name = words.clean_name(name)
    others = (each for each in all_for(actor) if each.id != row.pk and each.is_mine)
    if row.owner_id == actor.user_id and any(_same(each.name, name) for each in others):
        raise Refused("name_taken", _("Another of your saved searches has this name."), "name")
    if flags and not row.flags:
        if not actor.can(REVIEW_WORK):
            raise NotVisible(REVIEW_WORK)
        row.looked_until = clock.now()  # What is there already is not new.
    row.shared, row.flags, row.day = shared, flags, clock.today()
    told = json.dumps({"name": name, "asked": asked.told()}, ensure_ascii=False)
    row.sealed = envelope.seal(plaintext=told.encode(errors="surrogatepass"), **_place(row))


def _place(row: SavedSearch) -> dict[str, Any]:
    aad = {"saved_search": row.pk, "owner": row.owner_id}
    return {"tenant_id": row.tenant_id, "purpose": PURPOSE, "day": row.day, "aad": aad}


def _told(saved: Saved) -> dict[str, Any]:
    """What a change of the audit says of it: how it is called and used, not what it looks for."""
    return {"name": saved.name, "shared": saved.shared, "flags": saved.flags}


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _forget_removed() -> None:
    SavedSearch.objects.filter(removed__lt=clock.now() - UNDO_FOR).delete()
