"""What the worker runs for the log; beat's schedule is in console.celery."""

from celery import shared_task

from audit.tree import sequencer


@shared_task(expires=10)
def extend_logs() -> None:
    """Give what was closed its place in every tenant's log, and sign heads."""
    sequencer.extend_all()
