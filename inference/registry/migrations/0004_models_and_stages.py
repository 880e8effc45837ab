"""Models with numbered versions, and their stages. What was there is in production, as it answers already."""

import uuid
from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.ids

# Not in the service alone: whoever writes past it is refused as well.
TWO_PEOPLE = """
CREATE FUNCTION registry_two_people() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.stage = 'production' AND NOT NEW.is_proposal AND EXISTS (
        SELECT 1 FROM public.registry_stagechange AS asked
        WHERE asked.version_id = NEW.version_id AND asked.number = NEW.number - 1 AND asked.is_proposal
          AND asked.by_id IS NOT DISTINCT FROM NEW.by_id
    ) THEN
        RAISE EXCEPTION 'a version is approved by another person than who asked' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER two_people BEFORE INSERT ON registry_stagechange
    FOR EACH ROW EXECUTE FUNCTION registry_two_people();
"""

NOT_TWO_PEOPLE = """
DROP TRIGGER two_people ON registry_stagechange;
DROP FUNCTION registry_two_people();
"""

# Of the packaged weights, which their digest names exactly.
PACKAGED = {
    "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53": {
        "title": "SmolLM2 135M Instruct",
        "architecture": "LlamaForCausalLM",
        "parameters": 134_515_008,
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "size": 98_362_432,
        "location": "smollm2",
    },
    "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": {
        "title": "all-MiniLM-L6-v2",
        "architecture": "BertModel",
        "parameters": 22_713_216,
        "file": "model.safetensors",
        "size": 90_868_376,
        "location": "minilm",
    },
}


def give_models(apps: Any, schema_editor: Any) -> None:
    alias = schema_editor.connection.alias
    Model, Version, StageChange = (
        apps.get_model("registry", name).objects.using(alias)
        for name in ("Model", "ModelVersion", "StageChange")
    )
    for version in Version.order_by("pk"):
        known = PACKAGED.get(version.digest, {})
        licence = "Apache-2.0" if known else ""
        model, _made = Model.get_or_create(
            name=version.name[:100],
            defaults={"title": known.get("title", version.name)[:100], "licence": licence},
        )
        version.model, version.licence = model, licence
        version.number = Version.filter(model=model).count() + 1
        version.architecture = known.get("architecture", "")
        version.parameters = known.get("parameters")
        version.location = known.get("location", "")
        if known:
            digest = version.digest.removeprefix("sha256:")
            version.files = {known["file"]: {"sha256": digest, "size": known["size"]}}
        version.save(using=alias)
        stage = "archived" if version.state == "retired" else "production"
        StageChange.create(pk=uuid.uuid4(), version=version, number=1, stage=stage, by_label="Custos")


def give_names(apps: Any, schema_editor: Any) -> None:
    for version in (
        apps.get_model("registry", "ModelVersion").objects.using(schema_editor.connection.alias).all()
    ):
        version.name = version.model.name
        version.save(using=schema_editor.connection.alias)


def key() -> tuple[str, models.Field]:
    return (
        "id",
        models.UUIDField(default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False),
    )


