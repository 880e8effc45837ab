"""What keys there are and whether they open: figures, states and names, never a key."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import QuerySet

from tenants.keyring import data_keys, providers, rotation, shards, tenant_keys
from tenants.keyring.errors import KeyDestroyed, KeysUnavailable, Tampered
from tenants.models import DataKey, DestroyedKey, Tenant
from tenants.scope import tenant_scope

CONFINED = "case:"  # How the purposes begin of what only some may know to be there.


@dataclass(frozen=True, slots=True)
class TenantState:
    """The keys of one tenant. made: when its newest key was made; wrapped: when that was wrapped last.

    generation: 0 before anything was sealed. data_keys: how many; with_shard: of them; to_wrap, to_move: what a rotation
    has yet to do (data keys, keys of the tenant). superseded: rows that can be retired.
    """

    slug: str
    name: str
    generation: int
    provider: str
    provider_key: str
    made: datetime | None
    wrapped: datetime | None
    data_keys: int
    with_shard: int
    destroyed: int
    to_wrap: int
    to_move: int
    superseded: int

    @property
    def is_current(self) -> bool:
        return not (self.to_wrap or self.to_move)

    @property
    def percent(self) -> int:
        """How much of the tenant's keys lies under the newest ones."""
        total = self.data_keys + 1
        return round(100 * (total - min(total, self.to_wrap + self.to_move)) / total)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one key. kind: "lost" (its shard is gone and nobody destroyed it), "altered", "unavailable",
    "left" (a shard beside a key that is destroyed)."""

    kind: str
    purpose: str
    day: date | None
    detail: str


@dataclass(frozen=True, slots=True)
class DayState:
    """The key of one purpose and day as an officer sees it. destroyed, reason: when and why, where it is no more."""

    purpose: str
    day: date
    made: datetime | None
    has_shard: bool
    destroyed: datetime | None = None
    reason: str = ""


def states(*, key_id: str) -> list[TenantState]:
    """Every tenant that is not deleted; key_id: of the present provider, "" when it is away."""
    return [state(tenant, key_id=key_id) for tenant in rotation.tenants()]


def check(tenant: Tenant) -> Iterator[Finding]:
    """What of the tenant's keys does not open. Opens the tenant's scope."""
    with tenant_scope(tenant.pk):
        for key in tenant_keys.rows():
            try:
                providers.named(key.provider).unwrap(tenant.pk, bytes(key.wrapped))
            except Tampered as error:
                yield Finding(
                    "altered", "", None, f"the tenant's key {key.generation}.{key.wrapping}: {error}"
                )
            except KeysUnavailable as error:
                yield Finding(
                    "unavailable", "", None, f"the tenant's key {key.generation}.{key.wrapping}: {error}"
                )
        newest = list(_newest())
        gone = set(DestroyedKey.objects.values_list("purpose", "day"))
        for row in newest:
            place = (tenant.pk, row.purpose, row.day)
            try:
                data_keys.unwrapped(place, data_keys.rows(place))
            except KeyDestroyed as error:
                yield Finding("lost", row.purpose, row.day, str(error))
            except Tampered as error:
                yield Finding("altered", row.purpose, row.day, str(error))
            except KeysUnavailable as error:
                yield Finding("unavailable", row.purpose, row.day, str(error))
    for purpose, day in shards.places(tenant.pk):
        if (purpose, day) in gone:
            yield Finding("left", purpose, day, "the shard of a destroyed key is still there")


def days(purposes: tuple[str, ...]) -> list[DayState]:
    """The keys of these purposes, those destroyed among them, the newest day first. Inside the tenant's scope."""
    found = [
        DayState(row.purpose, row.day, row.created, data_keys.needs_shard(row))
        for row in _newest().filter(purpose__in=purposes)
    ]
    first = {
        (purpose, day): created
        for purpose, day, created in DataKey.objects.filter(version=1).values_list(
            "purpose", "day", "created"
        )
    }
    kept = [
        DayState(each.purpose, each.day, first.get((each.purpose, each.day), each.made), each.has_shard)
        for each in found
    ]
    gone = [
        DayState(row.purpose, row.day, None, False, row.destroyed, str(row.get_reason_display()))
        for row in DestroyedKey.objects.filter(purpose__in=purposes)
    ]
    return sorted([*kept, *gone], key=lambda each: (each.day, each.purpose), reverse=True)


def state(tenant: Tenant, *, key_id: str) -> TenantState:
    """As `states`, of one. Opens the tenant's scope."""
    with tenant_scope(tenant.pk):
        rows = list(tenant_keys.rows())
        # A case is known only to those inside: its keys are in no count that others see.
        everything = list(_newest())
        newest = [row for row in everything if not row.purpose.startswith(CONFINED)]
        data_rows = DataKey.objects.exclude(purpose__startswith=CONFINED).count()
        destroyed = DestroyedKey.objects.exclude(purpose__startswith=CONFINED).count()
    left = rotation.pending(tenant.pk, key_id=key_id) if key_id else rotation.Pending(0, 0, False)
    of_newest = [row for row in rows if row.generation == rows[0].generation] if rows else []
    in_use = {row.generation for row in everything} | {row.generation for row in rows[:1]}
    return TenantState(
        slug=tenant.slug,
        name=tenant.name,
        generation=rows[0].generation if rows else 0,
        provider=rows[0].provider if rows else "",
        provider_key=rows[0].provider_key if rows else "",
        made=of_newest[-1].created if of_newest else None,
        wrapped=of_newest[0].created if of_newest else None,
        data_keys=len(newest),
        with_shard=sum(data_keys.needs_shard(row) for row in newest),
        destroyed=destroyed,
        to_wrap=left.data_keys,
        to_move=left.wrappings,
        superseded=(data_rows - len(newest)) + (len(rows) - len(in_use)),
    )


def _newest() -> QuerySet[DataKey]:
    """The newest row of each data key of the tenant in scope."""
    return DataKey.objects.order_by("purpose", "day", "-version").distinct("purpose", "day")
