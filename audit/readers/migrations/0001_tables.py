"""Alerts on unusual reading, their acknowledgements and thresholds."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.ids
import tenants.models.base

# Not in the services alone: whoever writes past them is refused as well.
ANOTHER_PERSON = """
CREATE FUNCTION audit_readers_another_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM public.audit_readers_readeralert AS alert
        WHERE alert.id = NEW.alert_id AND alert.reader_id IS DISTINCT FROM NEW.by_id
    ) THEN
        RAISE EXCEPTION 'an alert is acknowledged by another person than it is about' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER another_person BEFORE INSERT ON audit_readers_alertacknowledgement
    FOR EACH ROW EXECUTE FUNCTION audit_readers_another_person();
"""

ANY_PERSON = """
DROP TRIGGER another_person ON audit_readers_alertacknowledgement;
DROP FUNCTION audit_readers_another_person();
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0006_officer_role"),
    ]

    operations = [
        migrations.CreateModel(
            name="ReaderAlert",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "rule",
                    models.CharField(
                        choices=[
                            ("many", "Many openings within an hour"),
                            ("more_than_usual", "Many more openings than usual"),
                            ("odd_hours", "Outside their usual hours"),
                            ("one_person", "One person’s records again and again"),
                            ("own_department", "Their own records or those of their own department"),
                            ("no_ground", "Requests opened outside of a review or case"),
                            ("same_reason", "The same short reason again and again"),
                            ("mass_export", "Many records exported"),
                        ],
                        max_length=20,
                    ),
                ),
                ("reader_id", models.UUIDField()),
                ("span", models.CharField(max_length=20)),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
                ("found", models.PositiveIntegerField()),
                ("threshold", models.PositiveIntegerField()),
                (
                    "events",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), default=list, size=None
                    ),
                ),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
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
            name="AlertAcknowledgement",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("by_id", models.UUIDField()),
                ("sealed_reason", models.BinaryField()),
                ("created", models.DateTimeField(default=tenants.clock.now, editable=False)),
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
                (
                    "alert",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="acknowledgement",
                        to="audit_readers.readeralert",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="ReaderRule",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "rule",
                    models.CharField(
                        choices=[
                            ("many", "Many openings within an hour"),
                            ("more_than_usual", "Many more openings than usual"),
                            ("odd_hours", "Outside their usual hours"),
                            ("one_person", "One person’s records again and again"),
                            ("own_department", "Their own records or those of their own department"),
                            ("no_ground", "Requests opened outside of a review or case"),
                            ("same_reason", "The same short reason again and again"),
                            ("mass_export", "Many records exported"),
                        ],
                        max_length=20,
                    ),
                ),
                ("threshold", models.PositiveIntegerField()),
                ("enabled", models.BooleanField(default=True)),
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
            name="ReaderWatch",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("looked_until", models.DateTimeField()),
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
            model_name="readeralert",
            constraint=models.UniqueConstraint(
                fields=("tenant", "rule", "reader_id", "span"), name="one_alert_a_rule_reader_and_span"
            ),
        ),
        migrations.AddConstraint(
            model_name="readerrule",
            constraint=models.UniqueConstraint(fields=("tenant", "rule"), name="one_reader_rule_a_tenant"),
        ),
        migrations.AddConstraint(
            model_name="readerwatch",
            constraint=models.UniqueConstraint(fields=("tenant",), name="one_reader_watch_a_tenant"),
        ),
        migrations.RunSQL(ANOTHER_PERSON, ANY_PERSON),
    ]