STAGES = [("draft", "Draft"), ("staged", "Staged"), ("production", "Production"), ("archived", "Archived")]
SOURCES = [
    ("wheel", "Package"),
    ("folder", "Folder on the server"),
    ("upload", "Upload"),
    ("hub", "Hugging Face hub"),
]
STATES = [
    ("receiving", "Waits for files"),
    ("waiting", "In line"),
    ("running", "Running"),
    ("done", "Done"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
]


def text(length: int, verbose: str | None = None, **options: Any) -> models.CharField:
    return models.CharField(verbose, max_length=length, **options)


def add(name: str, field: models.Field, **options: Any) -> migrations.AddField:
    return migrations.AddField(model_name="modelversion", name=name, field=field, **options)


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0003_grants"),
    ]

    operations = [
        migrations.CreateModel(
            name="Model",
            fields=[
                key(),
                ("name", text(100, "name", unique=True)),
                ("title", text(100, "title")),
                ("licence", text(100, "licence", blank=True)),
                ("description", models.TextField("description", blank=True, help_text="In Markdown.")),
                ("created", models.DateTimeField(default=tenants.clock.now)),
            ],
            options={"verbose_name": "model", "verbose_name_plural": "models"},
        ),
        add(
            "model",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="versions",
                to="registry.model",
            ),
        ),
        add(
            "number",
            models.PositiveIntegerField("number", default=1, help_text="Counts the versions of the model."),
        ),
        add("source_kind", text(10, "kind of source", choices=SOURCES, default="wheel")),
        migrations.AlterField(
            model_name="modelversion",
            name="source",
            field=text(500, "source", help_text="The package, folder or repository it comes from."),
        ),
        add("adapter", text(200, "adapter", blank=True, default=""), preserve_default=False),
        add("architecture", text(100, "architecture", blank=True, default=""), preserve_default=False),
        add("parameters", models.BigIntegerField("parameters", null=True)),
        add("licence", text(100, "licence", blank=True, default=""), preserve_default=False),
        add(
            "parent",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="children",
                to="registry.modelversion",
            ),
        ),
        add("training_run", text(200, "training run", blank=True, default=""), preserve_default=False),
        add("files", models.JSONField("files", default=dict)),
        add("settings", models.JSONField("settings", default=dict)),
        add("card", models.TextField("model card", blank=True, default=""), preserve_default=False),
        add("location", text(500, blank=True, default=""), preserve_default=False),
        add("created", models.DateTimeField(default=tenants.clock.now)),
        add("created_by", text(254, default="Custos")),
        migrations.CreateModel(
            name="StageChange",
            fields=[
                key(),
                ("number", models.PositiveIntegerField()),
                ("stage", text(10, choices=STAGES)),
                ("is_proposal", models.BooleanField(default=False)),
                ("by_id", models.UUIDField(null=True)),
                ("by_label", text(254)),
                ("reason", text(500, blank=True)),
                ("when", models.DateTimeField(default=tenants.clock.now)),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="stage_changes",
                        to="registry.modelversion",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("version", "number"), name="registry_number_per_stage_change"
                    )
                ],
            },
        ),
        migrations.RunSQL(TWO_PEOPLE, NOT_TWO_PEOPLE),
        migrations.RunPython(give_models, give_names),
        # The rows made here are checked now, so that what follows may change the tables.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="modelversion", name="registry_one_row_per_version"),
        migrations.AlterField(
            model_name="modelversion",
            name="model",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="versions", to="registry.model"
            ),
        ),
        migrations.AlterField(
            model_name="modelversion",
            name="number",
            field=models.PositiveIntegerField("number", help_text="Counts the versions of the model."),
        ),
        migrations.RemoveField(model_name="modelversion", name="name"),
        migrations.RemoveField(model_name="modelversion", name="state"),
        migrations.AddConstraint(
            model_name="modelversion",
            constraint=models.UniqueConstraint(
                fields=("model", "revision", "digest", "precision", "adapter"),
                name="registry_one_row_per_version",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelversion",
            constraint=models.UniqueConstraint(fields=("model", "number"), name="registry_number_per_model"),
        ),
        migrations.CreateModel(
            name="Evaluation",
            fields=[
                key(),
                ("metric", text(60)),
                ("value", models.FloatField()),
                ("suite", text(200, blank=True, help_text="What it was measured on.")),
                ("measured", models.DateTimeField(default=tenants.clock.now)),
                ("by_label", text(254)),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="evaluations",
                        to="registry.modelversion",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ModelImport",
            fields=[
                key(),
                ("name", text(100)),
                ("title", text(100, blank=True)),
                ("source_kind", text(10, choices=SOURCES)),
                ("source", text(500)),
                ("revision", text(200, blank=True)),
                ("precision", text(20)),
                ("licence", text(100, blank=True)),
                ("files", models.JSONField(default=dict)),
                ("state", text(10, choices=STATES, default="waiting")),
                ("step", text(20, blank=True)),
                ("bytes_done", models.BigIntegerField(default=0)),
                ("bytes_total", models.BigIntegerField(default=0)),
                ("failure", text(40, blank=True)),
                ("failure_detail", text(500, blank=True)),
                ("by_id", models.UUIDField(null=True)),
                ("by_label", text(254)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("touched", models.DateTimeField(default=tenants.clock.now)),
                (
                    "version",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="registry.modelversion",
                    ),
                ),
            ],
        ),
    ]
