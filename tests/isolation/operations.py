"""Every operation for keys that administer, as a case: how it is asked, and what the other tenant's key gets for it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from console.sign_in.services import create_provider
from inference.registry.services import ensure_default_registry, ensure_default_route
from knowledge import bases, uploads
from tenants import custom_roles, grants, groups, keys, people
from tenants.kinds import Level
from tenants.models import Membership
from tenants.quotas.services import set_limit
from tenants.scope import tenant_scope
from tests.conftest import Company

Things = dict[str, str]


@dataclass(frozen=True)
class Case:
    """`body` may name things of the first tenant. foreign: the answer for the other tenant's key."""

    expected: int = 200
    foreign: int = 404
    body: Callable[[Things], dict[str, Any]] = field(default=lambda things: {})


def _listing(**body: Any) -> Case:
    """Something of the key's own tenant: the other's key is answered too, with nothing of the first's in it."""
    return Case(foreign=200, body=lambda things: body)


def _making(**body: Any) -> Case:
    return Case(expected=201, foreign=201, body=lambda things: body)


def _changing(expected: int = 200, **body: Any) -> Case:
    return Case(expected=expected, body=lambda things: body)


def _limit(things: Things) -> dict[str, str]:
    return {"subject_kind": "group", "subject_id": things["group_id"], "metric": "tokens_per_day"}


CASES = {
    "get tenant": _listing(),
    "patch tenant": _listing(accent="rose"),
    "post tenant/archive": _listing(),
    "post tenant/deletion": Case(foreign=422, body=lambda things: {"confirm_slug": "acme-bank"}),
    "get members": _listing(),
    "post members/import": _listing(rows=[{"email": "x@new.example"}]),
    "get members/<uuid:member_id>": _changing(),
    "patch members/<uuid:member_id>": _changing(role="curator"),
    "post members/<uuid:member_id>/disable": _changing(),
    "post members/<uuid:member_id>/enable": _changing(),
    "delete members/<uuid:member_id>": _changing(204),
    "get invitations": _listing(),
    "post invitations": Case(
        expected=201,
        foreign=422,
        body=lambda things: {"email": "x@new.example", "group_ids": [things["group_id"]]},
    ),
    "post invitations/<uuid:invitation_id>/renew": _changing(),
    "delete invitations/<uuid:invitation_id>": _changing(204),
    "get groups": _listing(),
    "post groups": Case(
        expected=201, foreign=422, body=lambda things: {"name": "New", "parent_id": things["group_id"]}
    ),
    "get groups/<uuid:group_id>": _changing(),
    "patch groups/<uuid:group_id>": _changing(name="Renamed"),
    "delete groups/<uuid:group_id>": _changing(204),
    "get groups/<uuid:group_id>/members": _changing(),
    "post groups/<uuid:group_id>/members": Case(body=lambda things: {"member_ids": [things["member_id"]]}),
    "delete groups/<uuid:group_id>/members/<uuid:member_id>": _changing(204),
    "get permissions": _listing(),
    "get roles": _listing(),
    "post roles": _making(slug="broker", name="Broker", permissions=["chat.use"]),
    "patch roles/<uuid:role_id>": _changing(name="Renamed"),
    "delete roles/<uuid:role_id>": _changing(204),
    "get service-accounts": _listing(),
    "post service-accounts": _making(name="New"),
    "get service-accounts/<uuid:account_id>": _changing(),
    "patch service-accounts/<uuid:account_id>": _changing(description="New"),
    "post service-accounts/<uuid:account_id>/disable": _changing(),
    "post service-accounts/<uuid:account_id>/enable": _changing(),
    "get keys": _listing(),
    "post keys": Case(
        expected=201, body=lambda things: {"name": "New", "service_account_id": things["account_id"]}
    ),
    "get keys/<uuid:key_id>": _changing(),
    "post keys/<uuid:key_id>/rotate": _changing(201),
    "delete keys/<uuid:key_id>": _changing(204),
    "get limits": _listing(),
    "put limits": Case(expected=204, foreign=422, body=lambda things: {**_limit(things), "value": 5}),
    "delete limits": Case(expected=204, body=lambda things: _limit(things)),
    "get usage": _listing(since="2026-01-01", until="2026-01-02", by="member"),
    "get usage/csv": _listing(since="2026-01-01", until="2026-01-02"),
    "get grants": _listing(),
    "get grants/<kind>": _listing(),
    "get grants/<kind>/<uuid:object_id>": _changing(),
    "put grants/<kind>/<uuid:object_id>/people/<uuid:user_id>": _changing(level="editor"),
    "delete grants/<kind>/<uuid:object_id>/people/<uuid:user_id>": _changing(204),
    "put grants/<kind>/<uuid:object_id>/groups/<uuid:group_id>": _changing(level="editor"),
    "delete grants/<kind>/<uuid:object_id>/groups/<uuid:group_id>": _changing(204),
    "get grants/<kind>/<uuid:object_id>/explanation": Case(
        body=lambda things: {"user_id": things["user_id"]}
    ),
    "get identity-providers": _listing(),
    "post identity-providers": _making(
        slug="newer", name="New", issuer="https://sso.new.example", client_id="c", domains=["new.example"]
    ),
    "get identity-providers/<uuid:provider_id>": _changing(),
    "patch identity-providers/<uuid:provider_id>": _changing(name="Renamed"),
    "delete identity-providers/<uuid:provider_id>": _changing(204),
    # Nobody listens there; whoever may ask is told so.
    "post identity-providers/<uuid:provider_id>/test": _changing(422),
}

