"""How often a key may administer, by the management API and SCIM: so many requests a minute, counted in Valkey."""

from __future__ import annotations

from django.core.cache import cache

from tenants import clock
from tenants.actors import Actor
from tenants.quotas.models import Metric, SubjectKind
from tenants.quotas.rules import rules_for

REQUESTS_PER_MINUTE = 600


class TooFast(Exception):
    """The minute's requests are used up; retry_after: seconds until the next one."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"try again in {retry_after} s")
        self.retry_after = retry_after


def keep_pace(actor: Actor) -> None:
    """Count one request of a key. Raises TooFast, and tenants.valkey.VALKEY_ERRORS when it cannot be counted.

    A limit of requests per minute that the key has of its own also holds here, counted apart from models' requests.
    """
    own = [
        rule.value
        for rule in rules_for(actor)
        if rule.kind == SubjectKind.KEY and rule.metric == Metric.REQUESTS_PER_MINUTE
    ]
    minute, second = divmod(int(clock.now().timestamp()), 60)
    name = f"pace:{actor.tenant_id}:{actor.api_key_id}:{minute}"
    cache.add(name, 0, timeout=120)
    if cache.incr(name) > min([REQUESTS_PER_MINUTE, *own]):
        raise TooFast(60 - second)
