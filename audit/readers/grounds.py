"""Which records somebody had a ground to open: a flag, or a case. Reviews and cases lie above, so they register here."""

from collections.abc import Callable, Collection
from uuid import UUID

Grounds = Callable[[Collection[UUID]], Collection[UUID]]

_grounds: list[Grounds] = []


def register(grounds: Grounds) -> None:
    """What tells which of these records have a ground; called within the tenant's scope."""
    if grounds not in _grounds:
        _grounds.append(grounds)


def without(request_ids: Collection[UUID]) -> set[UUID]:
    """Those of these records that nothing gave a ground to open. Inside the tenant's scope."""
    left = set(request_ids)
    for grounds in _grounds:
        if left:
            left -= set(grounds(left))
    return left
