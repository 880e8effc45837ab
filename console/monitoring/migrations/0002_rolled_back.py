"""A series of rollouts, and its rule for installations that have rules already; fresh ones begin with it."""

from typing import Any

from django.db import migrations, models

from console.monitoring.catalogue import SERIES


def add_rule(apps: Any, schema_editor: Any) -> None:
    rules = apps.get_model("monitoring", "Rule").objects.using(schema_editor.connection.alias)
    name = "A rollout was rolled back"
    if rules.exists() and not rules.filter(name=name).exists():
        rules.create(
            name=name,
            series="rolled_back",
            aggregation="highest",
            window_s=60,
            comparison="above",
            threshold=0,
            for_s=0,
            severity="warning",
        )


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0001_tables")]

    operations = [
        migrations.AlterField(
            model_name="rule",
            name="series",
            field=models.CharField(max_length=40, choices=[(series.name, series.label) for series in SERIES]),
        ),
        migrations.RunPython(add_rule, migrations.RunPython.noop),
    ]
