"""Groups and who is in them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from ninja import Query, Router
from pydantic import BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.members import Member, member_out
from console.management_api.schemas import Input, Page, Paged, Text, Word, left_out, page_of
from tenants import groups
from tenants.actors import NotVisible
from tenants.models import Group

router = Router(tags=["Groups"])

MEMBERS_MOST = 1000


class GroupOut(BaseModel):
    """Whoever is in a group is in every group above it. Everybody is in the one with `is_everyone`."""

    id: UUID
    name: str
    description: str
    parent_id: UUID | None
    external_id: str
    is_everyone: bool


class NewGroup(Input):
    name: Word
    description: Text = ""
    parent_id: UUID | None = None
    external_id: Word = ""
    member_ids: list[UUID] = Field([], max_length=MEMBERS_MOST, description="Memberships.")


class GroupChange(Input):
    name: Word = left_out()
    description: Text = left_out()
    parent_id: UUID | None = left_out()
    external_id: Word = left_out()


class Members(Input):
    member_ids: list[UUID] = Field(min_length=1, max_length=MEMBERS_MOST, description="Memberships.")


class Changed(BaseModel):
    count: int = Field(description="How many were not as asked before.")


class GroupSearch(Input):
    search: Word = Field("", description="A part of the name.")


@router.get("", response=Page[GroupOut], summary="List groups")
def list_groups(
    request: ManagementRequest, paging: Paged, wanted: Annotated[GroupSearch, Query()]
) -> Page[GroupOut]:
    return page_of(groups.groups(request.auth, wanted.search), paging, _group)


@router.post("", response={201: GroupOut}, summary="Create a group")
def create_group(request: ManagementRequest, body: NewGroup) -> GroupOut:
    values = body.model_dump(exclude={"member_ids"})
    return _group(groups.create_group(actor=request.auth, membership_ids=body.member_ids, **values))


@router.get("/{uuid:group_id}", response=GroupOut, summary="Get a group")
def get_group(request: ManagementRequest, group_id: UUID) -> GroupOut:
    return _group(_found(request, group_id))


@router.patch("/{uuid:group_id}", response=GroupOut, summary="Change a group")
def change_group(request: ManagementRequest, group_id: UUID, body: GroupChange) -> GroupOut:
    changes = body.model_dump(exclude_unset=True)
    return _group(groups.update_group(actor=request.auth, group_id=group_id, **changes))


@router.delete("/{uuid:group_id}", response={204: None}, summary="Delete a group")
def delete_group(request: ManagementRequest, group_id: UUID) -> None:
    """With what was granted to it. Refused while others stand below it."""
    groups.delete_group(actor=request.auth, group_id=group_id)


@router.get("/{uuid:group_id}/members", response=Page[Member], summary="List a group's members")
def list_group_members(request: ManagementRequest, group_id: UUID, paging: Paged) -> Page[Member]:
    """Those in it directly or through a group below it, by address."""
    return page_of(groups.members_of(_found(request, group_id)), paging, member_out)


@router.post("/{uuid:group_id}/members", response=Changed, summary="Put members into a group")
def add_group_members(request: ManagementRequest, group_id: UUID, body: Members) -> Changed:
    count = groups.add_members(actor=request.auth, group_id=group_id, membership_ids=body.member_ids)
    return Changed(count=count)


@router.delete(
    "/{uuid:group_id}/members/{uuid:member_id}", response={204: None}, summary="Take a member out of a group"
)
def remove_group_member(request: ManagementRequest, group_id: UUID, member_id: UUID) -> None:
    if not groups.remove_members(actor=request.auth, group_id=group_id, membership_ids=[member_id]):
        raise NotVisible("member")


def _found(request: ManagementRequest, group_id: UUID) -> Group:
    found = groups.groups(request.auth).filter(pk=group_id).first()
    if found is None:
        raise NotVisible("group")
    return found


def _group(row: Group) -> GroupOut:
    return GroupOut(
        id=row.pk,
        name=row.name,
        description=row.description,
        parent_id=row.parent_id,
        external_id=row.external_id,
        is_everyone=row.is_everyone,
    )
