"""`manage.py prepare`: bring the database to where this version of Custos needs it."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from audit.partitions import ensure_partitions
from console import demo
from tenants import isolation

# Any number will do, as long as every version of Custos uses the same one.
ADVISORY_LOCK = 0x437573746F73


class Command(BaseCommand):
    help = (
        "Create the application's database role, migrate, apply tenant isolation, make the audit's partitions and "
        "the demonstration data. Safe to run again and from several machines at once. The last line is JSON."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="leave the demonstration data out")

    def handle(self, *args: Any, **options: Any) -> None:
        if "owner" not in connections:
            raise CommandError("DATABASE_URL is not set and Custos is not running: start it with `make run`.")
        owner = connections["owner"]
        with owner.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        try:
            prepare_schema(owner, verbosity=options["verbosity"])
            password = None if options["no_demo"] else demo.seed()
        finally:
            with owner.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
        self.stdout.write(json.dumps({"demo_password": password, "accounts": demo.accounts()}))


def prepare_schema(owner: BaseDatabaseWrapper, *, verbosity: int = 1) -> None:
    """Role, tables, isolation and partitions. `owner` is the owner's connection."""
    _ensure_application_role(owner)
    call_command("migrate", database=owner.alias, interactive=False, verbosity=verbosity)
    isolation.apply(owner)
    ensure_partitions(owner)


def _ensure_application_role(owner: BaseDatabaseWrapper) -> None:
    """The plain role that everything but migrations runs as, with the password that our settings hold for it."""
    application = settings.DATABASES["default"]
    role, password = application["USER"], application["PASSWORD"]
    with owner.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        if cursor.fetchone() is None:
            cursor.execute(
                sql.SQL(
                    "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD {}"
                ).format(sql.Identifier(role), sql.Literal(password))
            )
        cursor.execute("SELECT current_database()")
        database = cursor.fetchone()[0]
        cursor.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(
                sql.Identifier(database), sql.Identifier(role)
            )
        )
