"""The log: places of closed records, kept hashes, statements, heads; an outbox that triggers fill."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.models.base

# A closed record waits for its place from the transaction on that closed it; statements likewise.
TRIGGERS = """
ALTER TABLE audit_leaf ADD CONSTRAINT audit_leaf_hash CHECK (octet_length(hash) = 32);
ALTER TABLE audit_node ADD CONSTRAINT audit_node_hash CHECK (octet_length(hash) = 32);
ALTER TABLE audit_checkpoint ADD CONSTRAINT audit_checkpoint_root CHECK (octet_length(root) = 32);

CREATE FUNCTION audit_await_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit_pending (tenant_id, request_id, day, is_statement, since)
    VALUES (NEW.tenant_id, NEW.request_id, NEW.day, false, NEW.created) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION audit_await_place_of_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit_pending (tenant_id, request_id, day, is_statement, since)
    VALUES (NEW.tenant_id, NEW.id, (NEW.created AT TIME ZONE 'UTC')::date, true, NEW.created)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- A head that the witness has seen must not be lost with the power: then the log would seem to have shrunk.
CREATE FUNCTION audit_guard_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.audit_be_durable();
    RETURN NULL;
END $$;

CREATE TRIGGER await_place AFTER INSERT ON audit_completion FOR EACH ROW EXECUTE FUNCTION audit_await_place();
CREATE TRIGGER await_place AFTER INSERT ON audit_statement
    FOR EACH ROW EXECUTE FUNCTION audit_await_place_of_statement();
CREATE TRIGGER guard BEFORE INSERT ON audit_statement FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_log();
CREATE TRIGGER guard BEFORE INSERT ON audit_leaf FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_log();
CREATE TRIGGER guard BEFORE INSERT ON audit_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION audit_guard_log();
"""

REMOVE = """
DROP TRIGGER await_place ON audit_completion;
DROP TRIGGER await_place ON audit_statement;
DROP TRIGGER guard ON audit_statement;
DROP TRIGGER guard ON audit_leaf;
DROP TRIGGER guard ON audit_checkpoint;
DROP FUNCTION audit_await_place();
DROP FUNCTION audit_await_place_of_statement();
DROP FUNCTION audit_guard_log();
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [("audit", "0002_grown_record"), ("tenants", "0006_officer_role")]

    operations = [
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "size", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("size", models.BigIntegerField()),
                ("root", models.BinaryField()),
                ("note", models.TextField()),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_checkpoint",
            },
        ),
        migrations.CreateModel(
            name="Node",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "level",
                        "position",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("level", models.SmallIntegerField()),
                ("position", models.BigIntegerField()),
                ("hash", models.BinaryField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_node",
            },
        ),
        migrations.CreateModel(
            name="Pending",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "request_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("request_id", models.UUIDField()),
                ("day", models.DateField()),
                ("is_statement", models.BooleanField(default=False)),
                ("since", models.DateTimeField(default=tenants.clock.now)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_pending",
            },
        ),
        migrations.CreateModel(
            name="Anchoring",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("anchor", models.TextField()),
                ("size", models.BigIntegerField()),
                ("outcome", models.TextField(choices=[("accepted", "Accepted"), ("refused", "Refused")])),
                ("signature", models.TextField()),
                ("detail", models.TextField()),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_anchoring",
                "indexes": [
                    models.Index(fields=["tenant", "anchor", "size"], name="audit_anchoring_by_size")
                ],
            },
        ),
        migrations.CreateModel(
            name="Check",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("asked_by", models.UUIDField(null=True)),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                ("heard", models.DateTimeField(default=tenants.clock.now)),
                ("done", models.BigIntegerField(default=0)),
                ("total", models.BigIntegerField(default=0)),
                ("finished", models.DateTimeField(null=True)),
                ("report", models.JSONField(null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_check",
                "indexes": [models.Index(fields=["tenant", "-created"], name="audit_check_newest")],
            },
        ),
        migrations.CreateModel(
            name="Leaf",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "seq", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("seq", models.BigIntegerField()),
                ("hash", models.BinaryField()),
                ("request_id", models.UUIDField()),
                ("day", models.DateField()),
                ("keeping", models.TextField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_leaf",
                "indexes": [
                    models.Index(fields=["tenant", "day", "keeping", "seq"], name="audit_leaf_by_day")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "request_id"), name="audit_leaf_once"),
                    models.CheckConstraint(condition=models.Q(("seq__gte", 0)), name="audit_leaf_seq"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Statement",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("kind", models.TextField()),
                ("text", models.TextField()),
                ("signature", models.TextField()),
                ("created", models.DateTimeField(default=tenants.clock.now)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_default=tenants.models.base.CurrentTenant(),
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "audit_statement",
                "indexes": [models.Index(fields=["tenant", "kind"], name="audit_statement_by_kind")],
            },
        ),
        migrations.RunSQL(TRIGGERS, REMOVE),
    ]
