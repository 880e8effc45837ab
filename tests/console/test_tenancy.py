"""The door of every page of a tenant holds by itself, whatever the view behind it would show."""

from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.http import Http404, HttpResponse
from django.test import RequestFactory

from console.tenancy import TenantRequest, tenant_view
from tenants.models import Membership, User
from tenants.roles import AUDIT_READ
from tests.conftest import Company


@tenant_view(AUDIT_READ)
def behind_the_door(request: TenantRequest) -> HttpResponse:
    return HttpResponse(f"{Membership.objects.count()} people")


def _knock(user: User, slug: str) -> Any:
    request = RequestFactory().get(f"/t/{slug}/")
    request.user, request.session = user, SessionStore()
    return behind_the_door(request, slug)


def test_the_door_opens_with_the_permission_into_the_tenants_scope(acme: Company, north: Company) -> None:
    assert _knock(acme.reviewer, "acme-bank").text == f"{len(acme.people)} people"


def test_without_the_permission_and_for_strangers_there_is_nothing(
    acme: Company, north: Company, platform_administrator: User
) -> None:
    for user in (acme.member, acme.owner, north.reviewer, platform_administrator):
        with pytest.raises(Http404):
            _knock(user, "acme-bank")
