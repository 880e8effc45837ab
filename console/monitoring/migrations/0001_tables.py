"""Samples, and alerts on them. Of the platform: no tenant owns a row."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import console.monitoring.models
import tenants.clock
import tenants.ids


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(choices=[("email", "E-mail"), ("webhook", "Webhook")], max_length=10),
                ),
                ("name", models.CharField(max_length=100)),
                ("target", models.CharField(max_length=1000)),
                (
                    "least",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")],
                        default="warning",
                        max_length=10,
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
                ("removed", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Minute",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(db_index=True)),
                ("covers", console.monitoring.models.RealField()),
                (
                    "values",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=console.monitoring.models.RealField(null=True), size=None
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Sample",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(db_index=True)),
                ("covers", console.monitoring.models.RealField()),
                (
                    "values",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=console.monitoring.models.RealField(null=True), size=None
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Slot",
            fields=[
                ("place", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=60, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                (
                    "series",
                    models.CharField(
                        choices=[
                            ("requests", "Requests a second"),
                            ("error_rate", "Error rate"),
                            ("errors", "Errors"),
                            ("refused", "Refused requests"),
                            ("ttft_p50", "First token, median"),
                            ("ttft_p95", "First token, p95"),
                            ("ttft_p99", "First token, p99"),
                            ("itl_p50", "Between tokens, median"),
                            ("itl_p95", "Between tokens, p95"),
                            ("itl_p99", "Between tokens, p99"),
                            ("tokens", "Tokens written a second"),
                            ("tokens_read", "Tokens read a second"),
                            ("streaming", "Answers being written"),
                            ("sockets", "Open chats"),
                            ("running", "Requests in the model"),
                            ("queue", "Requests in line"),
                            ("kv_use", "KV cache in use"),
                            ("prefix_hits", "Prefix hit rate"),
                            ("preemptions", "Preemptions"),
                            ("memory_web", "Memory of web"),
                            ("memory_inference", "Memory of inference"),
                            ("gpu_memory", "GPU memory in use"),
                            ("cpu_web", "Processor of web"),
                            ("cpu_inference", "Processor of inference"),
                            ("audit_append_p50", "Audit commit, median"),
                            ("audit_append_p95", "Audit commit, p95"),
                            ("audit_failures", "Audit write failures"),
                            ("up_web", "Web answers"),
                            ("up_inference", "Inference answers"),
                            ("up_valkey", "Valkey answers"),
                            ("worker_age", "Worker’s last sign of life"),
                            ("disk_free", "Free share of the disk"),
                        ],
                        max_length=40,
                    ),
                ),
                (
                    "aggregation",
                    models.CharField(
                        choices=[
                            ("whole", "over the whole window"),
                            ("highest", "highest in the window"),
                            ("lowest", "lowest in the window"),
                            ("growth", "growth within the window"),
                        ],
                        max_length=10,
                    ),
                ),
                ("window_s", models.PositiveIntegerField()),
                (
                    "comparison",
                    models.CharField(choices=[("above", "is above"), ("below", "is below")], max_length=10),
                ),
                ("threshold", models.FloatField()),
                ("for_s", models.PositiveIntegerField()),
                (
                    "severity",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")], max_length=10
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
                ("removed", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("removed", None)), fields=("name",), name="one_alert_rule_a_name"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("firing", "Firing"), ("resolved", "Resolved")],
                        default="pending",
                        max_length=10,
                    ),
                ),
                (
                    "severity",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")], max_length=10
                    ),
                ),
                ("began", models.DateTimeField()),
                ("fired", models.DateTimeField(null=True)),
                ("resolved", models.DateTimeField(null=True)),
                ("held_s", models.FloatField(default=0)),
                ("clear_s", models.FloatField(default=0)),
                ("value", models.FloatField(null=True)),
                ("worst", models.FloatField(null=True)),
                ("silenced", models.BooleanField(default=False)),
                ("acknowledged", models.DateTimeField(null=True)),
                ("acknowledged_by", models.EmailField(default="", max_length=254)),
                ("acknowledged_reason", models.CharField(default="", max_length=500)),
                (
                    "rule",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="alerts",
                        to="monitoring.rule",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SamplerState",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                (
                    "counters",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.FloatField(null=True), default=list, size=None
                    ),
                ),
                ("folded", models.BigIntegerField(default=0)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="one_sampler_state")
                ],
            },
        ),
        migrations.CreateModel(
            name="Silence",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("until", models.DateTimeField()),
                ("reason", models.CharField(max_length=500)),
                ("by", models.EmailField(max_length=254)),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
                ("lifted", models.DateTimeField(null=True)),
                (
                    "rule",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="silences",
                        to="monitoring.rule",
                    ),
                ),
            ],
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
                    "event",
                    models.CharField(
                        choices=[("firing", "Firing"), ("resolved", "Resolved"), ("test", "Test")],
                        max_length=10,
                    ),
                ),
                ("body", models.JSONField()),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_attempt", models.DateTimeField(default=tenants.clock.now, null=True)),
                ("delivered", models.DateTimeField(null=True)),
                ("error", models.CharField(default="", max_length=300)),
                (
                    "alert",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notices",
                        to="monitoring.alert",
                    ),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notices",
                        to="monitoring.channel",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_attempt__isnull", False)),
                        fields=["next_attempt"],
                        name="notices_waiting",
                    )
                ],
            },
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(fields=["state", "-began"], name="alerts_by_state"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "resolved"), _negated=True),
                fields=("rule",),
                name="one_open_alert_a_rule",
            ),
        ),
    ]
