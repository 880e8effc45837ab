"""`manage.py keys`: what keys there are, whether they open, and their rotation."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError, connections, transaction
from django.utils.translation import gettext as _

from console import key_rotation
from console.sign_in import factors_rotation
from tenants import envelope
from tenants.actors import system_actor
from tenants.errors import Refused
from tenants.keyring import inspection, providers, retirement, rotation, shards
from tenants.keyring.errors import KeysUnavailable, Tampered
from tenants.models import DataKey, Tenant
from tenants.scope import tenant_scope

LABEL = "manage.py keys"


class Command(BaseCommand):
    help = (
        "The keys of tenants' content. status: who keeps the master key, and the keys of each tenant. check: whether "
        "every key opens. rotate-tenant: a new key for one tenant. rotate-master: a new master key. migrate-provider: "
        "wrap all tenants' keys by the provider that CUSTOS_KEY_PROVIDER names. retire: as the database's owner, remove "
        "what rotations left behind. destroy: show what destroying a day's key would take; nothing is destroyed by hand."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        shared = ArgumentParser(add_help=False)
        shared.add_argument("--json", action="store_true", help="print JSON")
        steps = parser.add_subparsers(dest="step", required=True)
        for name in ("status", "rotate-master", "migrate-provider", "retire"):
            steps.add_parser(name, parents=[shared])
        check = steps.add_parser("check", parents=[shared])
        check.add_argument("--tenant", metavar="SLUG", help="only this one")
        rotate = steps.add_parser("rotate-tenant", parents=[shared])
        rotate.add_argument("tenant", metavar="SLUG")
        destroy = steps.add_parser("destroy", parents=[shared])
        destroy.add_argument("--tenant", metavar="SLUG", required=True)
        destroy.add_argument("--purpose", default="audit")
        destroy.add_argument("--day", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = getattr(self, f"_{options['step'].replace('-', '_')}")(**options)
        except OperationalError as error:
            message = _("The database does not answer. Start Custos with `make run`, then try again.")
            raise CommandError(message) from error
        except Refused as error:
            raise CommandError(error.message) from error
        except (KeysUnavailable, Tampered) as error:
            raise CommandError(
                _("The key provider could not do it: %(error)s. Nothing is lost; run this again to go on.")
                % {"error": error}
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=1, ensure_ascii=False, default=str))
        if found.get("failed"):
            raise CommandError(_("Not everything is well; see above."), returncode=3)

    def _status(self, *, json: bool, **_options: Any) -> dict[str, Any]:
        health = providers.health()
        found = [asdict(state) for state in inspection.states(key_id=health.key_id)]
        if not json:
            well = _("well") if health.is_well else _("away: %(detail)s") % {"detail": health.detail}
            self.stdout.write(f"{health.name}  {health.key_id}  {well}")
            for state in found:
                self.stdout.write(
                    _(
                        "%(slug)s: key %(generation)d of %(made)s, %(data_keys)d data keys, %(destroyed)d destroyed, "
                        "%(left)d to wrap anew, %(superseded)d to retire"
                    )
                    % {**state, "left": state["to_wrap"] + state["to_move"]}
                )
        return {"provider": asdict(health), "tenants": found, "failed": not health.is_well}

    def _check(self, *, json: bool, tenant: str | None, **_options: Any) -> dict[str, Any]:
        wanted = [_tenant(tenant)] if tenant else rotation.tenants()
        found = {each.slug: [asdict(finding) for finding in inspection.check(each)] for each in wanted}
        wrong = {slug: findings for slug, findings in found.items() if findings}
        if not json:
            for slug, findings in wrong.items():
                for finding in findings:
                    self.stdout.write(
                        f"{slug}: {finding['kind']} {finding['purpose']} {finding['day'] or ''} {finding['detail']}"
                    )
            if not wrong:
                self.stdout.write(_("Every key opens."))
        return {"tenants": found, "failed": bool(wrong)}

    def _rotate_tenant(self, *, json: bool, tenant: str, **_options: Any) -> dict[str, Any]:
        actor = system_actor(_tenant(tenant), LABEL)
        generation = rotation.rotate_tenant(actor)
        done = 0
        for done, total in rotation.rewrap_data_keys(actor.tenant_id):
            self._say(json, f"{tenant}: {done}/{total}")
        self._say(
            json, _("%(tenant)s has key %(generation)d.") % {"tenant": tenant, "generation": generation}
        )
        return {"tenant": tenant, "generation": generation, "data_keys": done}

    def _rotate_master(self, *, json: bool, **_options: Any) -> dict[str, Any]:
        providers.provider().rotate()
        return self._wrapped(json, key_rotation.go_on(key_rotation.by_system(LABEL)))

    def _migrate_provider(self, *, json: bool, **_options: Any) -> dict[str, Any]:
        return self._wrapped(json, key_rotation.go_on(key_rotation.by_system(LABEL), moves=True))

    def _retire(self, *, json: bool, **_options: Any) -> dict[str, Any]:
        if "owner" not in connections:
            raise CommandError(
                _("DATABASE_URL is not set and Custos is not running: start it with `make run`.")
            )
        found = {}
        for tenant in rotation.tenants():
            found[tenant.slug] = asdict(retirement.retire(tenant, connections["owner"]))
            self._say(json, f"{tenant.slug}: {found[tenant.slug]}")
        factors_rotation.reseal()  # A rotation may have been cut off just before.
        is_dropped = retirement.drop_previous_master_key()
        if not is_dropped:
            self._say(json, _("The previous master key is still needed, so it stays."))
        unclear = any(each["unclear"] for each in found.values())
        return {"tenants": found, "previous_master_key_is_gone": is_dropped, "failed": unclear}

    def _destroy(
        self, *, json: bool, tenant: str, purpose: str, day: date, **_options: Any
    ) -> dict[str, Any]:
        owner, refusal = _tenant(tenant), ""
        with tenant_scope(owner.pk):
            rows = DataKey.objects.filter(purpose=purpose, day=day).count()
            try:
                with transaction.atomic():
                    envelope.destroy(owner.pk, purpose, day)
                    transaction.set_rollback(True)
            except DatabaseError as error:
                refusal = str(error).splitlines()[0]
        shard = shards.exists(shards.path_of(owner.pk, purpose, day))
        self._say(json, _("Rows: %(rows)d; shard: %(shard)s") % {"rows": rows, "shard": shard})
        self._say(
            json, refusal or _("The database would let it go. Retention destroys it; this command does not.")
        )
        return {"rows": rows, "shard": shard, "refusal": refusal}

    def _wrapped(self, json: bool, progress: Iterator[key_rotation.Progress]) -> dict[str, Any]:
        failed = {}
        done = 0
        for each in progress:
            done = each.done
            self._say(json, f"{each.done}/{each.total} {each.slug} {each.error}".rstrip())
            if each.error:
                failed[each.slug] = each.error
        return {"done": done - len(failed), "errors": failed, "failed": bool(failed)}

    def _say(self, json: bool, text: str) -> None:
        if not json:
            self.stdout.write(text)


def _tenant(slug: str) -> Tenant:
    found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(_("There is no tenant with the slug %(slug)s.") % {"slug": slug})
    return found
