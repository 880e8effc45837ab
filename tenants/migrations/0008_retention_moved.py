"""For how long the audit is kept moves to where whoever reviews decides it; what was chosen goes with it."""

from typing import Any

from django.db import migrations

USUAL = 7


def move(apps: Any, schema_editor: Any) -> None:
    alias = schema_editor.connection.alias
    settings = apps.get_model("tenants", "TenantSettings")._base_manager.using(alias)
    policies = apps.get_model("audit_retention", "Policy")._base_manager.using(alias)
    for tenant in apps.get_model("tenants", "Tenant")._base_manager.using(alias).all():
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant.pk)])
        for row in settings.filter(tenant=tenant).exclude(retention_days=USUAL):
            policies.create(
                tenant=tenant, keeping="audit", days=row.retention_days, decided_label="tenant.settings"
            )


class Migration(migrations.Migration):
    dependencies = [("tenants", "0007_two_part_keys"), ("audit_retention", "0002_guards")]

    operations = [
        migrations.RunPython(move, migrations.RunPython.noop),
        migrations.RemoveField("tenantsettings", "retention_days"),
    ]
