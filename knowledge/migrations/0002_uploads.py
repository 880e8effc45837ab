"""Files on their way in pieces; from when a version may be taken up by a worker, and whose turn is next."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import tenants.clock
import tenants.ids
import tenants.models.base


class Migration(migrations.Migration):
    dependencies = [
        ("knowledge", "0001_initial"),
        ("tenants", "0008_retention_moved"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Upload",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("by_label", models.CharField(max_length=500)),
                ("sealed_name", models.BinaryField()),
                ("size", models.PositiveBigIntegerField()),
                ("received", models.PositiveBigIntegerField(default=0)),
                (
                    "touched",
                    models.DateTimeField(default=tenants.clock.now, help_text="When a piece last came."),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.RemoveIndex(
            model_name="version",
            name="knowledge_version_at_work",
        ),
        migrations.RemoveField(
            model_name="version",
            name="touched",
        ),
        migrations.AddField(
            model_name="base",
            name="served",
            field=models.DateTimeField(
                help_text="When a worker last worked for it: whose turn is next.", null=True
            ),
        ),
        migrations.AddField(
            model_name="version",
            name="deaths",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="version",
            name="due",
            field=models.DateTimeField(default=tenants.clock.now),
        ),
        migrations.AlterField(
            model_name="piece",
            name="version",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="pieces",
                to="knowledge.version",
            ),
        ),
        migrations.AddIndex(
            model_name="version",
            index=models.Index(
                condition=models.Q(("state__in", ["waiting", "parsing", "indexing"])),
                fields=["base", "due"],
                name="knowledge_version_at_work",
            ),
        ),
        migrations.AddField(
            model_name="upload",
            name="base",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="knowledge.base"
            ),
        ),
        migrations.AddField(
            model_name="upload",
            name="document",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="knowledge.document",
            ),
        ),
        migrations.AddField(
            model_name="upload",
            name="folder",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="knowledge.folder",
            ),
        ),
        migrations.AddField(
            model_name="upload",
            name="tenant",
            field=models.ForeignKey(
                db_default=tenants.models.base.CurrentTenant(),
                editable=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="piece",
            name="upload",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="pieces",
                to="knowledge.upload",
            ),
        ),
        migrations.AddConstraint(
            model_name="piece",
            constraint=models.UniqueConstraint(fields=("upload", "number"), name="knowledge_piece_of_upload"),
        ),
        migrations.AddConstraint(
            model_name="piece",
            constraint=models.CheckConstraint(
                condition=models.Q(("version__isnull", True), ("upload__isnull", True), _connector="XOR"),
                name="knowledge_piece_of_one",
            ),
        ),
    ]
