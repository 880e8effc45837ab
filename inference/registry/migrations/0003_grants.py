"""Routes are granted from now on; those that exist stay open to everyone in their tenant, as they were."""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import tenants.models.base


def open_existing_routes(apps: Any, schema_editor: Any) -> None:
    """Once, here, and not at every start: a tenant that narrows a route later keeps it narrow."""
    alias = schema_editor.connection.alias
    Route, Grant, Group, Tenant, Permission, ContentType = (
        apps.get_model(*name)._base_manager.using(alias)
        for name in (
            ("registry", "Route"),
            ("registry", "RouteGroupGrant"),
            ("tenants", "Group"),
            ("tenants", "Tenant"),
            ("auth", "Permission"),
            ("contenttypes", "ContentType"),
        )
    )
    for tenant in Tenant.all():
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT set_config('custos.tenant', %s, true)", [str(tenant.pk)])
        routes = list(Route.filter(tenant=tenant))
        if not routes:
            continue
        content_type, _made = ContentType.get_or_create(app_label="registry", model="route")
        permission, _made = Permission.get_or_create(
            content_type=content_type, codename="view_route", defaults={"name": "Can view route"}
        )
        everyone = Group.get(tenant=tenant, is_everyone=True)
        for route in routes:
            Grant.get_or_create(tenant=tenant, group=everyone, permission=permission, content_object=route)


def grants(name: str, field: str, to: Any) -> migrations.CreateModel:
    """A table of grants on routes, to what `field` refers to."""
    cascade = django.db.models.deletion.CASCADE
    return migrations.CreateModel(
        name=name,
        fields=[
            (
                "id",
                models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
            ),
            ("content_object", models.ForeignKey(on_delete=cascade, to="registry.route")),
            (field, models.ForeignKey(on_delete=cascade, to=to)),
            ("permission", models.ForeignKey(on_delete=cascade, to="auth.permission")),
            (
                "tenant",
                models.ForeignKey(
                    db_default=tenants.models.base.CurrentTenant(),
                    editable=False,
                    on_delete=cascade,
                    related_name="+",
                    to="tenants.tenant",
                ),
            ),
        ],
        options={"abstract": False, "unique_together": {(field, "permission", "content_object")}},
    )


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("registry", "0002_kind_of_model"),
        ("tenants", "0003_owners_of_keys"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        grants("RouteUserGrant", "user", settings.AUTH_USER_MODEL),
        grants("RouteGroupGrant", "group", "tenants.group"),
        migrations.RunPython(open_existing_routes, migrations.RunPython.noop),
        # The rows made here are checked now, so that what follows may change the tables.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
    ]
