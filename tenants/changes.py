"""How a tenant is changed: whole or not at all, one change after the other, each recorded with what was before and after.

The audit lies above this package, so it registers itself as the place where changes go. Without it nothing changes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

from django.db import transaction

from tenants import hints
from tenants.actors import Actor, refreshed
from tenants.models import Tenant
from tenants.scope import tenant_scope

P = ParamSpec("P")
R = TypeVar("R")


class Sink(Protocol):
    """Records a change as part of the open transaction, or raises."""

    def __call__(
        self,
        *,
        actor: Actor,
        kind: str,
        detail: dict[str, Any],
        subject_id: UUID | None,
        client_address: str,
    ) -> object: ...


@contextmanager
def changing(tenant_id: UUID) -> Iterator[Tenant]:
    """The tenant's scope, in which nobody else changes the tenant until the transaction ends; and its row.

    So what a change has looked up (who else is an owner, what stands below a group) is still so when it is committed,
    and two changes never wait for each other.
    """
    with tenant_scope(tenant_id):
        # no_key: rows that refer to the tenant can still be written, as the audit's.
        yield Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


def change(service: Callable[P, R]) -> Callable[P, R]:
    """A service that changes the tenant of its keyword argument `actor`, within `changing`.

    What it raises undoes all that it did, also where a page catches that and goes on. The actor may do what is left of
    their rights by the time it is their turn.
    """

    @wraps(service)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        actor = cast(Actor, kwargs["actor"])
        with changing(actor.tenant_id):
            kwargs["actor"] = refreshed(actor)
            return service(*args, **kwargs)

    return run


_sink: Sink | None = None


def register(sink: Sink) -> None:
    """Where changes are recorded from now on."""
    global _sink
    _sink = sink


def record_change(
    actor: Actor,
    kind: str,
    *,
    subject_id: UUID | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record that `actor` did `kind` ("member.role_changed"). Call inside the scope and transaction of the change.

    before, after: the fields that differ, ready for JSON; {} or None where there was or is nothing. Never a secret.
    """
    if _sink is None:
        raise RuntimeError("no audit is there to record changes, so none is made")
    _sink(
        actor=actor,
        kind=kind,
        subject_id=subject_id,
        client_address=actor.address,
        detail={**(detail or {}), "before": before or {}, "after": after or {}},
    )
    transaction.on_commit(partial(hints.changed, actor.tenant_id))


def difference(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those entries of two states of one thing that are not the same in both."""
    names = [name for name in before if before[name] != after.get(name)]
    return {name: before[name] for name in names}, {name: after.get(name) for name in names}
