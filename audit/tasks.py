"""What the worker runs for the audit; beat's schedule is in console.celery."""

from celery import shared_task

from audit import partitions, reaper


@shared_task
def close_orphans() -> None:
    """Close the records of generations whose process died."""
    reaper.close_orphans()


@shared_task
def ensure_partitions() -> None:
    """Make the audit's partitions of today and the coming days."""
    partitions.ensure_partitions()
