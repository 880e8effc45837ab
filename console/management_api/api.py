"""The API: its areas, how a key becomes an actor, and the document that describes it."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from console.management_api import (
    grants,
    groups,
    identity_providers,
    keys,
    knowledge,
    members,
    problems,
    quotas,
    reference,
    roles,
    settings,
)
from console.management_api.access import Key, in_tenant_scope
from tenants.roles import Scope

DESCRIPTION = """
Administration of a tenant for programs. The key says which tenant it is: send it as `Authorization: Bearer …`. Keys of
the scope `management.read` read, those of `management.write` change too, and neither does more than the owner of the
key may. Knowledge bases have scopes of their own, `knowledge.read` and `knowledge.write`. What does not exist and what a key may not see are the same 404. Errors are problem details (RFC 9457).
"""

_PROBLEMS = {
    400: "The body cannot be read.",
    401: "No key, or one that is not valid.",
    404: "Not there, or not for this key.",
    409: "Something that is there already stands in the way.",
    413: "The body is too large.",
    422: "Something in the body or the query is wrong.",
    429: "Too many requests. Wait as long as Retry-After says.",
    503: "Try again.",
}


class ManagementApi(NinjaAPI):
    """Ninja's API, with the problems that every operation may answer with in the document."""

    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(**kwargs)
        content = {problems.MEDIA_TYPE: {"schema": problems.Problem.model_json_schema()}}
        responses = {
            str(status): {"description": words, "content": content} for status, words in _PROBLEMS.items()
        }
        document["components"]["responses"] = responses
        refs = {status: {"$ref": f"#/components/responses/{status}"} for status in responses}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"] = {**refs, **operation["responses"]}
        return document


def _make() -> ManagementApi:
    api = ManagementApi(
        title="Custos management API",
        version="1",
        description=DESCRIPTION.strip(),
        urls_namespace="management_api",
        auth=Key(),
        docs=reference.Reference(),
    )
    problems.add_handlers(api)
    api.add_decorator(in_tenant_scope)
    api.add_router("/v1/tenant", settings.router)
    api.add_router("/v1/members", members.members)
    api.add_router("/v1/invitations", members.invitations)
    api.add_router("/v1/groups", groups.router)
    api.add_router("/v1/roles", roles.roles)
    api.add_router("/v1/permissions", roles.permissions)
    api.add_router("/v1/service-accounts", keys.accounts)
    api.add_router("/v1/keys", keys.router)
    api.add_router("/v1/limits", quotas.limits)
    api.add_router("/v1/usage", quotas.usage)
    api.add_router("/v1/grants", grants.router)
    api.add_router("/v1/identity-providers", identity_providers.router)
    curating = Key(read=Scope.KNOWLEDGE_READ, write=Scope.KNOWLEDGE_WRITE)
    api.add_router("/v1/knowledge-bases", knowledge.router, auth=curating)
    api.add_router("/v1/uploads", knowledge.sending, auth=curating)
    api.add_router("/v1/documents", knowledge.files, auth=curating)
    return api


api = _make()
