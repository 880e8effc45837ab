"""What the worker runs for retention; beat's schedule is in console.celery."""

from celery import shared_task

from audit.retention import destruction


@shared_task
def let_go() -> None:
    """Announce what will go, do what is decided, destroy what is due."""
    destruction.run_all()
