"""`manage.py verify_audit`: check the audit logs from the rows up, against the witness."""

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.tree import verification
from audit.tree.verification import Report, WitnessState
from console.audit_words import finding_words, witness_words
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Check every record, leaf, head and signature of the audit. Exit status: 0 sound, 1 findings, 2 witness away."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="only this tenant's log")

    def handle(self, *args: Any, tenant: str | None = None, **options: Any) -> None:
        tenants = Tenant.objects.filter(slug=tenant) if tenant else Tenant.objects.all()
        if tenant and not tenants:
            raise CommandError(f"There is no tenant {tenant}.")
        reports = [self._verify(each) for each in tenants.order_by("slug")]
        if not all(report.is_sound for report in reports):
            sys.exit(1)
        if not all(report.is_complete for report in reports):
            sys.exit(2)

    def _verify(self, tenant: Tenant) -> Report:
        report = verification.verify(tenant.pk, lambda done, total: self._show(tenant, done, total))
        verdict = "sound" if report.is_sound else f"{report.findings_count} findings"
        if report.is_sound and report.witness == WitnessState.AWAY:
            verdict = "sound as far as the database goes, but the witness did not answer"
        self.stdout.write(
            f"{tenant.slug}: {verdict}. {report.leaves} entries: {report.records} records, "
            f"{report.statements} statements, {report.gone} gone and accounted for; {report.heads} heads. "
            f"{witness_words(report.witness)}"
        )
        for finding in report.findings:
            record = f" ({finding.request_id})" if finding.request_id else ""
            self.stdout.write(f"  {finding_words(finding.code, finding.seq, finding.detail)}{record}")
        if report.findings_count > len(report.findings):
            self.stdout.write(f"  … and {report.findings_count - len(report.findings)} more")
        return report

    def _show(self, tenant: Tenant, done: int, total: int) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{tenant.slug}: {done} of {total}", ending="\n" if done == total else "")
