"""Who was granted what on single objects, and why somebody can or cannot see one."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar
from uuid import UUID

from django.db.models import Model
from ninja import Query, Router
from pydantic import BaseModel, Field, model_validator

from console.management_api.access import ManagementRequest
from console.management_api.schemas import Code, Input, Page, Paged, Word
from tenants import explain, grants
from tenants.actors import NotVisible, require
from tenants.kinds import Kind, Level, granted_kinds, kind_named
from tenants.models import ApiKey, Group, Membership, TenantModel, User
from tenants.roles import ADMINISTRATION_VIEW

router = Router(tags=["Grants"])

M = TypeVar("M", bound=Model)


class KindOut(BaseModel):
    """A kind of objects. Those that hold content are shared by their owners alone."""

    kind: str
    label: str
    holds_content: bool


class GrantOut(BaseModel):
    """A level that everyone, a group or a person has. `principal_id`: a group's id, or a person's `user_id`."""

    principal_kind: Literal["everyone", "group", "person"]
    principal_id: UUID
    principal: str
    level: Level


class Object(BaseModel):
    """An object by its name, never its content, and the grants on it."""

    id: UUID
    label: str
    grants: list[GrantOut]


class ObjectSearch(Input):
    search: Word = ""


class NewGrant(Input):
    level: Level


class Question(Input):
    """About a person, or about a key: name one of the two."""

    user_id: UUID | None = None
    key_id: UUID | None = None
    level: Level = Level.VIEWER

    @model_validator(mode="after")
    def _one(self) -> Question:
        if (self.user_id is None) == (self.key_id is None):
            raise ValueError("name either user_id or key_id")
        return self


class Step(BaseModel):
    """One thing that was looked at: all conditions must hold, and one grant suffices; notes decide nothing."""

    code: str
    sort: Literal["condition", "grant", "note"]
    holds: bool
    text: str


class Explanation(BaseModel):
    allowed: bool
    level: Level | None = Field(description="The most that grants amount to.")
    steps: list[Step]


@router.get("", response=list[KindOut], summary="List kinds of objects")
def list_kinds(request: ManagementRequest) -> list[KindOut]:
    require(request.auth, ADMINISTRATION_VIEW)
    return [
        KindOut(kind=each.code, label=str(each.label), holds_content=each.holds_content)
        for each in granted_kinds()
    ]


@router.get("/{kind}", response=Page[Object], summary="List objects and their grants")
def list_objects(
    request: ManagementRequest, kind: Code, paging: Paged, wanted: Annotated[ObjectSearch, Query()]
) -> Page[Object]:
    """A page after the last is the last."""
    found = grants.matrix(
        actor=request.auth, kind=_kind(kind), search=wanted.search, page=paging.page, page_size=paging.size
    )
    principals = {each.id: each for each in found.principals}
    items = [
        Object(
            id=row.id,
            label=row.label,
            grants=[_grant(grants.Grant(principals[key], level)) for key, level in row.levels.items()],
        )
        for row in found.rows
    ]
    return Page(items=items, total=found.total, page=found.page, size=paging.size)


@router.get("/{kind}/{uuid:object_id}", response=list[GrantOut], summary="List the grants on an object")
def list_grants(request: ManagementRequest, kind: Code, object_id: UUID) -> list[GrantOut]:
    return [_grant(each) for each in grants.grants_of(actor=request.auth, obj=_object(kind, object_id))]


@router.put("/{kind}/{uuid:object_id}/people/{uuid:user_id}", response=GrantOut, summary="Grant a person")
def grant_person(
    request: ManagementRequest, kind: Code, object_id: UUID, user_id: UUID, body: NewGrant
) -> GrantOut:
    """A level, instead of what they had on the object."""
    obj = _object(kind, object_id)
    return _grant(grants.set_level(actor=request.auth, obj=obj, principal=_person(user_id), level=body.level))


@router.delete(
    "/{kind}/{uuid:object_id}/people/{uuid:user_id}",
    response={204: None},
    summary="Take a person's grant back",
)
def ungrant_person(request: ManagementRequest, kind: Code, object_id: UUID, user_id: UUID) -> None:
    """What depends on it ends within a second."""
    grants.remove(actor=request.auth, obj=_object(kind, object_id), principal=_person(user_id))


@router.put("/{kind}/{uuid:object_id}/groups/{uuid:group_id}", response=GrantOut, summary="Grant a group")
def grant_group(
    request: ManagementRequest, kind: Code, object_id: UUID, group_id: UUID, body: NewGrant
) -> GrantOut:
    """A level for all in it; the group of everyone is a group too."""
    obj = _object(kind, object_id)
    return _grant(grants.set_level(actor=request.auth, obj=obj, principal=_group(group_id), level=body.level))


@router.delete(
    "/{kind}/{uuid:object_id}/groups/{uuid:group_id}",
    response={204: None},
    summary="Take a group's grant back",
)
def ungrant_group(request: ManagementRequest, kind: Code, object_id: UUID, group_id: UUID) -> None:
    grants.remove(actor=request.auth, obj=_object(kind, object_id), principal=_group(group_id))


@router.get("/{kind}/{uuid:object_id}/explanation", response=Explanation, summary="Explain a decision")
def explain_decision(
    request: ManagementRequest, kind: Code, object_id: UUID, wanted: Annotated[Question, Query()]
) -> Explanation:
    """Why somebody, or a key, can or cannot do with an object what a level allows."""
    obj = _object(kind, object_id)
    subject = _person(wanted.user_id) if wanted.user_id else _key(wanted.key_id)
    permission = _kind(kind).permission(wanted.level)
    found = explain.explain(actor=request.auth, obj=obj, subject=subject, permission=permission)
    steps = [
        Step(code=each.code, sort=each.sort, holds=each.holds, text=str(each.text)) for each in found.steps
    ]
    return Explanation(allowed=found.allowed, level=found.level, steps=steps)


def _kind(code: str) -> Kind:
    found = kind_named(code)
    if found is None:
        raise NotVisible("kind")
    return found


def _object(code: str, object_id: UUID) -> TenantModel:
    """The object itself; whether the actor may know of it is for the services."""
    return _one(_kind(code).model._default_manager.filter(pk=object_id).first())


def _person(user_id: UUID) -> User:
    member = Membership.objects.select_related("user").filter(user_id=user_id).first()
    return _one(member).user


def _group(group_id: UUID) -> Group:
    return _one(Group.objects.filter(pk=group_id).first())


def _key(key_id: UUID | None) -> ApiKey:
    return _one(ApiKey.objects.filter(pk=key_id).first())


def _one(found: M | None) -> M:
    if found is None:
        raise NotVisible("object")
    return found


def _grant(grant: grants.Grant) -> GrantOut:
    return GrantOut(
        principal_kind=grant.principal.sort,
        principal_id=grant.principal.id,
        principal=grant.principal.label,
        level=grant.level,
    )
