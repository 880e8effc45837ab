"""Programs that call Custos with a key, as the tests' actors."""

from collections.abc import Iterable
from itertools import count
from typing import Any

from django.http import HttpResponse
from django.test import Client

from tenants import clock
from tenants.models import ApiKey, ServiceAccount
from tenants.roles import Role, Scope
from tenants.scope import tenant_scope
from tests.conftest import Company

_numbers = count(1)

READ = [Scope.MANAGEMENT_READ]
WRITE = [Scope.MANAGEMENT_READ, Scope.MANAGEMENT_WRITE]


def make_key(company: Company, scopes: Iterable[str], role: str = Role.OWNER) -> str:
    """The text of a key with these scopes, of a new service account with this role; used before, which is a record."""
    name = f"program {next(_numbers)}"
    with tenant_scope(company.tenant.pk):
        account = ServiceAccount.objects.create(name=name, role=role)
        key = ApiKey(tenant_id=company.tenant.pk, name=name, service_account=account, scopes=list(scopes))
        key.last_used = clock.now()
        text = key.set_new_secret(company.tenant.pk)
        key.save(force_insert=True)
    return text


class Caller:
    """A program: calls addresses below `base` with its key and JSON bodies."""

    def __init__(self, key: str | None, base: str = "/api/v1", media_type: str = "application/json") -> None:
        self._base = base
        self._media_type = media_type
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = Client()

    def without_key(self) -> "Caller":
        return Caller(None, self._base, self._media_type)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        sent = {} if body is None else {"data": body, "content_type": self._media_type}
        if method in ("get", "delete"):
            sent = {"query_params": body or {}}
        return getattr(self._client, method)(f"{self._base}{path}", headers=self._headers | headers, **sent)

    def get(self, path: str, **query: Any) -> HttpResponse:
        return self("get", path, query)

    def post(self, path: str, **body: Any) -> HttpResponse:
        return self("post", path, body)

    def patch(self, path: str, **body: Any) -> HttpResponse:
        return self("patch", path, body)

    def put(self, path: str, **body: Any) -> HttpResponse:
        return self("put", path, body)

    def delete(self, path: str, **query: Any) -> HttpResponse:
        return self("delete", path, query)
