"""What a client can learn about this service: RFC 7643, sections 5 to 7."""

from __future__ import annotations

from scim2_models import (
    URI,
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    ETag,
    Filter,
    Meta,
    Patch,
    Reference,
    ResourceType,
    Schema,
    ServiceProviderConfig,
    Sort,
)

from console.scim.resources import Group, User

RESULTS_MOST = 200

CONFIG = ServiceProviderConfig(
    patch=Patch(supported=True),
    bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
    filter=Filter(supported=True, max_results=RESULTS_MOST),
    change_password=ChangePassword(supported=False),
    sort=Sort(supported=False),
    etag=ETag(supported=False),
    authentication_schemes=[
        AuthenticationScheme(
            type=AuthenticationScheme.Type("oauthbearertoken"),
            name="API key",
            description="A key of the scope scim, as “Authorization: Bearer …”.",
            primary=True,
        )
    ],
    meta=Meta(resource_type="ServiceProviderConfig"),
)


def resource_types() -> list[ResourceType]:
    return [
        ResourceType(
            id=name,
            name=name,
            endpoint=Reference[URI](f"/{name}s"),
            schema=Reference[URI](resource.__schema__),
        )
        for name, resource in (("User", User), ("Group", Group))
    ]


def schemas() -> list[Schema]:
    return [User.to_schema(), Group.to_schema()]
