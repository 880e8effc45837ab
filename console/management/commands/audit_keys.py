"""`manage.py audit_keys`: the public keys with which bundles and heads are verified."""

import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit.tree import anchors, signing
from console import environment
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Show the public key of a tenant's audit log and of the witness. Keep them where Custos cannot change them."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="only this tenant's log")

    def handle(self, *args: Any, tenant: str | None = None, **options: Any) -> None:
        tenants = Tenant.objects.filter(slug=tenant) if tenant else Tenant.objects.all()
        if tenant and not tenants:
            raise CommandError(f"There is no tenant {tenant}.")
        for each in tenants.order_by("slug"):
            self.stdout.write(f"{each.slug}\t{signing.verifier(each.pk)}")
        self.stdout.write(f"witness\t{anchors.witness_verifier() or 'none yet: start Custos once'}")
        known = (
            f"--log-name {settings.AUDIT_LOG_NAME} --log-key {environment.log_public_key(settings.VAR_DIR)}"
        )
        self.stdout.write(
            f"To run a witness elsewhere: python -m audit.witness --state FOLDER --port PORT {known}"
        )
