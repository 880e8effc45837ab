"""`manage.py up`, listed among the commands; see `console.supervisor.up`."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from console.supervisor import up


class Command(BaseCommand):
    help = (
        "Start everything Custos needs on this machine: database, Valkey, inference, web, worker and beat. "
        "Settings: CUSTOS_PORT, CUSTOS_HOST, CUSTOS_VAR_DIR, CUSTOS_INFERENCE_PRECISION, DATABASE_URL, REDIS_URL, "
        "CUSTOS_DEMO_PASSWORD."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(up.main())
