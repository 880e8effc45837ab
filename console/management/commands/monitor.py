"""`manage.py monitor`: the process that samples, evaluates alerts and tells of them; see `console.monitoring.loop`."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from console.monitoring.loop import Loop
from console.startup import refuse_unsafe_start


class Command(BaseCommand):
    help = (
        "Measure the installation every five seconds and alert on it, until stopped. `manage.py up` runs it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_unsafe_start()
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        Loop(stopped).run()
