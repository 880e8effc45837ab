"""Words that stand beside each other are entered as one more hash, as are three characters in a row."""

from django.db import migrations

# Entries of before have none of them, so no phrase would be found in them: they are made anew.
EMPTY = """
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = 'public.audit_search_entry'::regclass LOOP
        EXECUTE format('DROP TABLE %s', part);
    END LOOP;
END $$;
"""


def wait_for_all(apps, schema_editor):
    """All records wait to be indexed again. Tenant by tenant: an owner that is no superuser sees nothing else."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        for tenant_id in (
            apps.get_model("tenants", "Tenant").objects.using(connection.alias).values_list("id", flat=True)
        ):
            cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant_id)])
            cursor.execute(
                "INSERT INTO audit_search_waiting (day, request_id, tenant_id) "
                "SELECT day, id, tenant_id FROM audit_record WHERE tenant_id = %s ON CONFLICT DO NOTHING",
                [tenant_id],
            )
        cursor.execute("SELECT set_config('custos.tenant', '', true)")


class Migration(migrations.Migration):
    dependencies = [("audit_search", "0003_slices")]

    operations = [
        migrations.RunSQL(EMPTY, migrations.RunSQL.noop),
        migrations.RunPython(wait_for_all, migrations.RunPython.noop),
    ]
