"""`manage.py deployments`: which versions are to run, from the command line; and the process that makes it so."""

import getpass
import json
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from typing import Any

import requests
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils.translation import gettext as _

from console.deployments.loop import Loop
from console.startup import refuse_unsafe_start
from inference.deployments import secrets, selectors, services, words
from inference.deployments.selectors import Standing
from inference.registry.models import Deployment
from inference.registry.operators import Operator
from inference.registry.selectors import version_named
from tenants.actors import NotVisible
from tenants.errors import Refused

LABEL = "manage.py deployments"
TURNS = {
    "start": services.start,
    "stop": services.stop,
    "drain": services.drain,
    "restart": services.restart,
}


class Command(BaseCommand):
    help = (
        "Which versions of models are to run on this server. run: make it so, until stopped (`manage.py up` runs it). "
        "list: how each is. create: deploy a version. upstream: let an OpenAI-compatible server answer. start, stop, "
        "drain, restart, scale: what their names say; answers that are under way are not cut off, but by stop after "
        "half a minute. key: the key of an upstream, asked for or read from CUSTOS_UPSTREAM_KEY. fault: make instances "
        "fail, where CUSTOS_INFERENCE_FAULTS allows that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        shared = ArgumentParser(add_help=False)
        shared.add_argument("--json", action="store_true", help="print JSON")
        steps = parser.add_subparsers(dest="step", required=True)
        steps.add_parser("run")
        steps.add_parser("list", parents=[shared])
        create = steps.add_parser("create", parents=[shared])
        create.add_argument("name")
        create.add_argument("version", metavar="NAME@N")
        create.add_argument("--replicas", type=int, default=1)
        create.add_argument("--max-context", type=int, help="tokens; default: what the model has")
        create.add_argument("--kv-memory-mb", type=int, default=512)
        create.add_argument("--max-running", type=int, default=64)
        create.add_argument("--no-speculation", dest="speculation", action="store_false")
        create.add_argument(
            "--on-demand", dest="keep_warm", action="store_false", help="load it when somebody asks for it"
        )
        upstream = steps.add_parser("upstream", parents=[shared])
        upstream.add_argument("name")
        upstream.add_argument("base_url", metavar="URL", help="such as http://10.0.0.5:8000")
        upstream.add_argument("upstream_model", metavar="MODEL", help="as the server calls it")
        upstream.add_argument("--version", dest="version", metavar="NAME@N", help="default: one of its own")
        upstream.add_argument("--context", dest="context_tokens", type=int, default=8192)
        upstream.add_argument("--max-running", type=int, default=64)
        for name in (*TURNS, "scale", "key", "fault"):
            step = steps.add_parser(name, parents=[shared])
            step.add_argument("name")
            if name == "scale":
                step.add_argument("replicas", type=int)
            if name == "fault":
                step.add_argument("--error-rate", type=float, default=0.0, help="0 to 1")
                step.add_argument("--delay-ms", type=int, default=0)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["step"] == "run":
            return self._run()
        self.by = Operator(label=LABEL)
        step = options["step"]
        try:
            found = self._turn(**options) if step in TURNS else getattr(self, f"_{step}")(**options)
        except OperationalError as error:
            message = _("The database does not answer. Start Custos with `make run`, then try again.")
            raise CommandError(message) from error
        except Refused as error:
            raise CommandError(error.message) from error
        except NotVisible as error:
            message = _(
                "There is no %(name)s. `manage.py deployments list` and `manage.py models list` show all."
            )
            raise CommandError(message % {"name": error}) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=1, ensure_ascii=False, default=str))

    def _run(self) -> None:
        refuse_unsafe_start()
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        Loop(stopped).run()

    def _list(self, *, json: bool, **_options: Any) -> dict[str, Any]:
        found = selectors.standings()
        if not json:
            for each in found:
                load = f"{each.running}+{each.waiting}/{each.capacity}"
                self.stdout.write(
                    f"{each.deployment.name:30} {each.state:9} {each.ready}/{len(each.instances)} {load:10} "
                    f"{each.deployment.version}  {words.trouble(each.trouble, each.trouble_detail)}".rstrip()
                )
        return {"deployments": [_described(each) for each in found]}

    def _create(self, *, json: bool, name: str, version: str, **options: Any) -> dict[str, Any]:
        fields = ("replicas", "max_context", "kv_memory_mb", "max_running", "speculation", "keep_warm")
        asked = {field: options[field] for field in fields}
        made = services.create(by=self.by, name=name, version_id=version_named(version).pk, **asked)
        return self._done(made, json)

    def _upstream(self, *, json: bool, name: str, version: str | None, **options: Any) -> dict[str, Any]:
        fields = ("base_url", "upstream_model", "context_tokens", "max_running")
        asked = {field: options[field] for field in fields}
        version_id = version_named(version).pk if version else None
        key = os.environ.get("CUSTOS_UPSTREAM_KEY", "")
        return self._done(
            services.create_upstream(by=self.by, name=name, version_id=version_id, key=key, **asked), json
        )

    def _turn(self, *, json: bool, step: str, name: str, **_options: Any) -> dict[str, Any]:
        deployment = selectors.deployment_named(name)
        return self._done(TURNS[step](by=self.by, deployment_id=deployment.pk), json)

    def _scale(self, *, json: bool, name: str, replicas: int, **_options: Any) -> dict[str, Any]:
        deployment = selectors.deployment_named(name)
        return self._done(services.scale(by=self.by, deployment_id=deployment.pk, replicas=replicas), json)

    def _key(self, *, json: bool, name: str, **_options: Any) -> dict[str, Any]:
        deployment = selectors.deployment_named(name)
        key = os.environ.get("CUSTOS_UPSTREAM_KEY")
        if key is None:
            key = getpass.getpass(_("Key: ")) if sys.stdin.isatty() else sys.stdin.readline()
        return self._done(services.set_key(by=self.by, deployment_id=deployment.pk, key=key), json)

    def _fault(
        self, *, json: bool, name: str, error_rate: float, delay_ms: int, **_options: Any
    ) -> dict[str, Any]:
        """To every instance there is; one that is started later has none."""
        deployment = selectors.deployment_named(name)
        asked = {"error_rate": error_rate, "delay_ms": delay_ms}
        rows = list(selectors.standing_of(deployment).instances)
        if deployment.kind != Deployment.Kind.MANAGED or not rows:
            raise CommandError(_("It has no instance on this server."))
        with requests.Session() as session:
            session.trust_env = False
            for row in rows:
                headers = {"Authorization": f"Bearer {secrets.token_of(row.pk)}"}
                try:
                    answer = session.post(f"{row.address}/faults", json=asked, headers=headers, timeout=5)
                except requests.RequestException as error:
                    raise CommandError(f"#{row.number}: {type(error).__name__}") from error
                if answer.status_code != 200:
                    message = _("#%(number)s answered %(status)s; is CUSTOS_INFERENCE_FAULTS set?")
                    raise CommandError(message % {"number": row.number, "status": answer.status_code})
        return self._done(deployment, json)

    def _done(self, deployment: Deployment, json: bool) -> dict[str, Any]:
        if not json:
            self.stdout.write(_("Done. `manage.py deployments list` shows how it is."))
        return services.described(deployment)


def _described(each: Standing) -> dict[str, Any]:
    rows = [
        {
            "number": row.number,
            "state": row.state,
            "address": row.address,
            "pid": row.pid,
            "edition": row.edition,
            "running": row.running,
            "waiting": row.waiting,
            "capacity": row.capacity,
            "failure": words.failure(row.failure, row.failure_detail) or row.failure_detail,
            "log": row.tail.splitlines(),
        }
        for row in (*each.instances, *each.ended)
    ]
    return {
        **services.described(each.deployment),
        "state": each.state,
        "trouble": words.trouble(each.trouble, each.trouble_detail),
        "instances": rows,
    }
