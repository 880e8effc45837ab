"""What the worker runs for the search; beat's schedule is in console.celery."""

from celery import shared_task

from audit.search import index

# One run ends before the next is stale.
MOST_A_RUN = 20_000


@shared_task
def index_waiting() -> None:
    """Put records that ended into the index."""
    index.index_waiting(MOST_A_RUN)
