"""Background work of the console itself."""

import time

from celery import shared_task
from django.core.cache import cache
from django.core.management import call_command

HEARTBEAT_KEY = "worker:heartbeat"


@shared_task
def heartbeat() -> None:
    """Sent by beat, run by a worker: that it was run lately shows that both are alive."""
    cache.set(HEARTBEAT_KEY, time.time(), timeout=3600)


@shared_task
def clear_sessions() -> None:
    call_command("clearsessions")
