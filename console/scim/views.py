"""The protocol, RFC 7644: keys, methods, paging, errors. Each request runs in one transaction in its key's tenant."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import db
from django.core.exceptions import RequestDataTooBig
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from pydantic import ValidationError
from redis import RedisError
from scim2_models import (
    Context,
    Error,
    InvalidSyntaxException,
    InvalidValueException,
    ListResponse,
    PatchOp,
    Resource,
    ResourceType,
    ResponseParameters,
    Schema,
    SCIMException,
    ScimPolicy,
    SearchRequest,
)

from audit.record import AuditUnavailable
from console.pace import TooFast, keep_pace
from console.scim import discovery, groups, users
from console.scim.filters import LONGEST, Places, condition
from console.scim.resources import Group, User
from tenants.actors import Actor, NotVisible, actor_for_key, require
from tenants.envelope import KeysUnavailable
from tenants.errors import Refused
from tenants.roles import SCIM_PROVISION
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/scim+json"
PAGE = 100
OPERATIONS_MOST = 1000

# Directories send what others keep, such as telephone numbers: it is left out. Microsoft Entra's ways are understood.
POLICY = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)

Answer = tuple[int, dict[str, Any] | None]
View = Callable[..., HttpResponse]


class ScimRequest(HttpRequest):
    actor: Actor


@dataclass(frozen=True)
class Kind:
    """A kind of resources and how its requests are carried out."""

    name: str
    resource: type[Resource[Any]]
    places: Places
    rows: Callable[[Actor], QuerySet[Any]]
    shown: Callable[..., list[Any]]
    create: Callable[..., Model]
    replace: Callable[..., Model]
    patch: Callable[..., Model]
    remove: Callable[..., None]
    costly: str  # The attribute that takes a query of its own.


def _patched_user(*, actor: Actor, row: Any, operations: list[Any]) -> Model:
    [wanted] = users.shown([row])
    PatchOp[User](Operations=operations).patch(wanted)
    return users.save(actor=actor, row=row, wanted=wanted)


USERS = Kind(
    name="User",
    resource=User,
    places=users.PLACES,
    rows=users.rows,
    shown=users.shown,
    create=users.create,
    replace=users.save,
    patch=_patched_user,
    remove=users.remove,
    costly="groups",
)
GROUPS = Kind(
    name="Group",
    resource=Group,
    places=groups.PLACES,
    rows=groups.rows,
    shown=groups.shown,
    create=groups.create,
    replace=groups.replace,
    patch=groups.patch,
    remove=groups.remove,
    costly="members",
)


def endpoint(**methods: Callable[..., Answer]) -> View:
    """A view of these methods, for keys that provision. Whatever goes wrong is a SCIM error."""

    @csrf_exempt
    def view(request: ScimRequest, **kwargs: Any) -> HttpResponse:
        try:
            actor = _actor(request)
            if actor is None:
                return _error(401, "The key is missing, wrong or no longer valid.", WWW_Authenticate="Bearer")
            require(actor, SCIM_PROVISION)
            keep_pace(actor)
            method = methods.get((request.method or "").lower())
            if method is None:
                return _error(405, "Not possible here.", Allow=", ".join(methods).upper())
            request.actor = actor
            with tenant_scope(actor.tenant_id), POLICY:
                return _response(*method(request, **kwargs))
        except NotVisible:
            return _error(404, "There is nothing here, or nothing for this key.")
        except Refused as refusal:
            return _refusal(refusal)
        except ValidationError as invalid:
            return _of_scim(Error.from_validation_errors(invalid)[0])
        except SCIMException as wrong:
            return _of_scim(wrong.to_error())
        except RequestDataTooBig:
            return _error(413, "The body is too large. Send less at a time.")
        except TooFast as hasty:
            return _error(429, "Too many requests. Wait a moment.", Retry_After=str(hasty.retry_after))
        except (db.Error, RedisError, AuditUnavailable, KeysUnavailable):
            logger.exception("a SCIM request failed in the database or in Valkey")
            return _error(503, "A part of Custos does not answer. Try again.", Retry_After="2")
        except Exception:
            logger.exception("a SCIM request failed")
            return _error(500, "Something is wrong with Custos. Its log says what.")

    view.methods = tuple(methods)  # type: ignore[attr-defined]
    return view


def collection(kind: Kind) -> View:
    """/Users, /Groups"""

    def listing(request: ScimRequest) -> Answer:
        return _found(request, kind, request.GET.dict())

    def creation(request: ScimRequest) -> Answer:
        wanted = kind.resource.model_validate(_body(request), scim_ctx=Context.RESOURCE_CREATION_REQUEST)
        row = kind.create(actor=request.actor, wanted=wanted)
        return 201, _shown(request, kind, row, Context.RESOURCE_CREATION_RESPONSE)

    return endpoint(get=listing, post=creation)


def search(kind: Kind) -> View:
    """/Users/.search, /Groups/.search: as a listing, with its parameters in the body."""
    return endpoint(post=lambda request: _found(request, kind, _object(request)))


def single(kind: Kind) -> View:
    """/Users/<id>, /Groups/<id>"""

    def reading(request: ScimRequest, resource_id: UUID) -> Answer:
        return 200, _shown(request, kind, _row(request, kind, resource_id), Context.RESOURCE_QUERY_RESPONSE)

    def replacement(request: ScimRequest, resource_id: UUID) -> Answer:
        row = _row(request, kind, resource_id)
        context = Context.RESOURCE_REPLACEMENT_REQUEST
        wanted = kind.resource.model_validate(_body(request), scim_ctx=context)
        wanted.replace(kind.shown([row])[0])
        row = kind.replace(actor=request.actor, row=row, wanted=wanted)
        return 200, _shown(request, kind, row, Context.RESOURCE_REPLACEMENT_RESPONSE)

    def patch(request: ScimRequest, resource_id: UUID) -> Answer:
        row = _row(request, kind, resource_id)
        body = _object(request)
        operations = body.get("Operations")
        if isinstance(operations, list) and len(operations) > OPERATIONS_MOST:
            raise InvalidValueException(detail=f"Send at most {OPERATIONS_MOST} operations at a time.")
        patch_of = PatchOp[kind.resource]  # type: ignore[name-defined]
        wanted = patch_of.model_validate(body, scim_ctx=Context.RESOURCE_PATCH_REQUEST)
        row = kind.patch(actor=request.actor, row=row, operations=wanted.operations)
        return 200, _shown(request, kind, row, Context.RESOURCE_PATCH_RESPONSE)

    def removal(request: ScimRequest, resource_id: UUID) -> Answer:
        kind.remove(actor=request.actor, row=_row(request, kind, resource_id))
        return 204, None

    return endpoint(get=reading, put=replacement, patch=patch, delete=removal)


def _found(request: ScimRequest, kind: Kind, parameters: dict[str, Any]) -> Answer:
    if len(str(parameters.get("filter") or "")) > LONGEST:
        raise SCIMException.from_error(
            Error(status=400, scim_type="invalidFilter", detail=f"Use at most {LONGEST} characters.")
        )
    wanted = SearchRequest[kind.resource].model_validate(parameters)  # type: ignore[name-defined]
    rows = kind.rows(request.actor)
    if wanted.filter:
        rows = rows.filter(condition(wanted.filter.ast, kind.places))
    start = wanted.start_index_0 or 0
    count = min(PAGE if wanted.count is None else wanted.count, discovery.RESULTS_MOST)
    total = rows.count()
    # A place far behind the end needs no query, and might be more than the database can count to.
    page = rows[start : start + count] if start < total else rows.none()
    resources = _placed(request, kind, kind.shown(page, **_wanted_costs(kind, wanted)))
    answer = ListResponse[kind.resource](  # type: ignore[name-defined]
        total_results=total, start_index=start + 1, items_per_page=len(resources), resources=resources
    )
    return 200, answer.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=wanted)


def _row(request: ScimRequest, kind: Kind, resource_id: UUID) -> Any:
    row = kind.rows(request.actor).filter(pk=resource_id).first()
    if row is None:
        raise NotVisible(kind.name)
    return row


def _shown(request: ScimRequest, kind: Kind, row: Model, context: Context) -> dict[str, Any]:
    wanted = ResponseParameters[kind.resource].model_validate(request.GET.dict())  # type: ignore[name-defined]
    [resource] = _placed(request, kind, kind.shown([row], **_wanted_costs(kind, wanted)))
    return resource.model_dump(scim_ctx=context, response_parameters=wanted)


def _wanted_costs(kind: Kind, wanted: ResponseParameters[Any]) -> dict[str, bool]:
    """Whether the attribute that takes a query is looked up at all."""
    left_out = any(path.attr.lower() == kind.costly for path in wanted.excluded_attributes or ())
    chosen = any(path.attr.lower() == kind.costly for path in wanted.attributes or ())
    return {f"with_{kind.costly}": chosen or not (left_out or wanted.attributes)}


def _placed(request: ScimRequest, kind: Kind, resources: list[Any]) -> list[Any]:
    """The resources with their addresses."""
    for resource in resources:
        resource.meta.location = _address(request, kind.name, resource.id)
        if kind is GROUPS:
            for member in resource.members or ():
                member.ref = _address(request, "User", member.value)
    return resources


def _address(request: ScimRequest, name: str, resource_id: str) -> str:
    return request.build_absolute_uri(reverse(f"scim_{name.lower()}", args=[resource_id]))


def _actor(request: HttpRequest) -> Actor | None:
    scheme, _space, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return actor_for_key(key.strip(), request.META.get("REMOTE_ADDR") or "")


def _body(request: HttpRequest) -> Any:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        raise InvalidSyntaxException(detail="The body is not valid JSON.") from None


def _object(request: HttpRequest) -> dict[str, Any]:
    body = _body(request)
    if not isinstance(body, dict):
        raise InvalidSyntaxException(detail="The body is not a JSON object.")
    return body


def _refusal(refusal: Refused) -> HttpResponse:
    if refusal.code in ("already_member", "name_taken"):
        return _error(409, refusal.message, "uniqueness")
    if refusal.field is None or refusal.code == "role_not_yours":
        return _error(409, refusal.message)
    return _error(400, refusal.message, "invalidValue")


def _of_scim(error: Error) -> HttpResponse:
    return _error(error.status or 400, error.detail or "", error.scim_type)


def _error(status: int, detail: str, scim_type: str | None = None, **headers: str) -> HttpResponse:
    response = _response(status, Error(status=status, scim_type=scim_type, detail=detail).model_dump())
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def _response(status: int, body: dict[str, Any] | None) -> HttpResponse:
    if body is None:
        return HttpResponse(status=status)
    response = HttpResponse(json.dumps(body), status=status, content_type=MEDIA_TYPE)
    if location := body.get("meta", {}).get("location"):
        response.headers["Location"] = location
    return response


# --- Discovery -------------------------------------------------------------------------------


def _config(request: ScimRequest) -> Answer:
    return 200, discovery.CONFIG.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)


def _list_of(kind: type[Any], found: list[Any]) -> Answer:
    answer = ListResponse[kind](  # type: ignore[valid-type]
        total_results=len(found), start_index=1, items_per_page=len(found), resources=found
    )
    return 200, answer.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)


def _one_of(found: list[Any], name: str) -> Answer:
    one = next((each for each in found if each.id == name), None)
    if one is None:
        raise NotVisible(name)
    return 200, one.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)


def _nothing(request: ScimRequest) -> Answer:
    raise NotVisible("address")


unknown = endpoint(get=_nothing, post=_nothing, put=_nothing, patch=_nothing, delete=_nothing)
config = endpoint(get=_config)
resource_types = endpoint(get=lambda request: _list_of(ResourceType, discovery.resource_types()))
resource_type = endpoint(get=lambda request, name: _one_of(discovery.resource_types(), name))
schemas = endpoint(get=lambda request: _list_of(Schema, discovery.schemas()))
schema = endpoint(get=lambda request, name: _one_of(discovery.schemas(), name))
