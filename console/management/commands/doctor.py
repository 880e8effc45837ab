"""`manage.py doctor`, listed among the commands; manage.py runs `console.supervisor.doctor` without Django."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from console.supervisor import doctor


class Command(BaseCommand):
    help = "Check this machine and the product on it; every finding comes with what to do about it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(doctor.main(["--json"] if options["json"] else []))
