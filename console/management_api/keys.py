"""Service accounts and API keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from ninja import Query, Router
from pydantic import AwareDatetime, BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Code, Input, Moment, Page, Paged, Text, Word, left_out, page_of
from tenants import keys
from tenants.actors import NotVisible
from tenants.models import ApiKey, ServiceAccount
from tenants.roles import Scope

accounts = Router(tags=["Service accounts"])
router = Router(tags=["API keys"])


class Account(BaseModel):
    """A program with rights of its own."""

    id: UUID
    name: str
    description: str
    role: str
    active: bool
    created: datetime


class NewAccount(Input):
    name: Word
    description: Text = ""
    role: Code = "member"


class AccountChange(Input):
    description: Text = left_out()
    role: Code = left_out()


class Key(BaseModel):
    """A key without its text. Exactly one of `service_account_id` and `user_id` is there."""

    id: UUID
    name: str
    service_account_id: UUID | None
    user_id: UUID | None
    owner: str
    scopes: list[str]
    allowed_routes: list[str]
    networks: list[str]
    prefix: str
    created: datetime
    expires: Moment
    last_used: Moment
    rotates: UUID | None
    revoked: Moment


class FreshKey(Key):
    """A key with its text, which cannot be had again."""

    key: str


class NewKey(Input):
    name: Word
    service_account_id: UUID
    scopes: list[Scope] = Field([Scope.INFERENCE], min_length=1, max_length=len(Scope))
    expires: AwareDatetime | None = None
    allowed_routes: list[Word] = Field([], max_length=100, description="None: all that the tenant has.")
    networks: list[Word] = Field([], max_length=100, description="CIDR blocks; none: from everywhere.")


class Rotation(Input):
    overlap_hours: int = Field(24, ge=0, le=30 * 24, description="How long the old key still works.")


class KeySearch(Input):
    service_account_id: UUID | None = None


@accounts.get("", response=Page[Account], summary="List service accounts")
def list_accounts(request: ManagementRequest, paging: Paged) -> Page[Account]:
    return page_of(keys.service_accounts(request.auth), paging, _account)


@accounts.post("", response={201: Account}, summary="Create a service account")
def create_account(request: ManagementRequest, body: NewAccount) -> Account:
    return _account(keys.create_service_account(actor=request.auth, **body.model_dump()))


@accounts.get("/{uuid:account_id}", response=Account, summary="Get a service account")
def get_account(request: ManagementRequest, account_id: UUID) -> Account:
    found = keys.service_accounts(request.auth).filter(pk=account_id).first()
    if found is None:
        raise NotVisible("service account")
    return _account(found)


@accounts.patch("/{uuid:account_id}", response=Account, summary="Change a service account")
def change_account(request: ManagementRequest, account_id: UUID, body: AccountChange) -> Account:
    changes = body.model_dump(exclude_unset=True)
    return _account(keys.update_service_account(actor=request.auth, account_id=account_id, **changes))


@accounts.post("/{uuid:account_id}/disable", response=Account, summary="Disable a service account")
def disable_account(request: ManagementRequest, account_id: UUID) -> Account:
    """It stops, with all its keys, within a second."""
    return _set_enabled(request, account_id, False)


@accounts.post("/{uuid:account_id}/enable", response=Account, summary="Enable a service account")
def enable_account(request: ManagementRequest, account_id: UUID) -> Account:
    return _set_enabled(request, account_id, True)


@router.get("", response=Page[Key], summary="List keys")
def list_keys(request: ManagementRequest, paging: Paged, wanted: Annotated[KeySearch, Query()]) -> Page[Key]:
    """Newest first, ended ones included."""
    found = keys.keys(request.auth)
    if wanted.service_account_id is not None:
        found = found.filter(service_account_id=wanted.service_account_id)
    return page_of(found, paging, _key)


@router.post("", response={201: FreshKey}, summary="Create a key")
def create_key(request: ManagementRequest, body: NewKey) -> FreshKey:
    """For a service account. The answer holds the key's text, this once."""
    key, text = keys.create_key(
        actor=request.auth,
        name=body.name,
        service_account_id=body.service_account_id,
        scopes=body.scopes,
        expires=body.expires,
        allowed_routes=body.allowed_routes,
        allowed_networks=body.networks,
    )
    return _fresh(key, text)


@router.get("/{uuid:key_id}", response=Key, summary="Get a key")
def get_key(request: ManagementRequest, key_id: UUID) -> Key:
    found = keys.keys(request.auth).filter(pk=key_id).first()
    if found is None:
        raise NotVisible("key")
    return _key(found)


@router.post("/{uuid:key_id}/rotate", response={201: FreshKey}, summary="Rotate a key")
def rotate_key(request: ManagementRequest, key_id: UUID, body: Rotation) -> FreshKey:
    """A successor with the same rights; the old key works on for the overlap."""
    overlap = timedelta(hours=body.overlap_hours)
    return _fresh(*keys.rotate_key(actor=request.auth, key_id=key_id, overlap=overlap))


@router.delete("/{uuid:key_id}", response={204: None}, summary="Revoke a key")
def revoke_key(request: ManagementRequest, key_id: UUID) -> None:
    """What runs with it ends within a second."""
    keys.revoke_key(actor=request.auth, key_id=key_id)


def _set_enabled(request: ManagementRequest, account_id: UUID, enabled: bool) -> Account:
    return _account(
        keys.set_service_account_enabled(actor=request.auth, account_id=account_id, enabled=enabled)
    )


def _account(row: ServiceAccount) -> Account:
    return Account(
        id=row.pk,
        name=row.name,
        description=row.description,
        role=row.role,
        active=row.disabled is None,
        created=row.created,
    )


def _key(row: ApiKey) -> Key:
    return Key(
        id=row.pk,
        name=row.name,
        service_account_id=row.service_account_id,
        user_id=row.user_id,
        owner=row.user.email if row.user else str(row.service_account),
        scopes=row.scopes,
        allowed_routes=row.allowed_routes,
        networks=row.networks,
        prefix=row.prefix,
        created=row.created,
        expires=row.expires,
        last_used=row.last_used,
        rotates=row.rotates_id,
        revoked=row.revoked,
    )


def _fresh(row: ApiKey, text: str) -> FreshKey:
    return FreshKey(**_key(row).model_dump(), key=text)
