"""`manage.py apply FILE`: make tenants what a file says they are to be."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.apply import document
from console.apply.ensure import Link, ensure
from console.apply.state import Change
from console.mail import invitation_link

_SIGNS = {"create": "+", "change": "~", "remove": "-"}

Plan = dict[str, list[Change]]


class Command(BaseCommand):
    help = (
        "Show what a YAML file would change of the tenants that it names, ask, and change it: settings, roles, groups, "
        "service accounts, members (by invitation) and limits. What the file leaves out stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--yes", action="store_true", help="apply without asking")
        parser.add_argument(
            "--prune", action="store_true", help="also remove what the sections in the file do not name"
        )
        parser.add_argument("--json", action="store_true", help="print JSON; without --yes the plan alone")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wanted = document.read(options["file"])
            plan = {slug: _rehearse(wanted, slug, options["prune"]) for slug in wanted.tenants}
            links = self._applied(wanted, plan, options) if self._is_wanted(plan, options) else None
        except document.BadDocument as bad:
            raise CommandError(_told(options["file"], bad)) from bad
        except OSError as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            message = _("The database does not answer. Start Custos with `make run`, then try again.")
            raise CommandError(message) from error
        if options["json"]:
            self.stdout.write(json.dumps(_plain(plan, links), indent=1, ensure_ascii=False))

    def _is_wanted(self, plan: Plan, options: dict[str, Any]) -> bool:
        if not any(plan.values()):
            if not options["json"]:
                self.stdout.write(_("Nothing to do."))
            return False
        if not options["json"]:
            self._show(plan)
        if options["yes"]:
            return True
        if options["json"]:
            return False
        if not sys.stdin.isatty():
            raise CommandError(_("Nothing was changed. Say --yes to apply this plan."))
        return input(_("Apply this? [y/N] ")).strip().lower() in ("y", "yes")

    def _show(self, plan: Plan) -> None:
        for slug, changes in plan.items():
            if changes:
                self.stdout.write(slug)
            for change in changes:
                self.stdout.write(f"  {_SIGNS[change.action]} {change.kind} {change.name}")
                for name, (before, after) in change.fields.items():
                    values = [json.dumps(each, ensure_ascii=False) for each in (before, after)]
                    shown = {"create": values[1], "remove": values[0]}.get(change.action, " → ".join(values))
                    self.stdout.write(f"      {name}: {shown}")

    def _applied(
        self, wanted: document.Document, plan: Plan, options: dict[str, Any]
    ) -> list[dict[str, str]]:
        links: list[dict[str, str]] = []
        for slug, changes in plan.items():
            if changes:
                made = _apply(wanted, slug, options["prune"], changes)
                links += [_link(slug, *each) for each in made]
        if not options["json"]:
            count = sum(map(len, plan.values()))
            self.stdout.write(
                ngettext("%(count)d change applied.", "%(count)d changes applied.", count) % {"count": count}
            )
            if links:
                self.stdout.write(_("Invitations, whose links are shown this once:"))
            for link in links:
                self.stdout.write(f"  {link['email']}  {link['link']}")
        return links


def _rehearse(wanted: document.Document, slug: str, prune: bool) -> list[Change]:
    """The plan for one tenant: everything is done and undone."""
    with transaction.atomic():
        changes, _links = ensure(wanted, slug, prune=prune)
        transaction.set_rollback(True)
    return changes


def _apply(wanted: document.Document, slug: str, prune: bool, planned: list[Change]) -> list[Link]:
    """Do it for one tenant, in one transaction. Raises CommandError when it would not be what was planned."""
    message = _("%(tenant)s was changed meanwhile, so nothing of it was applied. Plan it again.")
    try:
        with transaction.atomic():
            changes, links = ensure(wanted, slug, prune=prune)
            if changes == planned:
                return links
            transaction.set_rollback(True)
    except document.BadDocument as bad:
        raise CommandError(message % {"tenant": slug}) from bad
    raise CommandError(message % {"tenant": slug})


def _link(slug: str, invitation: Any, token: str) -> dict[str, str]:
    return {
        "tenant": slug,
        "email": invitation.email,
        "link": invitation_link(invitation, token, origin=_origin()),
    }


def _origin() -> str:
    """Where people reach Custos: the first origin behind a proxy, or this machine."""
    trusted = settings.CSRF_TRUSTED_ORIGINS
    environment = settings.ENVIRONMENT
    return trusted[0] if trusted else f"http://{environment.host}:{environment.port}"


def _told(file: Path, bad: document.BadDocument) -> str:
    lines = [
        f"{file}:{each.line}: {f'{each.place}: ' if each.place else ''}{each.message}"
        for each in bad.mistakes
    ]
    return "\n".join([*lines, _("Nothing was changed.")])


def _plain(plan: Plan, links: list[dict[str, str]] | None) -> dict[str, Any]:
    tenants = {slug: [change.plain() for change in changes] for slug, changes in plan.items()}
    return {"tenants": tenants, "applied": links is not None, "invitations": links or []}