# For keys of the scopes of knowledge, of programs that curate: what everyone was granted. They own nothing, so they make
# no base; and an upload is whoever began it's: see tests/management_api/test_knowledge.py.
KNOWLEDGE_CASES = {
    "get knowledge-bases": _listing(),
    "post knowledge-bases": Case(expected=409, foreign=409, body=lambda things: {"name": "New"}),
    "get knowledge-bases/<uuid:base_id>": _changing(),
    "patch knowledge-bases/<uuid:base_id>": _changing(name="Renamed"),
    "delete knowledge-bases/<uuid:base_id>": _changing(204),
    "post knowledge-bases/<uuid:base_id>/reindex": _changing(),
    "get knowledge-bases/<uuid:base_id>/documents": _changing(),
    "post knowledge-bases/<uuid:base_id>/documents": _changing(201),
    "post knowledge-bases/<uuid:base_id>/uploads": _changing(201, name="a.txt", size=9),
    "put uploads/<uuid:upload_id>": _changing(404),
    "post uploads/<uuid:upload_id>/finish": _changing(404),
    "delete uploads/<uuid:upload_id>": _changing(404),
    "get documents/<uuid:document_id>": _changing(),
    "patch documents/<uuid:document_id>": _changing(name="Renamed"),
    "delete documents/<uuid:document_id>": _changing(204),
    "post documents/<uuid:document_id>/reindex": _changing(409),
}


def _scim(kind: str, **body: Any) -> dict[str, Any]:
    return {"schemas": [f"urn:ietf:params:scim:schemas:core:2.0:{kind}"], **body}


def _patch(**value: Any) -> dict[str, Any]:
    operation = {"op": "replace", "value": value}
    return {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]}


