"""Searches that people keep."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.ids
import tenants.models.base


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0006_officer_role"),
    ]

    operations = [
        migrations.CreateModel(
            name="SavedSearch",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("owner_id", models.UUIDField(editable=False)),
                ("owner_label", models.TextField(editable=False)),
                ("day", models.DateField()),
                ("sealed", models.BinaryField()),
                ("shared", models.BooleanField(default=False)),
                ("flags", models.BooleanField(default=False)),
                ("looked_until", models.DateTimeField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
                ("removed", models.DateTimeField(null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_default=tenants.models.base.CurrentTenant(),
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_saved_search",
                "indexes": [models.Index(fields=["tenant", "owner_id"], name="saved_searches_of_an_owner")],
            },
        ),
    ]
