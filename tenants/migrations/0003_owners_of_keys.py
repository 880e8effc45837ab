"""What the tenants and keys of before lack; and the functions that guard and carry out a tenant's deletion."""

from typing import Any

from django.db import migrations, models

SQL = """
-- The application may say that a tenant shall be deleted, but not soon: whoever takes over the application in the
-- night does not destroy a tenant's keys before somebody notices. The day counts from when the tenant closes.
CREATE FUNCTION tenants_keep_grace() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = 'custos_app' AND NEW.status = 'deleting'
       AND (TG_OP = 'INSERT' OR OLD.status <> 'deleting' OR NEW.delete_after IS DISTINCT FROM OLD.delete_after)
       AND (NEW.delete_after IS NULL OR NEW.delete_after < now() + interval '1 day') THEN
        RAISE EXCEPTION 'a tenant is deleted after a day at the earliest';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_grace BEFORE INSERT OR UPDATE ON tenants_tenant
    FOR EACH ROW EXECUTE FUNCTION tenants_keep_grace();

-- Runs as the owner: the application's role can delete no key by itself.
CREATE FUNCTION tenants_destroy_keys(which uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF nullif(current_setting('custos.tenant', true), '')::uuid IS DISTINCT FROM which THEN
        RAISE EXCEPTION 'the scope of the tenant is not open';
    END IF;
    PERFORM 1 FROM public.tenants_tenant
        WHERE id = which AND status = 'deleting' AND delete_after <= now() FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the tenant is not being deleted, or its grace is not over';
    END IF;
    DELETE FROM public.tenants_datakey WHERE tenant_id = which;
    DELETE FROM public.tenants_tenantkey WHERE tenant_id = which;
END $$;
REVOKE ALL ON FUNCTION tenants_destroy_keys(uuid) FROM PUBLIC;
"""

REVERSE = """
DROP FUNCTION tenants_destroy_keys(uuid);
DROP TRIGGER keep_grace ON tenants_tenant;
DROP FUNCTION tenants_keep_grace();
"""


def complete(apps: Any, schema_editor: Any) -> None:
    """Settings and an everyone group for each tenant; a service account for each key, and the scope it had."""
    alias = schema_editor.connection.alias
    rows = {
        name: apps.get_model("tenants", name)._base_manager.using(alias)
        for name in ("ApiKey", "Group", "ServiceAccount", "TenantSettings", "Tenant")
    }
    for tenant in rows["Tenant"].all():
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant.pk)])
        rows["TenantSettings"].get_or_create(tenant=tenant)
        rows["Group"].get_or_create(tenant=tenant, is_everyone=True, defaults={"name": "Everyone"})
        for key in rows["ApiKey"].filter(tenant=tenant, user=None, service_account=None):
            account = rows["ServiceAccount"].create(tenant=tenant, name=key.name, role="member")
            key.service_account, key.scopes = account, ["inference"]
            key.save(using=alias)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_administration")]

    operations = [
        migrations.RunPython(complete, migrations.RunPython.noop),
        # The rows of before were changed in this transaction: what is deferred on them is checked now.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("user", None), ("service_account", None), _connector="XOR"),
                name="key_has_one_owner",
            ),
        ),
        migrations.RunSQL(SQL, REVERSE),
    ]