SCIM_CASES = {
    "get ServiceProviderConfig": _listing(),
    "get ResourceTypes": _listing(),
    "get ResourceTypes/<str:name>": _listing(),
    "get Schemas": _listing(),
    "get Schemas/<str:name>": _listing(),
    "get Users": _listing(),
    "post Users": _making(**_scim("User", userName="x@new.example")),
    "post Users/.search": _listing(filter="userName pr"),
    "get Users/<uuid:resource_id>": _changing(),
    "put Users/<uuid:resource_id>": _changing(**_scim("User", userName="member@acme-bank.example")),
    "patch Users/<uuid:resource_id>": _changing(**_patch(active=False)),
    "delete Users/<uuid:resource_id>": _changing(204),
    "get Groups": _listing(),
    "post Groups": Case(
        expected=201,
        foreign=400,
        body=lambda things: _scim("Group", displayName="New", members=[{"value": things["member_id"]}]),
    ),
    "post Groups/.search": _listing(filter="displayName pr"),
    "get Groups/<uuid:resource_id>": _changing(),
    "put Groups/<uuid:resource_id>": _changing(**_scim("Group", displayName="Renamed")),
    "patch Groups/<uuid:resource_id>": _changing(**_patch(displayName="Renamed")),
    "delete Groups/<uuid:resource_id>": _changing(204),
}


def make_things(company: Company) -> Things:
    """One object of the tenant for each parameter of an address, named as the parameter is."""
    actor = company.actor(company.owner)
    ensure_default_registry()
    with tenant_scope(company.tenant.pk):
        member = Membership.objects.get(user=company.member).pk
        invitation, _token = people.invite(actor=actor, email=f"guest@{company.tenant.slug}.example")
        group = groups.create_group(actor=actor, name="Desk", membership_ids=[member])
        role = custom_roles.create_role(actor=actor, slug="trader", name="Trader", permissions=["chat.use"])
        account = keys.create_service_account(actor=actor, name="Reports")
        key, _text = keys.create_key(actor=actor, name="reports", service_account_id=account.pk)
        set_limit(actor=actor, subject_kind="group", subject_id=group.pk, metric="tokens_per_day", value=1000)
        route = ensure_default_route()
        for principal in (company.curator, group):
            grants.set_level(actor=actor, obj=route, principal=principal, level="viewer")
        provider = create_provider(
            actor=actor,
            slug="sso",
            name="SSO",
            issuer="https://127.0.0.1:9",
            client_id="c",
            domains=[f"{company.tenant.slug}.example"],
        )
        curator = company.actor(company.curator)
        base = bases.make_base(actor=curator, name="Rules")
        grants.open_to_everyone(base, Level.OWNER)
        version = uploads.upload(actor=curator, base_id=base.pk, name="law.txt", content=b"Report it.")
        upload = uploads.begin(actor=curator, base_id=base.pk, name="b.txt", size=9)
    found = {
        "base_id": base.pk,
        "document_id": version.document_id,
        "upload_id": upload.pk,
        "member_id": member,
        "invitation_id": invitation.pk,
        "group_id": group.pk,
        "role_id": role.pk,
        "account_id": account.pk,
        "key_id": key.pk,
        "object_id": route.pk,
        "user_id": company.curator.pk,
        "provider_id": provider.pk,
    }
    return {"kind": "route"} | {name: str(value) for name, value in found.items()}


def patterns() -> set[str]:
    """The URL patterns of all cases, as the resolver writes them: Ninja has a converter of ids of its own."""
    management = {
        f"api/v1/{name.partition(' ')[2]}".replace("<uuid:", "<uuidstr:") for name in CASES | KNOWLEDGE_CASES
    }
    return management | {f"scim/v2/{name.partition(' ')[2]}" for name in SCIM_CASES}


def documented(name: str) -> tuple[str, str]:
    """(method, path) of a case as an OpenAPI document writes them, below the API's address."""
    method, _space, path = name.partition(" ")
    return method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", f"/{path}")


def address(name: str, things: Things) -> tuple[str, str]:
    """(method, path below the API's address) of a case for these things."""
    method, path = documented(name)
    if path.startswith(("/ResourceTypes", "/Schemas")):
        things = {"name": "User" if path.startswith("/R") else "urn:ietf:params:scim:schemas:core:2.0:User"}
    elif "{resource_id}" in path:
        things = {"resource_id": things["member_id" if path.startswith("/Users") else "group_id"]}
    return method, path.format(**things)
