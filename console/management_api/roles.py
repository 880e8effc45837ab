"""Roles and the permissions they are made of."""

from __future__ import annotations

from uuid import UUID

from ninja import Router
from pydantic import BaseModel, Field

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Code, Input, Text, Word, left_out
from tenants import custom_roles
from tenants.actors import require
from tenants.models import CustomRole
from tenants.roles import ADMINISTRATION_VIEW, CATALOGUE, PERMISSIONS, Role

roles = Router(tags=["Roles"])
permissions = Router(tags=["Roles"])


class Permission(BaseModel):
    """An entry of the catalogue. `duty`: nobody may have both of two duties."""

    code: str
    label: str
    area: str
    duty: str


class RoleOut(BaseModel):
    """`slug` is what members hold. Built-in roles have no `id` and cannot be changed."""

    id: UUID | None
    slug: str
    name: str
    description: str
    permissions: list[str]


class NewRole(Input):
    slug: Code = Field(description="2 to 50 small letters, digits and single hyphens.")
    name: Word
    description: Text = ""
    permissions: list[Code] = Field(max_length=len(CATALOGUE))


class RoleChange(Input):
    name: Word = left_out()
    description: Text = left_out()
    permissions: list[Code] = left_out()


@permissions.get("", response=list[Permission], summary="List permissions")
def list_permissions(request: ManagementRequest) -> list[Permission]:
    """Those that custom roles can be made of."""
    require(request.auth, ADMINISTRATION_VIEW)
    return [
        Permission(code=each.code, label=str(each.label), area=str(each.area), duty=each.duty)
        for each in CATALOGUE
    ]


@roles.get("", response=list[RoleOut], summary="List roles")
def list_roles(request: ManagementRequest) -> list[RoleOut]:
    """The built-in ones, then the tenant's own."""
    require(request.auth, ADMINISTRATION_VIEW)
    own = CustomRole.objects.order_by("name")
    return [_built_in(role) for role in Role] + [_own(role) for role in own]


@roles.post("", response={201: RoleOut}, summary="Create a role")
def create_role(request: ManagementRequest, body: NewRole) -> RoleOut:
    made = custom_roles.create_role(
        actor=request.auth,
        slug=body.slug,
        name=body.name,
        description=body.description,
        permissions=body.permissions,
    )
    return _own(made)


@roles.patch("/{uuid:role_id}", response=RoleOut, summary="Change a role")
def change_role(request: ManagementRequest, role_id: UUID, body: RoleChange) -> RoleOut:
    """Whoever holds it is affected at once."""
    changes = body.model_dump(exclude_unset=True)
    return _own(custom_roles.update_role(actor=request.auth, role_id=role_id, **changes))


@roles.delete("/{uuid:role_id}", response={204: None}, summary="Delete a role")
def delete_role(request: ManagementRequest, role_id: UUID) -> None:
    """Refused while anybody holds it."""
    custom_roles.delete_role(actor=request.auth, role_id=role_id)


def _built_in(role: Role) -> RoleOut:
    held = sorted(PERMISSIONS[role])
    return RoleOut(id=None, slug=role.value, name=str(role.label), description="", permissions=held)


def _own(row: CustomRole) -> RoleOut:
    return RoleOut(
        id=row.pk, slug=row.slug, name=row.name, description=row.description, permissions=row.permissions
    )
