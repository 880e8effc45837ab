"""`manage.py models`: the registry from the command line."""

import json
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from django.utils.translation import gettext as _

from inference.registry import imports, selectors, stages, verification, versions
from inference.registry.failures import sentence
from inference.registry.models import ModelVersion, Stage
from inference.registry.operators import Operator
from tenants.actors import NotVisible
from tenants.errors import Refused

LABEL = "manage.py models"
# Exit statuses; 1 says that nothing could be done.
NOT_WELL = 3
FIGURES = ("perplexity", "agreement", "divergence", "weight_bytes", "tokens_per_second", "ttft_ms", "itl_ms")


class Command(BaseCommand):
    help = (
        "The registry of models. list: every version. import: a folder of CUSTOS_MODELS_DIR, hub:ORG/NAME@REVISION, or "
        "version:NAME@N for the same files in another precision. verify: whether a version's files are those that are "
        "registered. stage: bring a version to a stage. note: figures of a version from a report of manage.py quantize, "
        f"or from any JSON with some of {', '.join(FIGURES)}."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        shared = ArgumentParser(add_help=False)
        shared.add_argument("--json", action="store_true", help="print JSON")
        steps = parser.add_subparsers(dest="step", required=True)
        steps.add_parser("list", parents=[shared])
        importing = steps.add_parser("import", parents=[shared])
        importing.add_argument("source", help="PATH, hub:ORG/NAME@REVISION or version:NAME@N")
        importing.add_argument(
            "--name", default="", help="by which programs ask for it; default: from the source"
        )
        importing.add_argument("--title", default="")
        importing.add_argument("--licence", default="")
        importing.add_argument("--precision", choices=versions.PRECISIONS, default="bfloat16")
        verify = steps.add_parser("verify", parents=[shared])
        verify.add_argument("version", metavar="NAME@N", nargs="?", help="default: every version")
        stage = steps.add_parser("stage", parents=[shared])
        stage.add_argument("version", metavar="NAME@N")
        stage.add_argument("stage", choices=Stage.values)
        stage.add_argument("--reason", required=True)
        note = steps.add_parser("note", parents=[shared])
        note.add_argument("version", metavar="NAME@N")
        note.add_argument("report", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        self.by = Operator(label=LABEL)
        try:
            found = getattr(self, f"_{options['step']}")(**options)
        except OperationalError as error:
            message = _("The database does not answer. Start Custos with `make run`, then try again.")
            raise CommandError(message) from error
        except Refused as error:
            raise CommandError(error.message) from error
        except NotVisible as error:
            message = _("There is no version %(name)s. `manage.py models list` shows all.")
            raise CommandError(message % {"name": error}) from error
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=1, ensure_ascii=False, default=str))
        if found.get("failed"):
            raise CommandError(_("Not everything is well; see above."), returncode=NOT_WELL)

    def _list(self, *, json: bool, **_options: Any) -> dict[str, Any]:
        found = list(selectors.versions().order_by("model__name", "number"))
        if not json:
            for version in found:
                self.stdout.write(
                    f"{version!s:40} {version.stage:11} {version.precision:9} {version.digest[:19]}  {version.source}"
                )
        return {"versions": [{**versions.described(version), "stage": version.stage} for version in found]}

    def _import(
        self, *, source: str, name: str, title: str, licence: str, precision: str, **options: Any
    ) -> dict[str, Any]:
        if source.startswith("version:"):
            parent = selectors.version_named(source.removeprefix("version:"))
            version = versions.derive(by=self.by, version_id=parent.pk, precision=precision)
            return self._registered(version, options["json"])
        kind, place, revision = ModelVersion.Source.FOLDER, source, ""
        if source.startswith("hub:"):
            kind = ModelVersion.Source.HUB
            place, _at, revision = source.removeprefix("hub:").partition("@")
        row = imports.begin(
            by=self.by,
            source_kind=kind,
            source=place,
            revision=revision,
            name=name,
            title=title,
            licence=licence,
            precision=precision,
        )
        # Here, unless the worker has taken it up already.
        imports.run_waiting()
        while (row := imports.import_by_id(row.pk)).state in imports.UNFINISHED:
            time.sleep(0.5)
        if row.version is None:
            words = sentence(row.failure, row.failure_detail) if row.failure else row.get_state_display()
            raise CommandError(words)
        return self._registered(row.version, options["json"])

    def _registered(self, version: ModelVersion, json: bool) -> dict[str, Any]:
        if not json:
            self.stdout.write(_("%(version)s is registered as a draft.") % {"version": version})
        return versions.described(version)

    def _verify(self, *, json: bool, version: str | None, **_options: Any) -> dict[str, Any]:
        wanted = [selectors.version_named(version)] if version else list(selectors.versions().order_by("pk"))
        found: dict[str, list[str]] = {}
        for each in wanted:
            wrong = found[str(each)] = verification.differing(each)
            if not json:
                words = _("not as registered: %(files)s") % {"files": ", ".join(wrong)}
                self.stdout.write(f"{each}: {words if wrong else _('as registered')}")
        return {"versions": found, "failed": any(found.values())}

    def _stage(self, *, json: bool, version: str, stage: str, reason: str, **_options: Any) -> dict[str, Any]:
        done = stages.move(
            by=self.by, version_id=selectors.version_named(version).pk, stage=stage, reason=reason
        )
        if not json:
            words = _("Another platform administrator has to approve it.") if done.is_proposal else _("Done.")
            self.stdout.write(words)
        return {"version": version, "stage": stage, "waits_for_approval": done.is_proposal}

    def _note(self, *, json: bool, version: str, report: Path, **_options: Any) -> dict[str, Any]:
        wanted = selectors.version_named(version)
        figures, suite = _figures(report)
        versions.evaluate(by=self.by, version_id=wanted.pk, suite=suite, figures=figures)
        if not json:
            self.stdout.write(_("%(count)d figures are noted.") % {"count": len(figures)})
        return {"version": version, "figures": figures}


def _figures(report: Path) -> tuple[dict[str, float], str]:
    """The figures of a report, and what they were measured on. Raises CommandError."""
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
        figures = {name: float(found[name]) for name in FIGURES if name in found}
        text = str(found.get("text_sha256", ""))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CommandError(
            _("%(file)s is no report: %(error)s") % {"file": report, "error": error}
        ) from error
    if not figures:
        raise CommandError(_("%(file)s holds none of the figures.") % {"file": report})
    return figures, f"manage.py quantize, text {text[:12]}" if text else report.name
