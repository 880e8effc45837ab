"""Cases, with everything that happens to them."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.ids
import tenants.models.base

# Not in the models alone: whoever writes past the services is refused as well.
TWO_PEOPLE = """
CREATE FUNCTION audit_cases_two_people() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.author_id IS NULL OR NOT EXISTS (
        SELECT 1 FROM public.audit_cases_casedecision AS decision
        WHERE decision.id = NEW.decision_id AND decision.case_id = NEW.case_id
          AND decision.author_id IS DISTINCT FROM NEW.author_id
    ) THEN
        RAISE EXCEPTION 'a decision is signed by another person than who took it' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER two_people BEFORE INSERT ON audit_cases_casesignature
    FOR EACH ROW EXECUTE FUNCTION audit_cases_two_people();
"""

NOT_TWO_PEOPLE = """
DROP TRIGGER two_people ON audit_cases_casesignature;
DROP FUNCTION audit_cases_two_people();
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0006_officer_role"),
    ]

    operations = [
        migrations.CreateModel(
            name="Case",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.CharField(max_length=11)),
                ("opened_by_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
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
        ),
        migrations.CreateModel(
            name="CaseDeadline",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("deadline_id", models.UUIDField()),
                ("due", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("met", "Met"), ("dropped", "Dropped")], max_length=10
                    ),
                ),
                ("sealed", models.BinaryField()),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="CaseDecision",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("sealed", models.BinaryField()),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="CaseEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("opened", "Case opened"),
                            ("changed", "Details changed"),
                            ("records_linked", "Records joined the case"),
                            ("record_unlinked", "Record taken out of the case"),
                            ("noted", "Note written"),
                            ("file_added", "File attached"),
                            ("member_set", "Member put in or given a role"),
                            ("member_removed", "Member taken out"),
                            ("deadline_set", "Deadline set"),
                            ("deadline_closed", "Deadline met or dropped"),
                            ("reminded", "Reminder of a deadline"),
                            ("review_started", "Review started"),
                            ("decided", "Decision taken"),
                            ("withdrawn", "Decision withdrawn"),
                            ("sent_back", "Decision sent back"),
                            ("signed", "Decision signed by a second person"),
                            ("reopened", "Case reopened"),
                        ],
                        max_length=20,
                    ),
                ),
                ("sealed", models.BinaryField()),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
        ),
        migrations.CreateModel(
            name="CaseFile",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("size", models.BigIntegerField()),
                ("facts", models.BinaryField()),
                ("content", models.BinaryField()),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="CaseMember",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("user_id", models.UUIDField()),
                (
                    "role",
                    models.CharField(
                        blank=True,
                        choices=[("lead", "Lead"), ("member", "Member"), ("approver", "Approver")],
                        max_length=10,
                    ),
                ),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
        ),
        migrations.CreateModel(
            name="CaseReading",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("user_id", models.UUIDField(null=True)),
                (
                    "how",
                    models.CharField(
                        choices=[
                            ("listed", "Saw it in the list"),
                            ("viewed", "Opened the case"),
                            ("file", "Downloaded a file"),
                            ("report", "Made a report"),
                            ("bundle", "Exported with proof"),
                        ],
                        max_length=10,
                    ),
                ),
                ("about", models.UUIDField(null=True)),
                ("sealed", models.BinaryField(help_text="{“by”: who, …}")),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
        ),
        migrations.CreateModel(
            name="CaseRecord",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("request_id", models.UUIDField()),
                ("is_linked", models.BooleanField()),
                (
                    "subjects",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), default=list, size=None
                    ),
                ),
                ("sealed", models.BinaryField(help_text="Why: {“reason”}.")),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
        ),
        migrations.CreateModel(
            name="CaseReminder",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("deadline_id", models.UUIDField()),
                ("due", models.DateTimeField()),
                ("days", models.SmallIntegerField()),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
        ),
        migrations.CreateModel(
            name="CaseSignature",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("is_approved", models.BooleanField()),
                ("sealed", models.BinaryField()),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
                    ),
                ),
                (
                    "decision",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="audit_cases.casedecision",
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
        ),
        migrations.CreateModel(
            name="CaseVersion",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.IntegerField()),
                ("author_id", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("under_review", "Under review"),
                            ("awaiting_signature", "Waits for the second signature"),
                            ("closed_reported", "Closed, reported"),
                            ("closed_not_reported", "Closed, not reported"),
                            ("reopened", "Reopened"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "severity",
                    models.CharField(
                        choices=[
                            ("low", "Low"),
                            ("medium", "Medium"),
                            ("high", "High"),
                            ("critical", "Critical"),
                        ],
                        max_length=10,
                    ),
                ),
                ("owner_id", models.UUIDField(null=True)),
                ("sealed", models.BinaryField()),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="audit_cases.case"
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
        ),
        migrations.AddConstraint(
            model_name="case",
            constraint=models.UniqueConstraint(fields=("tenant", "number"), name="one_case_of_a_number"),
        ),
        migrations.AddConstraint(
            model_name="caseevent",
            constraint=models.UniqueConstraint(fields=("case", "seq"), name="one_deed_at_a_place_of_a_case"),
        ),
        migrations.AddIndex(
            model_name="casemember",
            index=models.Index(fields=["tenant", "user_id"], name="audit_cases_tenant__147758_idx"),
        ),
        migrations.AddIndex(
            model_name="casereading",
            index=models.Index(fields=["case", "user_id", "created"], name="audit_cases_case_id_10d0e4_idx"),
        ),
        migrations.AddIndex(
            model_name="caserecord",
            index=models.Index(fields=["case", "request_id"], name="audit_cases_case_id_7a63bb_idx"),
        ),
        migrations.AddIndex(
            model_name="caserecord",
            index=django.contrib.postgres.indexes.GinIndex(fields=["subjects"], name="audit_cases_subjects"),
        ),
        migrations.AddConstraint(
            model_name="casereminder",
            constraint=models.UniqueConstraint(
                fields=("deadline_id", "due", "days"), name="one_reminder_a_threshold"
            ),
        ),
        migrations.AddConstraint(
            model_name="casesignature",
            constraint=models.UniqueConstraint(fields=("decision",), name="one_signature_a_decision"),
        ),
        migrations.AddConstraint(
            model_name="caseversion",
            constraint=models.UniqueConstraint(fields=("case", "seq"), name="one_version_a_deed_of_a_case"),
        ),
        migrations.RunSQL(TWO_PEOPLE, NOT_TWO_PEOPLE),
    ]
