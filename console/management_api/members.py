"""The people of the tenant: members, invitations, imports."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from django.urls import reverse
from ninja import Query, Router
from pydantic import BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Code, Input, Moment, Page, Paged, Word, page_of
from tenants import people
from tenants.actors import NotVisible
from tenants.models import Invitation, Membership

members = Router(tags=["Members"])
invitations = Router(tags=["Invitations"])

GROUPS_MOST = 100


class Member(BaseModel):
    """Somebody's place in the tenant. `id` is the membership's, `user_id` the person's."""

    id: UUID
    user_id: UUID
    email: str
    name: str
    role: str
    active: bool
    created: datetime
    last_seen: Moment
    external_id: str


class MemberChange(Input):
    role: Code = Field(description="A built-in role's code or a custom role's short name.")


class MemberSearch(Input):
    search: Word = Field("", description="Words of the name or address.")
    role: Code | None = None


class InvitationOut(BaseModel):
    """An open invitation, or one that has run out."""

    id: UUID
    email: str
    role: str
    group_ids: list[UUID]
    invited_by: str | None
    requested: bool = Field(
        description="Asked for by the person. The link goes to their mailbox alone and cannot be renewed."
    )
    created: datetime
    expires: datetime


class FreshInvitation(InvitationOut):
    """An invitation and the address of its link, which cannot be had again."""

    link: str


class NewInvitation(Input):
    email: Word
    role: Code = "member"
    group_ids: list[UUID] = Field([], max_length=GROUPS_MOST)


class ImportRow(Input):
    email: Word
    role: Code = "member"
    groups: list[Word] = Field([], max_length=GROUPS_MOST, description="Names of groups.")


class Import(Input):
    rows: list[ImportRow] = Field(max_length=people.IMPORT_MOST)
    dry_run: bool = Field(False, description="Check every row and invite nobody.")


class ImportError(BaseModel):
    """What is wrong with a row; rows are counted from 1."""

    row: int
    field: str
    message: str


class ImportResult(BaseModel):
    """All or nothing: with any error nobody was invited."""

    rows: int
    errors: list[ImportError]
    invited: list[FreshInvitation]


@members.get("", response=Page[Member], summary="List members")
def list_members(
    request: ManagementRequest, paging: Paged, wanted: Annotated[MemberSearch, Query()]
) -> Page[Member]:
    """By address, narrowed by words and by role."""
    found = people.members(request.auth, search=wanted.search, role=wanted.role or "")
    return page_of(found, paging, member_out)


@members.post("/import", response=ImportResult, summary="Import members")
def import_members(request: ManagementRequest, body: Import) -> ImportResult:
    """Invite up to 10,000 people, all or nobody: the answer names every bad row."""
    rows = [{"email": row.email, "role": row.role, "groups": ";".join(row.groups)} for row in body.rows]
    report = people.import_members(actor=request.auth, rows=rows, dry_run=body.dry_run)
    errors = [ImportError(row=each.row, field=each.field, message=each.message) for each in report.errors]
    invited = [_fresh(request, invitation, token) for invitation, token in report.invited]
    return ImportResult(rows=report.rows, errors=errors, invited=invited)


@members.get("/{uuid:member_id}", response=Member, summary="Get a member")
def get_member(request: ManagementRequest, member_id: UUID) -> Member:
    found = people.members(request.auth).filter(pk=member_id).first()
    if found is None:
        raise NotVisible("member")
    return member_out(found)


@members.patch("/{uuid:member_id}", response=Member, summary="Change a member's role")
def change_member(request: ManagementRequest, member_id: UUID, body: MemberChange) -> Member:
    """What they have open ends within a second if the new role does not allow it."""
    return member_out(people.change_role(actor=request.auth, membership_id=member_id, role=body.role))


@members.post("/{uuid:member_id}/disable", response=Member, summary="Disable a member")
def disable_member(request: ManagementRequest, member_id: UUID) -> Member:
    """Keep them out, with everything kept. Sockets, sessions and keys end within a second."""
    return member_out(people.disable_member(actor=request.auth, membership_id=member_id))


@members.post("/{uuid:member_id}/enable", response=Member, summary="Enable a member")
def enable_member(request: ManagementRequest, member_id: UUID) -> Member:
    return member_out(people.enable_member(actor=request.auth, membership_id=member_id))


@members.delete("/{uuid:member_id}", response={204: None}, summary="Remove a member")
def remove_member(request: ManagementRequest, member_id: UUID) -> None:
    """With their place in groups and their personal keys."""
    people.remove_member(actor=request.auth, membership_id=member_id)


@invitations.get("", response=Page[InvitationOut], summary="List invitations")
def list_invitations(request: ManagementRequest, paging: Paged) -> Page[InvitationOut]:
    """Those that are open or have run out, newest first."""
    return page_of(people.invitations(request.auth), paging, _invitation)


@invitations.post("", response={201: FreshInvitation}, summary="Invite somebody")
def invite(request: ManagementRequest, body: NewInvitation) -> FreshInvitation:
    """No mail is sent: the answer holds the link, this once."""
    invitation, token = people.invite(
        actor=request.auth, email=body.email, role=body.role, group_ids=body.group_ids
    )
    return _fresh(request, invitation, token)


@invitations.post(
    "/{uuid:invitation_id}/renew", response=FreshInvitation, summary="Renew an invitation's link"
)
def renew_invitation(request: ManagementRequest, invitation_id: UUID) -> FreshInvitation:
    """The link before stops working."""
    return _fresh(request, *people.renew_invitation(actor=request.auth, invitation_id=invitation_id))


@invitations.delete("/{uuid:invitation_id}", response={204: None}, summary="Take an invitation back")
def revoke_invitation(request: ManagementRequest, invitation_id: UUID) -> None:
    people.revoke_invitation(actor=request.auth, invitation_id=invitation_id)


def member_out(row: Membership) -> Member:
    return Member(
        id=row.pk,
        user_id=row.user_id,
        email=row.user.email,
        name=row.user.name,
        role=row.role,
        active=row.disabled is None,
        created=row.created,
        last_seen=row.last_seen,
        external_id=row.external_id,
    )


def _invitation(row: Invitation) -> InvitationOut:
    return InvitationOut(
        id=row.pk,
        email=row.email,
        role=row.role,
        group_ids=row.groups,
        invited_by=row.invited_by.email if row.invited_by else None,
        requested=row.mailed_only,
        created=row.created,
        expires=row.expires,
    )


def _fresh(request: ManagementRequest, row: Invitation, token: str) -> FreshInvitation:
    link = request.build_absolute_uri(reverse("invitation", args=[request.auth.tenant_slug, token]))
    return FreshInvitation(**_invitation(row).model_dump(), link=link)
