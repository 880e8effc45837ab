"""What every deed of a review has in common: one transaction in the tenant, with the rights that are left by then.

Deeds lock the item that they change and not the whole tenant, as changes of the administration do: people decide and
rules flag at the same time.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from tenants.access import Actor
from tenants.actors import refreshed
from tenants.scope import tenant_scope

P = ParamSpec("P")
R = TypeVar("R")


def deed(service: Callable[P, R]) -> Callable[P, R]:
    """A service with the keyword argument `actor`. What it raises undoes all that it did."""

    @wraps(service)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        actor = cast(Actor, kwargs["actor"])
        with tenant_scope(actor.tenant_id):
            kwargs["actor"] = refreshed(actor)
            return service(*args, **kwargs)

    return run
