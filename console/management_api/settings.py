"""The tenant itself: its settings, and its end."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from django.utils.translation import gettext as _
from ninja import Router
from pydantic import BaseModel, Field

from audit.record import Keeping
from audit.retention import policies
from console.management_api.access import ManagementRequest
from console.management_api.schemas import Input, Moment, Word, left_out
from tenants import lifecycle
from tenants.actors import require
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.roles import ADMINISTRATION_VIEW

router = Router(tags=["Tenant"])

Registration = Literal["invitation", "domain"]
Accent = Literal["teal", "blue", "violet", "rose", "amber", "grey"]


class TenantOut(BaseModel):
    """The tenant and what it has chosen for itself. Empty lists restrict nothing."""

    id: UUID
    slug: str
    status: str
    delete_after: Moment
    name: str
    display_name: str
    accent: str
    default_language: str
    retention_days: int
    allowed_models: list[str]
    registration: str
    registration_domains: list[str]
    networks: list[str]
    mfa_required: bool


class SettingsChange(Input):
    name: Word = left_out()
    display_name: Word = left_out()
    accent: Accent = left_out()
    default_language: Word = left_out()
    retention_days: int = Field(
        default_factory=int,
        description="Only as it is: how long records are kept is decided in the audit, by a compliance officer.",
    )
    allowed_models: list[Word] = Field(default_factory=list, max_length=1000)
    registration: Registration = left_out()
    registration_domains: list[Word] = Field(default_factory=list, max_length=lifecycle.MOST_DOMAINS)
    networks: list[Word] = Field(default_factory=list, max_length=100)
    mfa_required: bool = left_out()


class Confirmation(Input):
    confirm_slug: Word = Field(description="The tenant's short name, to show that this is meant.")


@router.get("", response=TenantOut, summary="Get the tenant")
def get_tenant(request: ManagementRequest) -> TenantOut:
    require(request.auth, ADMINISTRATION_VIEW)
    return _tenant(request)


@router.patch("", response=TenantOut, summary="Change the tenant's settings")
def change_settings(request: ManagementRequest, body: SettingsChange) -> TenantOut:
    changes = body.model_dump(exclude_unset=True)
    asked = changes.pop("retention_days", None)
    if asked is not None and asked != _retention_days(request):
        message = _(
            "How long records are kept is decided in the audit, under Retention, by a compliance officer."
        )
        raise Refused("retention_elsewhere", message, "retention_days")
    lifecycle.update_settings(actor=request.auth, **changes)
    return _tenant(request)


@router.post("/archive", response=TenantOut, summary="Archive the tenant")
def archive_tenant(request: ManagementRequest) -> TenantOut:
    """Closed and kept. Nobody enters, no key works; the platform's administrators can resume it."""
    lifecycle.archive(actor=request.auth)
    return _tenant(request)


@router.post("/deletion", response=TenantOut, summary="Have the tenant deleted")
def request_deletion(request: ManagementRequest, body: Confirmation) -> TenantOut:
    """Closed now, deleted with its keys after the time of grace."""
    lifecycle.request_deletion(actor=request.auth, confirm_slug=body.confirm_slug)
    return _tenant(request)


def _retention_days(request: ManagementRequest) -> int:
    """For how many days requests are kept."""
    return policies.in_force(request.auth.tenant_id)[Keeping.REQUESTS].days


def _tenant(request: ManagementRequest) -> TenantOut:
    tenant = Tenant.objects.get(pk=request.auth.tenant_id)
    row = lifecycle.settings_of(request.auth)
    return TenantOut(
        id=tenant.pk,
        slug=tenant.slug,
        status=tenant.status,
        delete_after=tenant.delete_after,
        name=tenant.name,
        display_name=row.display_name,
        accent=row.accent,
        default_language=row.default_language,
        retention_days=_retention_days(request),
        allowed_models=row.allowed_models,
        registration=row.registration,
        registration_domains=row.registration_domains,
        networks=row.networks,
        mfa_required=row.mfa_required,
    )
