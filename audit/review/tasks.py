"""What the worker runs for reviews; beat's schedule is in console.celery."""

import logging
from collections.abc import Callable

from celery import shared_task

from audit.review import sampling, watches, work
from tenants.models import Tenant

logger = logging.getLogger(__name__)


@shared_task
def settle_decisions() -> None:
    """Let decisions take effect that can no longer be taken back."""
    _for_each_tenant(work.settle)


@shared_task
def draw_samples() -> None:
    """Draw the periods of sampling plans that have ended, and flag what was picked."""
    _for_each_tenant(sampling.run_due)


@shared_task
def look_for_new_hits() -> None:
    """Flag what saved searches find anew."""
    _for_each_tenant(watches.look)


def _for_each_tenant(job: Callable[[Tenant], object]) -> None:
    """One after the other; what goes wrong in one does not hold up the others."""
    for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("slug"):
        try:
            job(tenant)
        except Exception:
            logger.exception("%s of the tenant %s failed and is tried again", job.__name__, tenant.slug)
