"""What the worker runs for documents; beat's schedule is in console.celery."""

from celery import shared_task

from knowledge.ingestion import work


@shared_task(expires=10)
def read_documents() -> None:
    """Work on documents that wait, for a while; the next beat goes on."""
    work.run_a_while()


@shared_task
def forget_uploads() -> None:
    """Drop uploads that nobody goes on with."""
    work.drop_abandoned()
