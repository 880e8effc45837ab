"""What the worker runs for the log; beat's schedule is in console.celery."""

import threading

from celery import shared_task

from audit.tree import sequencer

_at_work = threading.Lock()


@shared_task(expires=10)
def extend_logs() -> None:
    """Give what was closed its place in every tenant's log, and sign heads."""
    if _at_work.acquire(blocking=False):  # Else the run before still does that.
        try:
            sequencer.extend_all()
        finally:
            _at_work.release()
