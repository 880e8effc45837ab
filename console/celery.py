"""The Celery application: `celery -A console worker` and `beat`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

from typing import Any

from celery import Celery
from celery.signals import worker_init
from django.conf import settings

app = Celery("custos")


def broker_url(redis_url: str) -> str:
    """The Redis address as kombu spells it: its unix sockets have a scheme of their own."""
    return redis_url.replace("unix://", "redis+socket://", 1)


app.conf.update(
    broker_url=broker_url(settings.REDIS_URL),
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": "custos:celery:"},
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    # A task that finds no worker in time is stale: the next beat sends another.
    task_default_expires=60,
    timezone="UTC",
    beat_schedule={
        "heartbeat": {"task": "console.tasks.heartbeat", "schedule": 5.0},
        "close orphans": {"task": "audit.tasks.close_orphans", "schedule": 15.0},
        "index records": {"task": "audit.search.tasks.index_waiting", "schedule": 2.0},
        "extend logs": {"task": "audit.tree.tasks.extend_logs", "schedule": 2.0},
        "settle decisions": {"task": "audit.review.tasks.settle_decisions", "schedule": 10.0},
        "draw samples": {"task": "audit.review.tasks.draw_samples", "schedule": 60.0},
        "look for new hits": {"task": "audit.review.tasks.look_for_new_hits", "schedule": 900.0},
        "watch readers": {"task": "audit.readers.tasks.watch_readers", "schedule": 60.0},
        "ensure partitions": {"task": "audit.tasks.ensure_partitions", "schedule": 3600.0},
        "retention": {"task": "audit.retention.tasks.let_go", "schedule": 300.0},
        "remind of deadlines": {"task": "console.tasks.remind_of_deadlines", "schedule": 900.0},
        "read documents": {"task": "knowledge.ingestion.tasks.read_documents", "schedule": 2.0},
        "forget uploads": {"task": "knowledge.ingestion.tasks.forget_uploads", "schedule": 3600.0},
        "import models": {"task": "console.tasks.import_models", "schedule": 10.0},
        "destroy tenants": {"task": "tenants.tasks.destroy_tenants", "schedule": 3600.0},
        "tend keys": {"task": "console.tasks.tend_keys", "schedule": 300.0},
        "clear sessions": {"task": "console.tasks.clear_sessions", "schedule": 3600.0},
    },
    worker_hijack_root_logger=False,
)
app.autodiscover_tasks()
app.autodiscover_tasks(["knowledge.ingestion"])


@worker_init.connect
def _refuse_unsafe_start(**_: Any) -> None:
    from console.startup import refuse_unsafe_start

    refuse_unsafe_start()
