"""`manage.py retention plan|run`: what goes when, what would go now, and letting it go."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils.translation import gettext as _

from audit.retention import calendar, destruction, schedule
from tenants.models import Tenant


class Command(BaseCommand):
    help = (
        "Show which days' records go when (plan), or let go what is due now (run), as the worker does every five "
        "minutes. With --dry-run, run tells what it would destroy and destroys nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["plan", "run"])
        parser.add_argument("--tenant", metavar="SLUG", help="this tenant alone")
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would go now, and change nothing"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = {tenant.slug: self._of(tenant, options) for tenant in self._tenants(options["tenant"])}
            if options["action"] == "run" and not options["dry_run"]:
                destruction.drop_empty()
        except schedule.ClocksDisagree as error:
            raise CommandError(
                _("The clocks disagree: %(error)s. Nothing goes until they are right.") % {"error": error}
            ) from error
        except OperationalError as error:
            message = _("The database does not answer. Start Custos with `make run`, then try again.")
            raise CommandError(message) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=1, ensure_ascii=False))
            return
        for slug, rows in found.items():
            for row in rows:
                self.stdout.write(f"{slug}  " + "  ".join(f"{name}={value}" for name, value in row.items()))
        if not any(found.values()):
            self.stdout.write(_("Nothing goes."))

    def _tenants(self, slug: str | None) -> list[Tenant]:
        tenants = Tenant.objects.order_by("slug")
        if slug is None:
            return list(tenants)
        found = list(tenants.filter(slug=slug))
        if not found:
            raise CommandError(_("There is no tenant “%(slug)s”.") % {"slug": slug})
        return found

    def _of(self, tenant: Tenant, options: dict[str, Any]) -> list[dict[str, Any]]:
        at = schedule.now()
        if options["action"] == "plan":
            return [
                {
                    "keeping": each.keeping.value,
                    "day": each.day.isoformat(),
                    "due": each.due.isoformat(),
                    "goes": each.goes.isoformat(timespec="seconds") if each.goes else None,
                    "records": each.amount.records,
                    "bytes": each.amount.size,
                }
                for each in calendar.plan(tenant.pk, at)
            ]
        if options["dry_run"]:
            return [each.plain() for each in calendar.rehearse(tenant.pk, at)]
        return [
            {
                "keeping": each.keeping.value,
                "day": each.day.isoformat(),
                "records": each.records,
                "bytes": each.size,
                "statement": str(each.statement),
            }
            for each in destruction.run(tenant.pk, at)
        ]
