"""The identity providers that vouch for the tenant's people."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from ninja import Router
from pydantic import BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Code, Input, Text, Word, left_out
from console.sign_in import services
from console.sign_in.models import IdentityProvider

router = Router(tags=["Identity providers"])

_DOMAINS = "Of the addresses that the provider may speak for; at least one."
_DUTIES = "Let in administrators and reviewers too. Only who appoints people changes such a provider."


class Provider(BaseModel):
    """An OpenID Connect issuer. Its secret goes in and never comes out."""

    id: UUID
    slug: str
    name: str
    issuer: str
    client_id: str
    has_secret: bool
    domains: list[str]
    default_role: str
    just_in_time: bool
    vouches_for_duties: bool
    enabled: bool
    created: datetime


class NewProvider(Input):
    slug: Word
    name: Word
    issuer: Text = Field(description="Exactly as it names itself; begins with https://.")
    client_id: Text
    client_secret: Text = Field("", description="Empty for a public client.")
    domains: list[Word] = Field(max_length=services.MOST_DOMAINS, description=_DOMAINS)
    default_role: Code = "member"
    just_in_time: bool = Field(False, description="Let people in without an invitation.")
    vouches_for_duties: bool = Field(False, description=_DUTIES)
    enabled: bool = True


class ProviderChange(Input):
    name: Word = left_out()
    issuer: Text = left_out()
    client_id: Text = left_out()
    client_secret: Text = left_out()
    domains: list[Word] = Field(default_factory=list, max_length=services.MOST_DOMAINS, description=_DOMAINS)
    default_role: Code = left_out()
    just_in_time: bool = left_out()
    vouches_for_duties: bool = left_out()
    enabled: bool = left_out()


class Reached(BaseModel):
    """What the issuer says of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str


@router.get("", response=list[Provider], summary="List identity providers")
def list_providers(request: ManagementRequest) -> list[Provider]:
    return [_provider(row) for row in services.providers(request.auth)]


@router.post("", response={201: Provider}, summary="Add an identity provider")
def add_provider(request: ManagementRequest, body: NewProvider) -> Provider:
    return _provider(services.create_provider(actor=request.auth, **body.model_dump()))


@router.get("/{uuid:provider_id}", response=Provider, summary="Get an identity provider")
def get_provider(request: ManagementRequest, provider_id: UUID) -> Provider:
    return _provider(services.provider(request.auth, provider_id))


@router.patch("/{uuid:provider_id}", response=Provider, summary="Change an identity provider")
def change_provider(request: ManagementRequest, provider_id: UUID, body: ProviderChange) -> Provider:
    """With another issuer, or disabled, the sessions that it vouched for end."""
    changes = body.model_dump(exclude_unset=True)
    return _provider(services.update_provider(actor=request.auth, provider_id=provider_id, **changes))


@router.delete("/{uuid:provider_id}", response={204: None}, summary="Remove an identity provider")
def remove_provider(request: ManagementRequest, provider_id: UUID) -> None:
    """The people stay members."""
    services.delete_provider(actor=request.auth, provider_id=provider_id)


@router.post("/{uuid:provider_id}/test", response=Reached, summary="Ask an issuer how it is reached")
def test_provider(request: ManagementRequest, provider_id: UUID) -> Reached:
    found = services.test_connection(actor=request.auth, provider_id=provider_id)
    return Reached(
        issuer=found.issuer,
        authorization_endpoint=found.authorization_endpoint,
        token_endpoint=found.token_endpoint,
    )


def _provider(row: IdentityProvider) -> Provider:
    return Provider(
        id=row.pk,
        slug=row.slug,
        name=row.name,
        issuer=row.issuer,
        client_id=row.client_id,
        has_secret=row.has_secret,
        domains=row.domains,
        default_role=row.default_role,
        just_in_time=row.just_in_time,
        vouches_for_duties=row.vouches_for_duties,
        enabled=row.enabled,
        created=row.created,
    )
