"""Every change of administration is recorded with what was before and after, in the transaction that makes it.

The audit lies above this package, so it registers itself as the place where changes go. Without it nothing changes.
"""

from typing import Any, Protocol
from uuid import UUID

from tenants.actors import Actor


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


def difference(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those entries of two states of one thing that are not the same in both."""
    names = [name for name in before if before[name] != after.get(name)]
    return {name: before[name] for name in names}, {name: after.get(name) for name in names}
