"""What the worker runs to notice unusual reading; beat's schedule is in console.celery."""

import logging

from celery import shared_task

from audit.readers import watch
from tenants.models import Tenant

logger = logging.getLogger(__name__)


@shared_task
def watch_readers() -> None:
    """One tenant after the other; what goes wrong in one does not hold up the others."""
    for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("slug"):
        try:
            watch.look(tenant)
        except Exception:
            logger.exception("readers of the tenant %s are looked at again next time", tenant.slug)
