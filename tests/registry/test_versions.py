"""Versions never change, stages change by two people where that is asked for, and every change is in every audit."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from audit import record
from audit.models import AuditRecord
from inference.registry import selectors, stages, verification, versions
from inference.registry.models import Model, ModelVersion
from inference.registry.operators import Operator
from inference.registry.services import ensure_default_registry
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.registry.conftest import Writer, import_folder

pytestmark = pytest.mark.django_db

SMOL = "smollm2-135m-instruct"


@pytest.fixture
def default(db: None) -> ModelVersion:
    ensure_default_registry()
    return selectors.version_named(f"{SMOL}@1")


def kinds(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.order_by("pk").values_list("kind", flat=True))


def test_the_packaged_models_are_in_production_and_as_their_packages_list_them(default: ModelVersion) -> None:
    found = list(selectors.versions().order_by("model__name"))
    assert [(str(row), row.stage) for row in found] == [
        ("all-minilm-l6-v2@1", "production"),
        (f"{SMOL}@1", "production"),
    ]
    assert [verification.differing(row) for row in found] == [[], []]
    ensure_default_registry()
    assert ModelVersion.objects.count() == Model.objects.count() == 2


def test_the_application_can_change_or_remove_no_version_no_stage_and_no_figure(
    default: ModelVersion, by: Operator
) -> None:
    versions.evaluate(by=by, version_id=default.pk, suite="", figures={"perplexity": 9.0})
    for table in ("registry_modelversion", "registry_stagechange", "registry_evaluation"):
        for deed in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}"):
            with (
                pytest.raises(DatabaseError, match="permission denied"),
                transaction.atomic(),
                connection.cursor() as cursor,
            ):
                cursor.execute(deed)


def test_a_change_is_in_the_audit_of_every_tenant_or_is_not_made(
    default: ModelVersion, by: Operator, acme: Company, north: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.move(by=by, version_id=default.pk, stage="staged", reason="Too slow")
    assert kinds(acme) == kinds(north) == ["model.stage_changed"]
    wanted = record.record_event

    def fails_for_north(**facts: Any) -> Any:
        if facts["actor"].tenant_id == north.tenant.pk:
            raise record.AuditUnavailable
        return wanted(**facts)

    monkeypatch.setattr("tenants.changes._sink", fails_for_north)
    with pytest.raises(record.AuditUnavailable):
        stages.move(by=by, version_id=default.pk, stage="production", reason="Well again")
    assert selectors.stage_of(default) == "staged"
    assert kinds(acme) == ["model.stage_changed"]


def test_whoever_is_no_platform_administrator_changes_nothing(default: ModelVersion, acme: Company) -> None:
    somebody = Operator(label="x", user_id=acme.owner.pk)
    with pytest.raises(NotVisible):
        stages.move(by=somebody, version_id=default.pk, stage="staged", reason="Mine")
    with pytest.raises(NotVisible):
        versions.derive(by=somebody, version_id=default.pk, precision="int8")


def test_two_people_are_asked_for_by_the_database_too(
    default: ModelVersion, by: Operator, settings: Any
) -> None:
    settings.MODELS_FOUR_EYES = True
    stages.move(by=by, version_id=default.pk, stage="staged", reason="Again")
    stages.move(by=by, version_id=default.pk, stage="production", reason="Please")
    with pytest.raises(Refused, match="asked for it yourself"):
        stages.approve(by=by, version_id=default.pk, reason="Me again")
    with pytest.raises(Refused, match="Approve or decline"):
        stages.move(by=by, version_id=default.pk, stage="archived", reason="Away")
    with pytest.raises(Refused, match="asked for it yourself"):
        stages.approve(by=Operator(label="a command"), version_id=default.pk, reason="Nobody")
    with pytest.raises(IntegrityError, match="another person"), transaction.atomic():
        default.stage_changes.create(
            number=4, stage="production", by_id=by.user_id, by_label="past the service"
        )
    assert selectors.stage_of(default) == "staged"


# --- The command line ---------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    """What `manage.py models … --json` prints."""
    out = io.StringIO()
    call_command("models", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_int8_version_is_imported_noted_and_staged_from_the_command_line(
    default: ModelVersion, tmp_path: Path
) -> None:
    made = run("import", f"version:{SMOL}@1", "--precision", "int8")
    assert (made["version"], made["precision"], made["parent"]) == (f"{SMOL}@2", "int8", f"{SMOL}@1")
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"agreement": 0.97, "perplexity": 12.5, "text_sha256": "ab" * 32}))
    assert run("note", f"{SMOL}@2", str(report))["figures"] == {"perplexity": 12.5, "agreement": 0.97}
    run("stage", f"{SMOL}@2", "staged", "--reason", "To be tried")
    listed = {row["version"]: row["stage"] for row in run("list")["versions"]}
    assert listed == {"all-minilm-l6-v2@1": "production", f"{SMOL}@1": "production", f"{SMOL}@2": "staged"}
    with pytest.raises(CommandError, match="no version nothing@1"):
        run("stage", "nothing@1", "staged", "--reason", "x")
    report.write_text("[]")
    with pytest.raises(CommandError, match="no report"):
        run("note", f"{SMOL}@2", str(report))


def test_a_folder_is_imported_and_verified_from_the_command_line(write_model: Writer) -> None:
    folder = write_model()
    assert run("import", "tiny", "--licence", "MIT")["licence"] == "MIT"
    assert run("verify", "tiny@1")["versions"] == {"tiny@1": []}
    (folder / "config.json").write_text("{}")
    (folder / "added.json").write_text("{}")
    out = io.StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("models", "verify", "tiny@1", stdout=out)
    assert failed.value.returncode == 3
    assert "tiny@1: not as registered: added.json, config.json" in out.getvalue()
    with pytest.raises(CommandError, match="registered already"):
        (folder / "added.json").unlink()
        write_model()
        run("import", "tiny", "--licence", "MIT")


def test_a_version_keeps_its_place_when_the_model_is_described(by: Operator, write_model: Writer) -> None:
    write_model()
    version = import_folder(by).version
    assert version is not None
    versions.describe(by=by, model_id=version.model.pk, title="Tiny", licence="", description="a\r\nb")
    model = Model.objects.get()
    assert (model.title, model.description, version.label) == (
        "Tiny",
        "a\nb",
        f"tiny@{version.revision} bfloat16 {version.digest}",
    )
