"""What a user and a group are here: RFC 7643's own schemas, narrowed to what Custos keeps."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints
from scim2_models import (
    URN,
    CaseExact,
    ComplexAttribute,
    Mutability,
    Reference,
    Required,
    Resource,
    Uniqueness,
)

MEMBERS_MOST = 10_000  # In one request; a group itself may have any number.

_Short = StringConstraints(max_length=120)


class Name(ComplexAttribute):
    formatted: Annotated[str | None, _Short] = None
    family_name: Annotated[str | None, _Short] = None
    given_name: Annotated[str | None, _Short] = None


class Email(ComplexAttribute):
    value: str | None = None
    type: str | None = None
    primary: bool | None = None


class UserGroup(ComplexAttribute):
    value: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    display: Annotated[str | None, Mutability.read_only] = None


class User(Resource[Any]):
    """A member of the tenant."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[str | None, Uniqueness.server, Required.true, Mutability.immutable] = None
    """The e-mail address that the person signs in with."""

    name: Name | None = None
    Name: ClassVar[type[ComplexAttribute]] = Name

    display_name: Annotated[str | None, _Short] = None
    nick_name: Annotated[str | None, _Short] = None
    title: Annotated[str | None, _Short] = None
    user_type: Annotated[str | None, _Short] = None

    active: bool | None = None
    """False keeps the person out; what they have open ends within a second."""

    emails: list[Email] | None = None
    """Follows userName: what is written here is ignored."""

    Emails: ClassVar[type[ComplexAttribute]] = Email

    groups: Annotated[list[UserGroup] | None, Mutability.read_only] = None
    """Those that the person is in directly."""

    Groups: ClassVar[type[ComplexAttribute]] = UserGroup


class Member(ComplexAttribute):
    value: Annotated[str | None, Mutability.immutable, CaseExact.true] = None
    ref: Annotated[Reference[User] | None, Mutability.immutable] = Field(
        default=None, serialization_alias="$ref", validation_alias="$ref"
    )
    type: Annotated[str | None, Mutability.immutable] = None
    display: Annotated[str | None, Mutability.immutable] = None


class Group(Resource[Any]):
    """A group of members of the tenant. How groups stand below one another is administered in the console."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Group")

    display_name: Annotated[str | None, _Short, Required.true] = None

    members: Annotated[list[Member] | None, Field(max_length=MEMBERS_MOST)] = None
    Members: ClassVar[type[ComplexAttribute]] = Member
