"""Keys in two parts and in versions, and the one function that destroys a day's key."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.clock
import tenants.ids
import tenants.models

SQL = """
-- One at a time makes, wraps or destroys a data key.
CREATE FUNCTION tenants_lock_key(which uuid, which_purpose text, which_day date) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('data key ' || which || ' ' || which_purpose || ' ' || which_day, 0))
$$;

-- Runs as the owner: the application's role can delete no key by itself, and here only one of the audit whose day is over
-- and which retention lets go. A second call finds nothing to delete and changes nothing.
CREATE FUNCTION tenants_destroy_key(which_purpose text, which_day date, why text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    scope uuid := nullif(current_setting('custos.tenant', true), '')::uuid;
BEGIN
    IF scope IS NULL THEN
        RAISE EXCEPTION 'the scope of the tenant is not open';
    END IF;
    IF which_purpose NOT IN ('audit', 'audit.changes', 'audit.readings') AND which_purpose NOT LIKE 'case:%' THEN
        RAISE EXCEPTION 'keys of this purpose are not destroyed by the day';
    END IF;
    -- Retention is a part of its own, which comes later than this one.
    IF to_regprocedure('public.audit_may_destroy_key(text, date)') IS NOT NULL THEN
        IF NOT public.audit_may_destroy_key(which_purpose, which_day) THEN
            RAISE EXCEPTION 'the % key of % is not due', which_purpose, which_day;
        END IF;
    ELSIF which_day >= (now() AT TIME ZONE 'utc')::date THEN
        RAISE EXCEPTION 'the key of a day is destroyed when the day is over';
    END IF;
    PERFORM public.tenants_lock_key(scope, which_purpose, which_day);
    DELETE FROM public.tenants_datakey
        WHERE tenant_id = scope AND purpose = which_purpose AND day = which_day;
    INSERT INTO public.tenants_destroyedkey (id, tenant_id, purpose, day, reason, destroyed)
        VALUES (gen_random_uuid(), scope, which_purpose, which_day, why, now()) ON CONFLICT DO NOTHING;
END $$;
REVOKE ALL ON FUNCTION tenants_destroy_key(text, date, text) FROM PUBLIC;
"""

REVERSE = """
DROP FUNCTION tenants_destroy_key(text, date, text);
DROP FUNCTION tenants_lock_key(uuid, text, date);
"""


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_officer_role")]

    operations = [
        migrations.CreateModel(
            name="DestroyedKey",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("purpose", models.CharField(max_length=64)),
                ("day", models.DateField()),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("retention", "Its time was over"),
                            ("erasure", "Erased on request"),
                            ("released", "A hold was released"),
                        ],
                        max_length=32,
                    ),
                ),
                ("destroyed", models.DateTimeField(default=tenants.clock.now, editable=False)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="datakey",
            name="one_data_key_a_day",
        ),
        migrations.RemoveConstraint(
            model_name="tenantkey",
            name="one_key_encryption_key_a_tenant",
        ),
        migrations.AddField(
            model_name="datakey",
            name="created",
            field=models.DateTimeField(default=tenants.clock.now, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="datakey",
            name="generation",
            field=models.IntegerField(db_default=1, default=1),
        ),
        migrations.AddField(
            model_name="datakey",
            name="version",
            field=models.IntegerField(db_default=1, default=1),
        ),
        migrations.AddField(
            model_name="tenantkey",
            name="generation",
            field=models.IntegerField(db_default=1, default=1),
        ),
        migrations.AddField(
            model_name="tenantkey",
            name="provider_key",
            field=models.CharField(db_default="", default="", max_length=300),
        ),
        migrations.AddField(
            model_name="tenantkey",
            name="wrapping",
            field=models.IntegerField(db_default=1, default=1),
        ),
        migrations.AddConstraint(
            model_name="datakey",
            constraint=models.UniqueConstraint(
                fields=("tenant", "purpose", "day", "version"), name="one_data_key_a_version"
            ),
        ),
        migrations.AddConstraint(
            model_name="tenantkey",
            constraint=models.UniqueConstraint(
                fields=("tenant", "generation", "wrapping"), name="one_key_encryption_key_a_generation"
            ),
        ),
        migrations.AddField(
            model_name="destroyedkey",
            name="tenant",
            field=models.ForeignKey(
                db_default=tenants.models.base.CurrentTenant(),
                editable=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="destroyedkey",
            constraint=models.UniqueConstraint(
                fields=("tenant", "purpose", "day"), name="one_destruction_a_data_key"
            ),
        ),
        migrations.RunSQL(SQL, REVERSE),
    ]
