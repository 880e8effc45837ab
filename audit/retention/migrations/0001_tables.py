"""Tables of policies, notices, tombstones, holds and what two people decide."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tenants.ids
import tenants.models.base


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0007_two_part_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="Deed",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("release", "Release of holds"), ("erasure", "Erasure on request")],
                        max_length=16,
                    ),
                ),
                ("subject_id", models.UUIDField()),
                (
                    "request_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), default=list, size=None
                    ),
                ),
                (
                    "basis",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("gdpr_17", "GDPR, Article 17"),
                            ("pipl_47", "PIPL, Article 47"),
                            ("ccpa_105", "CCPA, section 1798.105"),
                            ("other", "Another law or agreement"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "metadata",
                    models.CharField(
                        choices=[
                            ("kept", "Keep who, when and which model"),
                            ("pseudonymised", "Replace who it was"),
                        ],
                        default="kept",
                        max_length=16,
                    ),
                ),
                ("reason", models.BinaryField()),
                ("requested_by", models.UUIDField()),
                ("requested_label", models.CharField(max_length=320)),
                ("created", models.DateTimeField(editable=False, null=True)),
                ("done", models.DateTimeField(editable=False, null=True)),
                (
                    "count",
                    models.IntegerField(editable=False, help_text="Records that were concerned.", null=True),
                ),
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
                "db_table": "audit_retention_deed",
            },
        ),
        migrations.CreateModel(
            name="Erased",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("request_id", models.UUIDField()),
                ("day", models.DateField()),
                (
                    "deed",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="audit_retention.deed",
                    ),
                ),
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
                "db_table": "audit_erased",
            },
        ),
        migrations.CreateModel(
            name="Hold",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("case_id", models.UUIDField()),
                ("request_id", models.UUIDField()),
                ("day", models.DateField()),
                ("metadata", models.JSONField()),
                ("ciphertext_digest", models.BinaryField()),
                ("leaf_digest", models.BinaryField()),
                ("sealed", models.BinaryField()),
                ("sealed_digest", models.BinaryField()),
                ("key_day", models.DateField()),
                ("salt", models.BinaryField()),
                ("statement", models.UUIDField(null=True)),
                ("placed_by", models.UUIDField(null=True)),
                ("placed_label", models.CharField(max_length=320)),
                ("created", models.DateTimeField(editable=False, null=True)),
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
                "db_table": "audit_hold",
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "keeping",
                    models.CharField(
                        choices=[
                            ("audit", "audit"),
                            ("audit.changes", "audit.changes"),
                            ("audit.readings", "audit.readings"),
                        ],
                        max_length=32,
                    ),
                ),
                ("day", models.DateField()),
                ("announced", models.DateTimeField(editable=False, null=True)),
                ("confirmed_by", models.UUIDField(null=True)),
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
                "db_table": "audit_retention_notice",
            },
        ),
        migrations.CreateModel(
            name="Policy",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "keeping",
                    models.CharField(
                        choices=[
                            ("audit", "audit"),
                            ("audit.changes", "audit.changes"),
                            ("audit.readings", "audit.readings"),
                        ],
                        max_length=32,
                    ),
                ),
                ("days", models.PositiveSmallIntegerField()),
                ("number", models.IntegerField(default=0, editable=False)),
                ("created", models.DateTimeField(editable=False, null=True)),
                ("effective", models.DateTimeField(editable=False, null=True)),
                ("decided_by", models.UUIDField(null=True)),
                ("decided_label", models.CharField(max_length=320)),
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
                "db_table": "audit_retention_policy",
            },
        ),
        migrations.CreateModel(
            name="Tombstone",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "keeping",
                    models.CharField(
                        choices=[
                            ("audit", "audit"),
                            ("audit.changes", "audit.changes"),
                            ("audit.readings", "audit.readings"),
                        ],
                        max_length=32,
                    ),
                ),
                ("day", models.DateField()),
                ("count", models.IntegerField()),
                ("size", models.BigIntegerField(default=0, help_text="Bytes of output that went.")),
                ("first", models.BigIntegerField(null=True)),
                ("last", models.BigIntegerField(null=True)),
                ("root", models.BinaryField()),
                ("days", models.PositiveSmallIntegerField(help_text="The policy under which it went.")),
                ("statement", models.UUIDField(null=True)),
                ("created", models.DateTimeField(editable=False, null=True)),
                ("finished", models.DateTimeField(editable=False, null=True)),
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
                "db_table": "audit_retention_tombstone",
            },
        ),
        migrations.CreateModel(
            name="Verdict",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("approved", "Approved"),
                            ("refused", "Refused"),
                            ("withdrawn", "Called off"),
                        ],
                        max_length=16,
                    ),
                ),
                ("reason", models.BinaryField()),
                ("decided_by", models.UUIDField()),
                ("decided_label", models.CharField(max_length=320)),
                ("created", models.DateTimeField(editable=False, null=True)),
                (
                    "deed",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="verdicts",
                        to="audit_retention.deed",
                    ),
                ),
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
                "db_table": "audit_retention_verdict",
            },
        ),
        migrations.AddIndex(
            model_name="deed",
            index=models.Index(fields=["tenant", "kind", "subject_id"], name="retention_deed_of_subject"),
        ),
        migrations.AddConstraint(
            model_name="erased",
            constraint=models.UniqueConstraint(fields=("tenant", "request_id"), name="erased_once"),
        ),
        migrations.AddIndex(
            model_name="hold",
            index=models.Index(fields=["tenant", "request_id"], name="hold_of_record"),
        ),
        migrations.AddConstraint(
            model_name="hold",
            constraint=models.UniqueConstraint(
                fields=("tenant", "case_id", "request_id"), name="one_hold_a_case_and_record"
            ),
        ),
        migrations.AddIndex(
            model_name="notice",
            index=models.Index(fields=["tenant", "keeping", "day"], name="retention_notice_of_day"),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(("days__gte", 1), ("days__lte", 3650)), name="retention_within_bounds"
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.UniqueConstraint(
                fields=("tenant", "keeping", "number"), name="one_policy_a_number"
            ),
        ),
        migrations.AddIndex(
            model_name="tombstone",
            index=models.Index(fields=["tenant", "keeping", "day"], name="retention_tombstone_of_day"),
        ),
        migrations.AddIndex(
            model_name="verdict",
            index=models.Index(fields=["tenant", "deed"], name="retention_verdict_of_deed"),
        ),
    ]
