"""What is wanted of a deployment. What there was keeps running as it did."""

from typing import Any

from django.db import migrations, models

import tenants.clock

# Not in the services alone: records name a deployment, which has to stay what it was.
FIXED = """
CREATE FUNCTION registry_deployment_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.name, NEW.version_id, NEW.kind, NEW.base_url, NEW.upstream_model)
        IS DISTINCT FROM (OLD.id, OLD.name, OLD.version_id, OLD.kind, OLD.base_url, OLD.upstream_model) THEN
        RAISE EXCEPTION 'what a deployment serves, and where, does not change' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fixed BEFORE UPDATE ON registry_deployment
    FOR EACH ROW EXECUTE FUNCTION registry_deployment_fixed();
"""

NOT_FIXED = """
DROP TRIGGER fixed ON registry_deployment;
DROP FUNCTION registry_deployment_fixed();
"""


def give_kinds(apps: Any, schema_editor: Any) -> None:
    rows = apps.get_model("registry", "Deployment").objects.using(schema_editor.connection.alias)
    rows.filter(base_url="embedded").update(kind="embedded")


def add(name: str, field: models.Field) -> migrations.AddField:
    return migrations.AddField(model_name="deployment", name=name, field=field)


KINDS = [("embedded", "Built in"), ("managed", "On this server"), ("upstream", "Upstream")]
WANTED = [("running", "Running"), ("drained", "Drained"), ("stopped", "Stopped")]
SOURCES = [
    ("wheel", "Package"),
    ("folder", "Folder on the server"),
    ("upload", "Upload"),
    ("hub", "Hugging Face hub"),
    ("upstream", "Upstream"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0004_models_and_stages"),
    ]

    operations = [
        add("kind", models.CharField("kind", max_length=10, choices=KINDS, default="upstream")),
        migrations.RunPython(give_kinds, migrations.RunPython.noop),
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="deployment",
            name="base_url",
            field=models.CharField("address", max_length=500, blank=True),
        ),
        *(
            migrations.AlterField(
                model_name=model,
                name="source_kind",
                field=models.CharField(max_length=10, choices=SOURCES, **options),
            )
            for model, options in (
                ("modelversion", {"verbose_name": "kind of source", "default": "wheel"}),
                ("modelimport", {}),
            )
        ),
        add("upstream_model", models.CharField(max_length=200, blank=True, default="")),
        add("sealed_key", models.TextField(blank=True, default="")),
        add("wanted", models.CharField(max_length=10, choices=WANTED, default="running")),
        add("edition", models.PositiveIntegerField(default=1)),
        add("replicas", models.PositiveSmallIntegerField(default=1)),
        add("max_context", models.PositiveIntegerField(null=True)),
        add("kv_memory_mb", models.PositiveIntegerField(default=512)),
        add("max_running", models.PositiveSmallIntegerField(default=64)),
        add("speculation", models.BooleanField(default=True)),
        add("keep_warm", models.BooleanField(default=True)),
        add("changed", models.DateTimeField(default=tenants.clock.now)),
        add("changed_by", models.CharField(max_length=254, default="Custos")),
        migrations.RunSQL(FIXED, NOT_FIXED),
    ]
