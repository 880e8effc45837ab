"""Background work of the tenants."""

from celery import shared_task

from tenants import lifecycle


@shared_task
def destroy_tenants() -> None:
    """Delete what belongs to tenants whose grace is over, and destroy their keys."""
    lifecycle.destroy_due()
