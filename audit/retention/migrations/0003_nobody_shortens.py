"""Whatever the application writes, a day goes a day after its going was said: a notice is no longer confirmed."""

from django.db import migrations

READY = """
CREATE OR REPLACE FUNCTION audit_retention_ready(wanted text, wanted_day date) RETURNS boolean LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(public.audit_retention_due(wanted, wanted_day) <= public.audit_now(), false) AND EXISTS (
        SELECT FROM public.audit_retention_notice AS notice
        WHERE notice.tenant_id = public.audit_tenant() AND notice.keeping = wanted AND notice.day = wanted_day
          AND notice.announced <= public.audit_now() - interval '24 hours')
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("audit_retention", "0002_guards")]

    operations = [
        migrations.RunSQL(READY, migrations.RunSQL.noop),
        migrations.RemoveField(model_name="notice", name="confirmed_by"),
    ]
