"""`manage.py create_api_key`: a key for a program."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from tenants.access import NotVisible, create_api_key


class Command(BaseCommand):
    help = "Make an API key for a tenant. The key alone goes to standard output, this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--tenant", required=True, metavar="SLUG", help="whose key it is, for example acme-bank"
        )
        parser.add_argument("--name", required=True, help="what the key is for; shown in the audit")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(create_api_key(tenant_slug=options["tenant"], name=options["name"]))
        except NotVisible as error:
            raise CommandError(f"There is no tenant with the slug {options['tenant']!r}.") from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(
                "The database does not answer. Start Custos with `make run`, then try again."
            ) from error
