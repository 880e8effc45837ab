"""The abstract base of every tenant-owned table."""

from typing import Any, ClassVar

from django.db import models
from django_scopes import ScopedManager, ScopeError
from django_scopes.manager import DisabledQuerySet

from tenants.ids import uuid7
from tenants.models.directory import Tenant


class CurrentTenant(models.Func):
    """SQL of the transaction's tenant; NULL outside a tenant scope."""

    template = "nullif(current_setting('custos.tenant', true), '')::uuid"
    output_field = models.UUIDField()
    allowed_default = True
    arity = 0


class TenantManager(ScopedManager(tenant="tenant").__class__):  # type: ignore[misc]
    """Filters by the tenant of the scope; raises ScopeError, on any use at all, when no scope is open.

    django-scopes alone lets `exists()`, `create()` and a few more pass without a scope.
    """

    def get_queryset(self) -> models.QuerySet[Any]:
        queryset = super().get_queryset()
        if isinstance(queryset, DisabledQuerySet):
            raise ScopeError(
                f"{self.model.__name__}: a query without a tenant. Open tenants.scope.tenant_scope first."
            )
        return queryset


class TenantOwned(models.Model):
    """A row of one tenant. `tenants.isolation` gives the table of every subclass row-level security and grants.

    privileges: what the application's database role may do with the table.
    also_visible: a further SQL condition under which rows can be read (not written), or "".
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"
    also_visible: ClassVar[str] = ""

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="+", editable=False, db_default=CurrentTenant()
    )

    class Meta:
        abstract = True


class TenantModel(TenantOwned):
    """The base of tenant-owned models: a time-ordered id, the owning tenant, the scoped manager."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects = TenantManager()

    class Meta:
        abstract = True
