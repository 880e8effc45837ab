"""Every address as a stranger, as the other tenant's people and as a colleague without the permission.

The tables below must name every URL pattern and every websocket of the product: a new one without a line here fails.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from audit import record, tree
from audit.cases import attachments, opening
from audit.readers.models import ReaderAlert
from audit.retention import erasure
from audit.retention.models import Tombstone
from audit.review import queues, sampling
from audit.review.flags import raise_flag
from audit.search import saved
from audit.search.asked import Asked
from audit.tree import statements
from console.chat import access, sealing
from console.chat.models import Conversation
from console.chat.routing import websocket_urlpatterns
from console.founding import found_tenant
from console.monitoring.models import Alert, Channel, Rule, Silence
from console.monitoring.rules import DEFAULTS
from console.routing import application
from console.sign_in.services import create_provider
from inference.deployments import services as deployments
from inference.registry import imports
from inference.registry.models import Deployment, ModelVersion, Route
from inference.registry.operators import operator as registry_operator
from inference.registry.services import ensure_default_registry, ensure_default_route
from inference.rollouts import services as rollouts
from inference.routing.models import Target
from knowledge import bases, uploads
from tenants import clock, keys, lifecycle
from tenants.access import create_api_key
from tenants.actors import platform_actor
from tenants.ids import day_of, uuid7
from tenants.models import CustomRole, Group, Membership, User
from tenants.quotas.services import set_limit
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company, make_user
from tests.isolation import operations

pytestmark = pytest.mark.django_db(transaction=True)

ANYONE = "anyone"
PLATFORM = "platform administrator"


@dataclass(frozen=True)
class Address:
    """A URL pattern: who may use it, and how it is asked. `path` may hold {conversation} and {record}."""

    path: str
    allowed: frozenset[str]
    method: str = "get"
    data: dict[str, str] = field(default_factory=dict)
    expected: int = 200


def _roles(*names: str) -> frozenset[str]:
    return frozenset(names)


ASKER = "the member to whom the conversation belongs"

CHATTING = _roles("owner", "administrator", "operator", "curator", "member", ASKER)
SEEING_FIGURES = _roles("owner", "administrator", "operator", "auditor")
ADMINISTERING = _roles("owner", "administrator")
SEEING_ADMINISTRATION = ADMINISTERING | {"auditor"}
HOLDING_KEYS = CHATTING | {"auditor"}  # Their own, or a look at everybody's.
CURATING = _roles("curator")  # Of a base that nobody else was granted.
REVIEWING = _roles("reviewer", "officer")
LEADING_CASES = _roles("officer")
LEADING_REVIEWS = _roles("officer")
LISTING_AUDIT = REVIEWING | {"auditor"}
EVERYBODY = CHATTING | SEEING_FIGURES | REVIEWING
ANYBODY = _roles(ANYONE)

# Of a tenant: for everybody but those named, a 404.
TENANT_ADDRESSES = {
    "t/<slug:slug>/": Address("/t/acme-bank/", EVERYBODY, expected=302),
    "t/<slug:slug>/palette": Address("/t/acme-bank/palette", CHATTING),
    "t/<slug:slug>/overview/": Address("/t/acme-bank/overview/", SEEING_FIGURES),
    "t/<slug:slug>/overview/data": Address("/t/acme-bank/overview/data", SEEING_FIGURES),
    "t/<slug:slug>/administration/": Address("/t/acme-bank/administration/", HOLDING_KEYS, expected=302),
    "t/<slug:slug>/audit/": Address("/t/acme-bank/audit/", LISTING_AUDIT),
    "t/<slug:slug>/audit/proof/": Address("/t/acme-bank/audit/proof/", LISTING_AUDIT),
    "t/<slug:slug>/audit/proof/check": Address(
        "/t/acme-bank/audit/proof/check", LISTING_AUDIT, "post", expected=302
    ),
    "t/<slug:slug>/audit/proof/progress": Address("/t/acme-bank/audit/proof/progress", LISTING_AUDIT),
    "t/<slug:slug>/audit/proof/keys": Address("/t/acme-bank/audit/proof/keys", LISTING_AUDIT),
    "t/<slug:slug>/audit/proof/checkpoint": Address("/t/acme-bank/audit/proof/checkpoint", LISTING_AUDIT),
    "t/<slug:slug>/audit/proof/continuation": Address(
        "/t/acme-bank/audit/proof/continuation?old=1&new=1", LISTING_AUDIT
    ),
    "t/<slug:slug>/audit/proof/verifier": Address("/t/acme-bank/audit/proof/verifier", LISTING_AUDIT),
    "t/<slug:slug>/audit/proof/<uuid:request_id>/": Address(
        "/t/acme-bank/audit/proof/{record}/", LISTING_AUDIT
    ),
    "t/<slug:slug>/audit/<uuid:request_id>/": Address("/t/acme-bank/audit/{record}/", LISTING_AUDIT),
    "t/<slug:slug>/audit/review/": Address("/t/acme-bank/audit/review/", REVIEWING),
    "t/<slug:slug>/audit/review/start": Address(
        "/t/acme-bank/audit/review/start", REVIEWING, "post", expected=302
    ),
    "t/<slug:slug>/audit/review/take": Address(
        "/t/acme-bank/audit/review/take", REVIEWING, "post", expected=302
    ),
    "t/<slug:slug>/audit/review/act": Address(
        "/t/acme-bank/audit/review/act", REVIEWING, "post", {"action": "mine"}, 302
    ),
    "t/<slug:slug>/audit/review/flag": Address(
        "/t/acme-bank/audit/review/flag", REVIEWING, "post", {"selected": "{record}"}, 302
    ),
    "t/<slug:slug>/audit/review/queues/": Address("/t/acme-bank/audit/review/queues/", LEADING_REVIEWS),
    "t/<slug:slug>/audit/review/queues/new/": Address(
        "/t/acme-bank/audit/review/queues/new/", LEADING_REVIEWS
    ),
    "t/<slug:slug>/audit/review/queues/<uuid:queue_id>/": Address(
        "/t/acme-bank/audit/review/queues/{queue}/", LEADING_REVIEWS
    ),
    "t/<slug:slug>/audit/review/queues/<uuid:queue_id>/close/": Address(
        "/t/acme-bank/audit/review/queues/{queue}/close/", LEADING_REVIEWS
    ),
    "t/<slug:slug>/audit/review/samples/": Address("/t/acme-bank/audit/review/samples/", LEADING_REVIEWS),
    "t/<slug:slug>/audit/review/samples/new/": Address(
        "/t/acme-bank/audit/review/samples/new/", LEADING_REVIEWS
    ),
    "t/<slug:slug>/audit/review/samples/<uuid:plan_id>/": Address(
        "/t/acme-bank/audit/review/samples/{plan}/", LEADING_REVIEWS
    ),
    "t/<slug:slug>/audit/review/samples/<uuid:plan_id>/act": Address(
        "/t/acme-bank/audit/review/samples/{plan}/act", LEADING_REVIEWS, "post", {"action": "pause"}, 302
    ),
    "t/<slug:slug>/audit/review/figures/": Address("/t/acme-bank/audit/review/figures/", REVIEWING),
    "t/<slug:slug>/audit/review/<uuid:item_id>/": Address("/t/acme-bank/audit/review/{item}/", REVIEWING),
    "t/<slug:slug>/audit/cases/": Address("/t/acme-bank/audit/cases/", REVIEWING),
    "t/<slug:slug>/audit/cases/new/": Address("/t/acme-bank/audit/cases/new/", REVIEWING),
    "t/<slug:slug>/audit/cases/join": Address("/t/acme-bank/audit/cases/join", REVIEWING, expected=302),
    "t/<slug:slug>/audit/cases/<uuid:case_id>/": Address("/t/acme-bank/audit/cases/{case}/", LEADING_CASES),
    "t/<slug:slug>/audit/cases/<uuid:case_id>/details/": Address(
        "/t/acme-bank/audit/cases/{case}/details/", LEADING_CASES
    ),
    "t/<slug:slug>/audit/cases/<uuid:case_id>/act/<slug:action>": Address(
        "/t/acme-bank/audit/cases/{case}/act/note", LEADING_CASES, "post", {"text": "A note."}, 302
    ),
    "t/<slug:slug>/audit/cases/<uuid:case_id>/files/<uuid:file_id>": Address(
        "/t/acme-bank/audit/cases/{case}/files/{case_file}", LEADING_CASES
    ),
    "t/<slug:slug>/audit/cases/<uuid:case_id>/records/<uuid:request_id>/": Address(
        "/t/acme-bank/audit/cases/{case}/records/{case_record}/", LEADING_CASES
    ),
    "t/<slug:slug>/audit/cases/<uuid:case_id>/report": Address(
        "/t/acme-bank/audit/cases/{case}/report", LEADING_CASES, "post", {"form": "jsonl"}
    ),
    "t/<slug:slug>/audit/retention/": Address("/t/acme-bank/audit/retention/", LISTING_AUDIT),
    "t/<slug:slug>/audit/retention/policy": Address(
        "/t/acme-bank/audit/retention/policy",
        _roles("officer"),
        "post",
        {"keeping": "audit", "days": "30", "reason": "Longer"},
        302,
    ),
    "t/<slug:slug>/audit/retention/tombstones/<uuid:tombstone_id>/": Address(
        "/t/acme-bank/audit/retention/tombstones/{tombstone}/", LISTING_AUDIT
    ),
    "t/<slug:slug>/audit/retention/erasures/": Address(
        "/t/acme-bank/audit/retention/erasures/", _roles("officer")
    ),
    "t/<slug:slug>/audit/retention/held/<uuid:case_id>/": Address(
        "/t/acme-bank/audit/retention/held/{case}/", LEADING_CASES
    ),
    "t/<slug:slug>/audit/retention/decisions/<uuid:deed_id>/": Address(
        "/t/acme-bank/audit/retention/decisions/{erasure}/", _roles("officer")
    ),
    "t/<slug:slug>/audit/keys/": Address("/t/acme-bank/audit/keys/", LISTING_AUDIT),
    "t/<slug:slug>/audit/readers/": Address("/t/acme-bank/audit/readers/", REVIEWING),
    "t/<slug:slug>/audit/readers/rules/": Address("/t/acme-bank/audit/readers/rules/", _roles("officer")),
    "t/<slug:slug>/audit/readers/alerts/<uuid:alert_id>/": Address(
        "/t/acme-bank/audit/readers/alerts/{reader_alert}/",
        _roles("officer"),
        "post",
        {"reason": "An agreed sample"},
        302,
    ),
    "t/<slug:slug>/audit/export": Address("/t/acme-bank/audit/export", REVIEWING, "post"),
    "t/<slug:slug>/audit/export/progress": Address("/t/acme-bank/audit/export/progress", REVIEWING),
    "t/<slug:slug>/audit/export/stop": Address(
        "/t/acme-bank/audit/export/stop", REVIEWING, "post", {"name": "0" * 32}, 204
    ),
    "t/<slug:slug>/audit/saved/": Address("/t/acme-bank/audit/saved/", REVIEWING),
    "t/<slug:slug>/audit/saved/<uuid:saved_id>/": Address("/t/acme-bank/audit/saved/{saved}/", REVIEWING),
    "t/<slug:slug>/audit/saved/<uuid:saved_id>/remove": Address(
        "/t/acme-bank/audit/saved/{own_search}/remove", _roles("reviewer"), "post", expected=302
    ),
    "t/<slug:slug>/audit/saved/<uuid:saved_id>/restore": Address(
        "/t/acme-bank/audit/saved/{removed_search}/restore", _roles("reviewer"), "post", expected=302
    ),
    "t/<slug:slug>/administration/sign-in/": Address(
        "/t/acme-bank/administration/sign-in/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/sign-in/second-factor": Address(
        "/t/acme-bank/administration/sign-in/second-factor", ADMINISTERING, "post", {"required": "no"}, 302
    ),
    "t/<slug:slug>/administration/sign-in/add/": Address(
        "/t/acme-bank/administration/sign-in/add/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/sign-in/<uuid:provider_id>/": Address(
        "/t/acme-bank/administration/sign-in/{provider}/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/sign-in/<uuid:provider_id>/delete/": Address(
        "/t/acme-bank/administration/sign-in/{provider}/delete/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/sign-in/<uuid:provider_id>/test": Address(
        "/t/acme-bank/administration/sign-in/{provider}/test", ADMINISTERING, "post", expected=302
    ),
    "t/<slug:slug>/administration/people/": Address(
        "/t/acme-bank/administration/people/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/people/act": Address(
        "/t/acme-bank/administration/people/act", ADMINISTERING, "post", {"action": "remove"}, 302
    ),
    "t/<slug:slug>/administration/people/import/": Address(
        "/t/acme-bank/administration/people/import/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/people/<uuid:membership_id>/": Address(
        "/t/acme-bank/administration/people/{member}/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/people/<uuid:membership_id>/groups": Address(
        "/t/acme-bank/administration/people/{member}/groups", ADMINISTERING, "post", expected=302
    ),
    "t/<slug:slug>/administration/invitations/": Address(
        "/t/acme-bank/administration/invitations/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/invitations/new/": Address(
        "/t/acme-bank/administration/invitations/new/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/invitations/act": Address(
        "/t/acme-bank/administration/invitations/act", ADMINISTERING, "post", {"action": "revoke"}, 302
    ),
    "t/<slug:slug>/administration/groups/": Address(
        "/t/acme-bank/administration/groups/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/groups/new/": Address(
        "/t/acme-bank/administration/groups/new/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/groups/<uuid:group_id>/": Address(
        "/t/acme-bank/administration/groups/{group}/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/groups/<uuid:group_id>/members": Address(
        "/t/acme-bank/administration/groups/{group}/members", ADMINISTERING, "post", expected=302
    ),
    "t/<slug:slug>/administration/groups/<uuid:group_id>/delete/": Address(
        "/t/acme-bank/administration/groups/{group}/delete/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/roles/": Address(
        "/t/acme-bank/administration/roles/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/roles/new/": Address(
        "/t/acme-bank/administration/roles/new/", _roles("owner")
    ),
    "t/<slug:slug>/administration/roles/<uuid:role_id>/": Address(
        "/t/acme-bank/administration/roles/{role}/", _roles("owner")
    ),
    "t/<slug:slug>/administration/roles/<uuid:role_id>/delete/": Address(
        "/t/acme-bank/administration/roles/{role}/delete/", _roles("owner")
    ),
    "t/<slug:slug>/administration/models/": Address(
        "/t/acme-bank/administration/models/", _roles("operator")
    ),
    "t/<slug:slug>/administration/models/routes/new/": Address(
        "/t/acme-bank/administration/models/routes/new/", _roles("operator")
    ),
    "t/<slug:slug>/administration/models/routes/<uuid:route_id>/": Address(
        "/t/acme-bank/administration/models/routes/{route}/", _roles("operator")
    ),
    "t/<slug:slug>/administration/models/routes/<uuid:route_id>/delete/": Address(
        "/t/acme-bank/administration/models/routes/{route}/delete/", _roles("operator")
    ),
    "t/<slug:slug>/administration/models/routes/<uuid:route_id>/rules/new/": Address(
        "/t/acme-bank/administration/models/routes/{route}/rules/new/", _roles("operator")
    ),
    "t/<slug:slug>/administration/models/routes/<uuid:route_id>/rules/<uuid:target_id>/": Address(
        "/t/acme-bank/administration/models/routes/{route}/rules/{rule_of_route}/", _roles("operator")
    ),
    "t/<slug:slug>/administration/models/routes/<uuid:route_id>/rules/<uuid:target_id>/remove/": Address(
        "/t/acme-bank/administration/models/routes/{route}/rules/{rule_of_route}/remove/", _roles("operator")
    ),
    "t/<slug:slug>/administration/access/": Address(
        "/t/acme-bank/administration/access/", SEEING_ADMINISTRATION | {"operator"}
    ),
    "t/<slug:slug>/administration/access/<slug:code>/<uuid:object_id>/": Address(
        "/t/acme-bank/administration/access/conversation/{conversation}/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/access/<slug:code>/<uuid:object_id>/<slug:sort>/<uuid:principal_id>": Address(
        "/t/acme-bank/administration/access/route/{route}/group/{everyone}",
        ADMINISTERING | {"operator"},
        "post",
        {"level": "viewer"},
        302,
    ),
    "t/<slug:slug>/administration/access/<slug:code>/<uuid:object_id>/<slug:sort>/<uuid:principal_id>/remove/": (
        Address(
            "/t/acme-bank/administration/access/route/{route}/group/{everyone}/remove/",
            ADMINISTERING | {"operator"},
        )
    ),
    "t/<slug:slug>/administration/find": Address("/t/acme-bank/administration/find", SEEING_ADMINISTRATION),
    "t/<slug:slug>/administration/keys/": Address("/t/acme-bank/administration/keys/", HOLDING_KEYS),
    "t/<slug:slug>/administration/keys/new/": Address("/t/acme-bank/administration/keys/new/", CHATTING),
    "t/<slug:slug>/administration/keys/revoke": Address(
        "/t/acme-bank/administration/keys/revoke", HOLDING_KEYS, "post", expected=302
    ),
    "t/<slug:slug>/administration/keys/<uuid:key_id>/": Address(
        "/t/acme-bank/administration/keys/{key}/", SEEING_ADMINISTRATION | {ASKER}
    ),
    "t/<slug:slug>/administration/keys/<uuid:key_id>/rotate": Address(
        "/t/acme-bank/administration/keys/{key}/rotate", _roles(ASKER)
    ),
    "t/<slug:slug>/administration/keys/<uuid:key_id>/revoke": Address(
        "/t/acme-bank/administration/keys/{key}/revoke",
        ADMINISTERING | {ASKER},
        "post",
        {"confirmed": "yes"},
        302,
    ),
    "t/<slug:slug>/administration/keys/accounts/": Address(
        "/t/acme-bank/administration/keys/accounts/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/keys/accounts/new/": Address(
        "/t/acme-bank/administration/keys/accounts/new/", ADMINISTERING
    ),
    "t/<slug:slug>/administration/keys/accounts/<uuid:account_id>/": Address(
        "/t/acme-bank/administration/keys/accounts/{account}/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/keys/accounts/<uuid:account_id>/disable": Address(
        "/t/acme-bank/administration/keys/accounts/{account}/disable", ADMINISTERING
    ),
    "t/<slug:slug>/administration/keys/accounts/<uuid:account_id>/enable": Address(
        "/t/acme-bank/administration/keys/accounts/{account}/enable", ADMINISTERING, "post", expected=302
    ),
    "t/<slug:slug>/administration/settings/": Address(
        "/t/acme-bank/administration/settings/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/settings/logo": Address(
        "/t/acme-bank/administration/settings/logo", ADMINISTERING, "post", {"remove": "yes"}, 302
    ),
    "t/<slug:slug>/administration/settings/archive": Address(
        "/t/acme-bank/administration/settings/archive", _roles("owner")
    ),
    "t/<slug:slug>/administration/settings/delete": Address(
        "/t/acme-bank/administration/settings/delete", _roles("owner")
    ),
    "t/<slug:slug>/logo": Address("/t/acme-bank/logo", EVERYBODY),
    "t/<slug:slug>/administration/quotas/": Address(
        "/t/acme-bank/administration/quotas/", SEEING_ADMINISTRATION
    ),
    "t/<slug:slug>/administration/quotas/set": Address(
        "/t/acme-bank/administration/quotas/set",
        ADMINISTERING,
        "post",
        {"subject_kind": "member", "metric": "tokens_per_day", "value": "5"},
        302,
    ),
    "t/<slug:slug>/administration/quotas/remove": Address(
        "/t/acme-bank/administration/quotas/remove",
        ADMINISTERING,
        "post",
        {"subject_kind": "key", "metric": "tokens_per_day"},
    ),
    "t/<slug:slug>/administration/usage/": Address("/t/acme-bank/administration/usage/", HOLDING_KEYS),
    "t/<slug:slug>/knowledge/": Address("/t/acme-bank/knowledge/", CHATTING),
    "t/<slug:slug>/knowledge/new/": Address("/t/acme-bank/knowledge/new/", CURATING),
    "t/<slug:slug>/knowledge/<uuid:base_id>/": Address("/t/acme-bank/knowledge/{kb_base}/", CURATING),
    "t/<slug:slug>/knowledge/<uuid:base_id>/state": Address(
        "/t/acme-bank/knowledge/{kb_base}/state", CURATING
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/bulk": Address(
        "/t/acme-bank/knowledge/{kb_base}/bulk", CURATING, "post", {"action": "again"}, 302
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/settings/": Address(
        "/t/acme-bank/knowledge/{kb_base}/settings/", CURATING
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/bench/": Address(
        "/t/acme-bank/knowledge/{kb_base}/bench/", CURATING
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/reindex": Address(
        "/t/acme-bank/knowledge/{kb_base}/reindex", CURATING, "post", expected=302
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/delete/": Address(
        "/t/acme-bank/knowledge/{kb_base}/delete/", CURATING, "post", {"confirmed": "yes"}, 302
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/folders/": Address(
        "/t/acme-bank/knowledge/{kb_base}/folders/", CURATING, "post", {"name": "New"}, 302
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/folders/<uuid:folder_id>/": Address(
        "/t/acme-bank/knowledge/{kb_base}/folders/{kb_folder}/", CURATING
    ),
    "t/<slug:slug>/knowledge/<uuid:base_id>/folders/<uuid:folder_id>/delete/": Address(
        "/t/acme-bank/knowledge/{kb_base}/folders/{kb_folder}/delete/",
        CURATING,
        "post",
        {"confirmed": "yes"},
        302,
    ),
    # They take no form; who may is told what is wrong with it.
    "t/<slug:slug>/knowledge/<uuid:base_id>/uploads/": Address(
        "/t/acme-bank/knowledge/{kb_base}/uploads/", CURATING, "post", expected=400
    ),
    "t/<slug:slug>/knowledge/uploads/<uuid:upload_id>/piece": Address(
        "/t/acme-bank/knowledge/uploads/{kb_upload}/piece", CURATING, "post", expected=400
    ),
    "t/<slug:slug>/knowledge/uploads/<uuid:upload_id>/finish": Address(
        "/t/acme-bank/knowledge/uploads/{kb_upload}/finish", CURATING, "post", expected=400
    ),
    "t/<slug:slug>/knowledge/uploads/<uuid:upload_id>/drop": Address(
        "/t/acme-bank/knowledge/uploads/{kb_upload}/drop", CURATING, "post"
    ),
    "t/<slug:slug>/knowledge/documents/<uuid:document_id>/": Address(
        "/t/acme-bank/knowledge/documents/{kb_document}/", CURATING
    ),
    "t/<slug:slug>/knowledge/documents/<uuid:document_id>/state": Address(
        "/t/acme-bank/knowledge/documents/{kb_document}/state", CURATING
    ),
    "t/<slug:slug>/knowledge/documents/<uuid:document_id>/source/": Address(
        "/t/acme-bank/knowledge/documents/{kb_document}/source/?version={kb_version}&start=0&end=9", CURATING
    ),
    "t/<slug:slug>/knowledge/documents/<uuid:document_id>/turn/<slug:action>": Address(
        "/t/acme-bank/knowledge/documents/{kb_document}/turn/restrict", CURATING, "post", expected=302
    ),
    "t/<slug:slug>/knowledge/documents/<uuid:document_id>/delete/": Address(
        "/t/acme-bank/knowledge/documents/{kb_document}/delete/", CURATING, "post", {"confirmed": "yes"}, 302
    ),
    "t/<slug:slug>/knowledge/versions/<uuid:version_id>/act/<slug:action>": Address(
        "/t/acme-bank/knowledge/versions/{kb_version}/act/cancel", CURATING, "post", expected=302
    ),
    "t/<slug:slug>/knowledge/versions/<uuid:version_id>/validity/": Address(
        "/t/acme-bank/knowledge/versions/{kb_version}/validity/", CURATING
    ),
    "t/<slug:slug>/knowledge/versions/<uuid:version_id>/delete/": Address(
        "/t/acme-bank/knowledge/versions/{kb_version}/delete/", CURATING, "post", {"confirmed": "yes"}, 302
    ),
    "t/<slug:slug>/knowledge/versions/<uuid:version_id>/file": Address(
        "/t/acme-bank/knowledge/versions/{kb_version}/file", CURATING, "post"
    ),
    "t/<slug:slug>/knowledge/sharing/<slug:code>/<uuid:object_id>/": Address(
        "/t/acme-bank/knowledge/sharing/base/{kb_base}/", CURATING
    ),
    "t/<slug:slug>/knowledge/sharing/<slug:code>/<uuid:object_id>/<slug:sort>/<uuid:principal_id>/level": Address(
        "/t/acme-bank/knowledge/sharing/base/{kb_base}/person/{curator}/level",
        CURATING,
        "post",
        {"level": "owner"},
        302,
    ),
    "t/<slug:slug>/knowledge/sharing/<slug:code>/<uuid:object_id>/<slug:sort>/<uuid:principal_id>/remove/": Address(
        "/t/acme-bank/knowledge/sharing/base/{kb_base}/person/{curator}/remove/", CURATING
    ),
    "t/<slug:slug>/chat/": Address("/t/acme-bank/chat/", CHATTING),
    "t/<slug:slug>/chat/<uuid:conversation>/": Address("/t/acme-bank/chat/{conversation}/", _roles(ASKER)),
    "t/<slug:slug>/chat/<uuid:conversation>/rename": Address(
        "/t/acme-bank/chat/{conversation}/rename", _roles(ASKER), "post", {"title": "New"}
    ),
    "t/<slug:slug>/chat/<uuid:conversation>/delete": Address(
        "/t/acme-bank/chat/{conversation}/delete", _roles(ASKER), "post"
    ),
}

# Of the platform: 404 for everybody else.
PLATFORM_ADDRESSES = {
    "platform/": Address("/platform/", _roles(PLATFORM)),
    "platform/data": Address("/platform/data", _roles(PLATFORM)),
    "platform/monitoring/": Address("/platform/monitoring/", _roles(PLATFORM)),
    "platform/monitoring/data": Address("/platform/monitoring/data", _roles(PLATFORM)),
    "platform/monitoring/span/": Address("/platform/monitoring/span/", _roles(PLATFORM)),
    "platform/alerts/": Address("/platform/alerts/", _roles(PLATFORM)),
    "platform/alerts/history/": Address("/platform/alerts/history/", _roles(PLATFORM)),
    "platform/alerts/silence": Address("/platform/alerts/silence", _roles(PLATFORM)),
    "platform/alerts/silences/<uuid:silence_id>/lift": Address(
        "/platform/alerts/silences/{silence}/lift", _roles(PLATFORM), "post", expected=302
    ),
    "platform/alerts/rules/": Address("/platform/alerts/rules/", _roles(PLATFORM)),
    "platform/alerts/rules/new/": Address("/platform/alerts/rules/new/", _roles(PLATFORM)),
    "platform/alerts/rules/<uuid:rule_id>/": Address(
        "/platform/alerts/rules/{alert_rule}/", _roles(PLATFORM)
    ),
    "platform/alerts/rules/<uuid:rule_id>/silence": Address(
        "/platform/alerts/rules/{alert_rule}/silence", _roles(PLATFORM)
    ),
    "platform/alerts/rules/<uuid:rule_id>/remove": Address(
        "/platform/alerts/rules/{alert_rule}/remove", _roles(PLATFORM), "post", {"confirmed": "yes"}, 302
    ),
    "platform/alerts/channels/": Address("/platform/alerts/channels/", _roles(PLATFORM)),
    "platform/alerts/channels/new/<slug:kind>/": Address(
        "/platform/alerts/channels/new/email/", _roles(PLATFORM)
    ),
    "platform/alerts/channels/<uuid:channel_id>/": Address(
        "/platform/alerts/channels/{alert_channel}/", _roles(PLATFORM)
    ),
    "platform/alerts/channels/<uuid:channel_id>/test": Address(
        "/platform/alerts/channels/{alert_channel}/test", _roles(PLATFORM), "post", expected=302
    ),
    "platform/alerts/channels/<uuid:channel_id>/secret": Address(
        "/platform/alerts/channels/{alert_channel}/secret", _roles(PLATFORM), expected=302
    ),
    "platform/alerts/channels/<uuid:channel_id>/remove": Address(
        "/platform/alerts/channels/{alert_channel}/remove",
        _roles(PLATFORM),
        "post",
        {"confirmed": "yes"},
        302,
    ),
    "platform/alerts/<uuid:alert_id>/acknowledge": Address(
        "/platform/alerts/{alert}/acknowledge",
        _roles(PLATFORM),
        "post",
        {"confirmed": "yes", "reason": "x"},
        302,
    ),
    "platform/keys/": Address("/platform/keys/", _roles(PLATFORM)),
    "platform/keys/rotate": Address("/platform/keys/rotate", _roles(PLATFORM), expected=302),
    "platform/keys/<slug:slug>/rotate": Address(
        "/platform/keys/acme-bank/rotate", _roles(PLATFORM), expected=302
    ),
    "platform/deployments/": Address("/platform/deployments/", _roles(PLATFORM)),
    "platform/deployments/state": Address("/platform/deployments/state", _roles(PLATFORM)),
    "platform/deployments/new/": Address("/platform/deployments/new/", _roles(PLATFORM)),
    "platform/deployments/upstream/": Address("/platform/deployments/upstream/", _roles(PLATFORM)),
    "platform/deployments/<uuid:deployment_id>/": Address(
        "/platform/deployments/{deployment}/", _roles(PLATFORM)
    ),
    "platform/deployments/<uuid:deployment_id>/state": Address(
        "/platform/deployments/{deployment}/state", _roles(PLATFORM)
    ),
    "platform/deployments/<uuid:deployment_id>/settings": Address(
        "/platform/deployments/{deployment}/settings",
        _roles(PLATFORM),
        "post",
        {"kv_memory_mb": 128, "max_running": 8},
        302,
    ),
    "platform/deployments/<uuid:deployment_id>/key": Address(
        "/platform/deployments/{upstream}/key", _roles(PLATFORM), "post", {"key": "sk-other"}, 302
    ),
    "platform/deployments/<uuid:deployment_id>/try": Address(
        "/platform/deployments/{upstream}/try", _roles(PLATFORM), "post", expected=302
    ),
    "platform/deployments/<uuid:deployment_id>/turn/<slug:action>": Address(
        "/platform/deployments/{deployment}/turn/stop", _roles(PLATFORM), "post", {"confirmed": "yes"}, 302
    ),
    "platform/rollouts/": Address("/platform/rollouts/", _roles(PLATFORM)),
    "platform/rollouts/state": Address("/platform/rollouts/state", _roles(PLATFORM)),
    "platform/rollouts/new/": Address("/platform/rollouts/new/", _roles(PLATFORM)),
    "platform/rollouts/<uuid:rollout_id>/": Address("/platform/rollouts/{rollout}/", _roles(PLATFORM)),
    "platform/rollouts/<uuid:rollout_id>/state": Address(
        "/platform/rollouts/{rollout}/state", _roles(PLATFORM)
    ),
    "platform/rollouts/<uuid:rollout_id>/turn/<slug:action>": Address(
        "/platform/rollouts/{rollout}/turn/back", _roles(PLATFORM), "post", {"confirmed": "yes"}, 302
    ),
    "platform/models/": Address("/platform/models/", _roles(PLATFORM)),
    "platform/models/prices/": Address("/platform/models/prices/", _roles(PLATFORM)),
    "platform/models/compare/": Address("/platform/models/compare/", _roles(PLATFORM)),
    "platform/models/import/": Address("/platform/models/import/", _roles(PLATFORM)),
    "platform/models/imports/<uuid:import_id>/": Address(
        "/platform/models/imports/{upload}/", _roles(PLATFORM)
    ),
    "platform/models/imports/<uuid:import_id>/state": Address(
        "/platform/models/imports/{upload}/state", _roles(PLATFORM)
    ),
    "platform/models/imports/<uuid:import_id>/act/<slug:action>": Address(
        "/platform/models/imports/{upload}/act/cancel", _roles(PLATFORM), "post", expected=302
    ),
    "platform/models/imports/<uuid:import_id>/files": Address(
        "/platform/models/imports/{upload}/files", _roles(PLATFORM), "post", expected=400
    ),
    "platform/models/imports/<uuid:import_id>/chunk": Address(
        "/platform/models/imports/{upload}/chunk", _roles(PLATFORM), "post", expected=400
    ),
    "platform/models/<uuid:model_id>/": Address("/platform/models/{model}/", _roles(PLATFORM)),
    "platform/models/versions/<uuid:version_id>/": Address(
        "/platform/models/versions/{version}/", _roles(PLATFORM)
    ),
    "platform/models/versions/<uuid:version_id>/derive": Address(
        "/platform/models/versions/{version}/derive", _roles(PLATFORM), "post", {"precision": "int8"}, 302
    ),
    "platform/models/versions/<uuid:version_id>/turn/<slug:action>": Address(
        "/platform/models/versions/{version}/turn/staged",
        _roles(PLATFORM),
        "post",
        {"confirmed": "yes", "reason": "A trial"},
        302,
    ),
    "platform/tenants/": Address("/platform/tenants/", _roles(PLATFORM)),
    "platform/tenants/new/": Address("/platform/tenants/new/", _roles(PLATFORM)),
    "platform/tenants/<slug:slug>/": Address("/platform/tenants/acme-bank/", _roles(PLATFORM)),
    "platform/tenants/<slug:slug>/owners": Address(
        "/platform/tenants/acme-bank/owners", _roles(PLATFORM), "post", {"email": "x@acme-bank.example"}, 422
    ),
    "platform/tenants/<slug:slug>/owners/<uuid:invitation_id>/revoke": Address(
        "/platform/tenants/new-bank/owners/{invitation}/revoke", _roles(PLATFORM), "post", expected=302
    ),
    "platform/tenants/<slug:slug>/ceilings": Address(
        "/platform/tenants/acme-bank/ceilings",
        _roles(PLATFORM),
        "post",
        {"metric": "tokens_per_day", "value": "5"},
        302,
    ),
    "platform/tenants/<slug:slug>/ceilings/remove": Address(
        "/platform/tenants/acme-bank/ceilings/remove",
        _roles(PLATFORM),
        "post",
        {"subject_kind": "tenant", "metric": "storage_bytes"},
    ),
    "platform/tenants/<slug:slug>/delete": Address("/platform/tenants/acme-bank/delete", _roles(PLATFORM)),
    "platform/tenants/<slug:slug>/turn/<slug:action>": Address(
        "/platform/tenants/acme-bank/turn/suspend", _roles(PLATFORM), "post", {"confirmed": "yes"}, 302
    ),
    "metrics": Address("/metrics", _roles(PLATFORM)),
    "metrics/inference": Address("/metrics/inference", _roles(PLATFORM), expected=503),
}

# Hold nothing of a tenant and answer anyone.
OPEN_ADDRESSES = {
    "",
    "signin/",
    "signin/second-factor/",
    "signin/start-again/",
    "signin/passkey/",
    "signin/sso/",
    "signin/sso/<slug:slug>/",
    "signin/sso/<slug:slug>/<slug:provider_slug>/",
    "signin/sso/<slug:slug>/<slug:provider_slug>/callback/",
    "signin/forgotten/",
    "signin/forgotten/sent/",
    "signin/forgotten/done/",
    "^signin/forgotten/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
    "invitation/<slug:slug>/<str:token>/",
    "join/<slug:slug>/",
    "api/",
    "api/docs",
    "api/openapi.json",
    "signout/",
    "language/",
    "healthz",
    "readyz",
}

# Of whoever is signed in, about themselves; everybody else is sent to sign in.
ACCOUNT_ADDRESSES = {
    "account/": Address("/account/", ANYBODY),
    "account/changed/": Address("/account/changed/", ANYBODY),
    "account/profile": Address("/account/profile", ANYBODY, "post"),
    "account/avatar": Address("/account/avatar", ANYBODY, "post"),
    "account/avatar/<uuid:user_id>": Address(f"/account/avatar/{uuid7()}", ANYBODY),
    "account/password/": Address("/account/password/", ANYBODY),
    "account/email/": Address("/account/email/", ANYBODY),
    "account/email/proof": Address("/account/email/proof", ANYBODY, "post"),
    "account/email/<str:token>/": Address("/account/email/token/", ANYBODY),
    "account/sessions/<int:session_id>/end": Address("/account/sessions/1/end", ANYBODY, "post"),
    "account/sessions/end-others": Address("/account/sessions/end-others", ANYBODY, "post"),
    "account/confirm/": Address("/account/confirm/", ANYBODY),
    "account/confirm/code/": Address("/account/confirm/code/", ANYBODY),
    "account/confirm/passkey/": Address("/account/confirm/passkey/", ANYBODY),
    "account/second-factor/": Address("/account/second-factor/", ANYBODY),
    "account/authenticator/": Address("/account/authenticator/", ANYBODY),
    "account/authenticator/remove/": Address("/account/authenticator/remove/", ANYBODY),
    "account/recovery-codes/": Address("/account/recovery-codes/", ANYBODY),
    "account/recovery-codes/new/": Address("/account/recovery-codes/new/", ANYBODY),
    "account/passkeys/add/": Address("/account/passkeys/add/", ANYBODY),
    "account/passkeys/<int:pk>/rename/": Address("/account/passkeys/1/rename/", ANYBODY),
    "account/passkeys/<int:pk>/remove/": Address("/account/passkeys/1/remove/", ANYBODY),
}

# Django's admin: for nobody without a second factor, platform administrators included (tests/sign_in/test_emergency.py).
EMERGENCY_ADDRESSES = {
    "emergency/": "/emergency/",
    "emergency/jsi18n/": "/emergency/jsi18n/",
    "emergency/<str:app_label>/": "/emergency/tenants/",
    "emergency/tenants/user/": "/emergency/tenants/user/",
    "emergency/tenants/user/<path:object_id>/change/": f"/emergency/tenants/user/{uuid7()}/change/",
    "emergency/tenants/tenant/": "/emergency/tenants/tenant/",
    "emergency/tenants/tenant/<path:object_id>/change/": f"/emergency/tenants/tenant/{uuid7()}/change/",
}

# Answer to keys, not to sessions: see TestKeys.
KEY_POSTS = {
    "v1/chat/completions",
    "v1/completions",
    "v1/embeddings",
    "v1/tokenize",
    "v1/detokenize",
}
KEY_ADDRESSES = {*KEY_POSTS, "v1/models", "v1/models/<path:name>", "v1/", "scim/v2/"}

WEBSOCKETS = {"ws/t/<slug:slug>/chat/": "/ws/t/acme-bank/chat/", "": "/ws/nothing/"}


@dataclass(frozen=True)
class World:
    """Both tenants with something to find in each, and everybody who might look."""

    acme: Company
    north: Company
    everybody: dict[str, User | None]
    paths: dict[str, Any]

    def browser(self, who: str) -> Client:
        browser = Client()
        if user := self.everybody[who]:
            browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return browser

    def status(self, who: str, address: Address, browser: Client | None = None) -> int:
        browser = browser or self.browser(who)
        return getattr(browser, address.method)(address.path.format(**self.paths), address.data).status_code


@pytest.fixture
def world(acme: Company, north: Company, platform_administrator: User, stranger: User) -> World:
    ensure_default_registry()
    for company in (acme, north):
        with tenant_scope(company.tenant.pk):
            ensure_default_route()
    asker = make_user("asker@acme-bank.example")
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=asker, role="member")
    conversation = _conversation(acme, asker)
    handle = _record(acme, asker)
    everybody = {
        "nobody": None,
        "stranger": stranger,
        PLATFORM: platform_administrator,
        "the other tenant's administrator": north.administrator,
        "the other tenant's member": north.member,
        "the other tenant's reviewer": north.reviewer,
        **{role: getattr(acme, role) for role in Role.values},
        ASKER: asker,
    }
    paths = {"conversation": conversation, "record": handle, "provider": _provider(acme)}
    paths |= _review(acme, handle)
    paths |= _searches(acme) | _people(acme, asker) | _case(acme, asker) | _monitoring()
    with tenant_scope(acme.tenant.pk):
        stated = statements.state(statements.TOMBSTONE, {"day": "2026-01-01"})
        paths["tombstone"] = Tombstone.objects.create(
            keeping="audit", day="2026-01-01", count=0, root=b"", days=7, statement=stated.id
        ).pk
    paths["erasure"] = erasure.request(
        actor=acme.actor(acme.officer), user_id=asker.pk, basis="gdpr_17", metadata="kept", reason="Asked"
    ).pk
    paths |= _credentials(acme, asker) | _of_the_platform(acme, platform_administrator)
    paths |= _reader_alert(acme) | _knowledge(acme)
    tree.extend(acme.tenant.pk)
    return World(acme, north, everybody, paths)


def _searches(company: Company) -> dict[str, Any]:
    """A reviewer's saved searches: one shared, one of their own, one just deleted."""
    actor = company.actor(company.reviewer)
    asked = Asked(status="failed")
    shared = saved.save(actor=actor, name="Failed", asked=asked, shared=True)
    own = saved.save(actor=actor, name="Own", asked=asked)
    removed = saved.save(actor=actor, name="Old", asked=asked)
    saved.remove(actor=actor, saved_id=removed.id)
    return {"saved": shared.id, "own_search": own.id, "removed_search": removed.id}


def _knowledge(company: Company) -> dict[str, Any]:
    """The curator's base, with a folder, a document and a file on its way."""
    actor = company.actor(company.curator)
    with tenant_scope(company.tenant.pk):
        base = bases.make_base(actor=actor, name="Rules")
        folder = bases.make_folder(actor=actor, base_id=base.pk, name="Laws")
        version = uploads.upload(actor=actor, base_id=base.pk, name="law.txt", content=b"Report it.")
        upload = uploads.begin(actor=actor, base_id=base.pk, name="other.txt", size=9)
    return {
        "kb_base": base.pk,
        "kb_folder": folder.pk,
        "kb_document": version.document_id,
        "kb_version": version.pk,
        "kb_upload": upload.pk,
        "curator": company.curator.pk,
    }


def _reader_alert(company: Company) -> dict[str, Any]:
    """An alert on how the reviewer read."""
    now = clock.now()
    with tenant_scope(company.tenant.pk):
        alert = ReaderAlert.objects.create(
            rule="many", reader_id=company.reviewer.pk, span="x", since=now, until=now, found=9, threshold=3
        )
    return {"reader_alert": alert.pk}


def _people(company: Company, member: User) -> dict[str, Any]:
    """The membership of a member, a group, and a role of the tenant's own."""
    with tenant_scope(company.tenant.pk):
        route = Route.objects.get(is_default=True)
        rule = Target.objects.create(route=route, deployment=route.deployment, position=1)
        return {
            "member": Membership.objects.get(user=member).pk,
            "group": Group.objects.create(name="Treasury").pk,
            "role": CustomRole.objects.create(slug="analyst", name="Analyst").pk,
            "everyone": Group.objects.get(is_everyone=True).pk,
            "route": route.pk,
            "rule_of_route": rule.pk,
        }


def _credentials(company: Company, owner: User) -> dict[str, Any]:
    """A key of the owner, a service account, a limit of every key, and a logo."""
    with tenant_scope(company.tenant.pk):
        administrator = company.actor(company.administrator)
        lifecycle.set_logo(actor=administrator, logo=b"RIFF")
        set_limit(actor=administrator, subject_kind="key", subject_id=None, metric="tokens_per_day", value=1)
        account = keys.create_service_account(actor=administrator, name="nightly")
        key, _text = keys.create_key(actor=company.actor(owner), name="laptop")
    return {"key": key.pk, "account": account.pk}


def _of_the_platform(company: Company, platform_administrator: User) -> dict[str, Any]:
    """What the platform has set and sent: a ceiling, and the invitation of a new tenant's first owner."""
    actor = platform_actor(user=platform_administrator, tenant=company.tenant)
    with tenant_scope(company.tenant.pk):
        set_limit(actor=actor, subject_kind="tenant", subject_id=None, metric="storage_bytes", value=1)
    _tenant, invitation, _token = found_tenant(
        user=platform_administrator, slug="new-bank", name="New Bank", owner_email="first@new-bank.example"
    )
    version = ModelVersion.objects.select_related("model").get(model__name="smollm2-135m-instruct")
    upload = imports.begin(
        by=registry_operator(platform_administrator), source_kind="upload", source="", name="mine"
    )
    by = registry_operator(platform_administrator)
    deployed = deployments.create(by=by, name="small", version_id=version.pk)
    upstream = deployments.create_upstream(
        by=by, name="theirs", base_url="http://127.0.0.1:9", upstream_model="big"
    )
    paths = {"version": version.pk, "model": version.model.pk, "upload": upload.pk}
    built_in = Deployment.objects.get(name=Deployment.EMBEDDED)
    rollout = rollouts.begin(by=by, baseline_id=built_in.pk, candidate_id=upstream.pk)
    paths |= {"deployment": deployed.pk, "upstream": upstream.pk, "rollout": rollout.pk}
    return {"invitation": invitation.pk, **paths}


def _provider(company: Company) -> Any:
    with tenant_scope(company.tenant.pk):
        row = create_provider(
            actor=company.actor(company.administrator),
            slug="login",
            name="Company login",
            issuer="http://127.0.0.1:9",
            client_id="custos",
            client_secret="a secret",
            domains=["acme-bank.example"],
        )
    return row.pk


def _conversation(company: Company, owner: User) -> Any:
    with tenant_scope(company.tenant.pk):
        key = uuid7()
        sealed = sealing.seal_title(
            tenant_id=company.tenant.pk, conversation_id=key, day=day_of(key), title="Quarterly figures"
        )
        conversation = Conversation.objects.create(pk=key, owner=owner, sealed_title=sealed)
        access.grant_to_owner(conversation)
    return key


def _record(company: Company, user: User) -> Any:
    handle = record.begin(
        actor=company.actor(user),
        channel="chat",
        input=[{"role": "user", "content": "a question"}],
        model="m",
        model_version="v",
        route="r",
        route_reason="default",
        parameters={},
    )
    record.append(handle, seq=1, text="an answer")
    return handle.request_id


def _review(company: Company, request_id: Any) -> dict[str, Any]:
    """A flagged record, a queue and a sampling plan."""
    officer = company.actor(company.officer)
    raised = raise_flag(actor=officer, request_id=request_id, source="hand", reason="A sample.")
    queue = queues.create_queue(actor=officer, name="Sanctions")
    rule = {"measure": "percent", "size": "5", "per": "day", "severity": "low"}
    plan = sampling.create_plan(actor=officer, name="Daily", **rule)
    return {"item": raised.item_id, "queue": queue.pk, "plan": plan.pk}


def _case(company: Company, user: User) -> dict[str, Any]:
    """A case about a record that has ended, led by the officer and with a file."""
    officer = company.actor(company.officer)
    request_id = generation(company.actor(user)).request_id
    case = opening.open_case(actor=officer, title="A case", request_ids=[request_id], reason="A sample.")
    file = attachments.attach(actor=officer, case_id=case.pk, name="a.txt", content=b"text")
    return {"case": case.pk, "case_file": file.id, "case_record": request_id}


def _monitoring() -> dict[str, Any]:
    """A rule whose alert fires, silenced, and a channel that is told."""
    rule = Rule.objects.create(**asdict(DEFAULTS[0]))
    now = clock.now()
    return {
        "alert_rule": rule.pk,
        "alert": Alert.objects.create(
            rule=rule, severity=rule.severity, state=Alert.State.FIRING, began=now, fired=now
        ).pk,
        "silence": Silence.objects.create(rule=rule, until=now + timedelta(hours=1), reason="x", by="x").pk,
        "alert_channel": Channel.objects.create(
            kind="webhook", name="Pager", target="https://hooks.example/"
        ).pk,
    }


def _patterns(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        here = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry, here)
        elif isinstance(entry, URLPattern):
            yield here


def test_every_url_pattern_is_in_a_table() -> None:
    known = {
        *TENANT_ADDRESSES,
        *PLATFORM_ADDRESSES,
        *OPEN_ADDRESSES,
        *ACCOUNT_ADDRESSES,
        *EMERGENCY_ADDRESSES,
        *KEY_ADDRESSES,
        *operations.patterns(),
    }
    assert set(_patterns(get_resolver())) == known


@pytest.mark.parametrize("pattern", ACCOUNT_ADDRESSES)
def test_an_account_is_only_for_whoever_is_signed_in(pattern: str, db: None) -> None:
    address = ACCOUNT_ADDRESSES[pattern]
    answer = getattr(Client(), address.method)(address.path, address.data)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/signin/?next=")


def test_the_emergency_admin_is_nowhere(world: World) -> None:
    for who in world.everybody:
        for path in EMERGENCY_ADDRESSES.values():
            assert world.status(who, Address(path, _roles())) == 404, f"{who} at {path}"


def test_every_websocket_is_in_a_table() -> None:
    assert {str(entry.pattern) for entry in websocket_urlpatterns} == set(WEBSOCKETS)


GUARDED_ADDRESSES = {**TENANT_ADDRESSES, **PLATFORM_ADDRESSES}


@pytest.mark.timeout(300)
def test_nobody_else_finds_anything_there(world: World, subtests: pytest.Subtests) -> None:
    """One world for all addresses: whoever finds nothing changes nothing."""
    browsers = {who: world.browser(who) for who in world.everybody}
    for pattern, address in GUARDED_ADDRESSES.items():
        # Pages send people who are not signed in to do so; missing or not, they look the same.
        nobody = 404 if pattern.startswith("metrics") else 302
        with subtests.test(pattern):
            for who in set(world.everybody) - address.allowed:
                expected = nobody if who == "nobody" else 404
                assert world.status(who, address, browsers[who]) == expected, f"{who} at {address.path}"


@pytest.mark.timeout(300)
def test_those_who_may_find_it(world: World, subtests: pytest.Subtests) -> None:
    """The control: what is read, all in one world."""
    for pattern, address in GUARDED_ADDRESSES.items():
        with subtests.test(pattern):
            for who in address.allowed if address.method == "get" else ():
                assert world.status(who, address) == address.expected, f"{who} at {address.path}"


@pytest.mark.parametrize(
    "pattern", [pattern for pattern, address in GUARDED_ADDRESSES.items() if address.method != "get"]
)
def test_those_who_may_change_it(world: World, pattern: str) -> None:
    """The control: each in a world of its own, for it may delete what it asks for."""
    address = GUARDED_ADDRESSES[pattern]
    for who in address.allowed:
        assert world.status(who, address) == address.expected, f"{who} at {address.path}"


def test_the_other_tenants_people_do_not_find_it_in_their_own_tenant_either(world: World) -> None:
    paths = [
        "/t/north-fund/chat/{conversation}/",
        "/t/north-fund/audit/{record}/",
        "/t/north-fund/knowledge/{kb_base}/",
        "/t/north-fund/knowledge/documents/{kb_document}/source/",
        "/t/north-fund/administration/sign-in/{provider}/",
    ]
    for who in (
        "the other tenant's administrator",
        "the other tenant's member",
        "the other tenant's reviewer",
    ):
        for path in paths:
            assert world.status(who, Address(path, _roles())) == 404


def test_people_who_are_not_signed_in_cannot_tell_a_tenant_that_exists(world: World) -> None:
    answers = [Client().get(f"/t/{slug}/chat/") for slug in ("acme-bank", "no-such-bank")]
    assert [answer.status_code for answer in answers] == [302, 302]


class TestKeys:
    """The API answers to keys; a key reaches its own tenant alone, and a session reaches nothing."""

    def test_without_a_key_or_with_a_wrong_one_every_address_says_so(self, world: World) -> None:
        browser = Client()
        browser.force_login(world.acme.administrator, backend="django.contrib.auth.backends.ModelBackend")
        wrong = {"Authorization": f"Bearer custos-{world.acme.tenant.pk.hex}-abc-def"}
        for path in KEY_POSTS:
            for headers in ({}, wrong):
                answer = browser.post(f"/{path}", {}, content_type="application/json", headers=headers)
                assert answer.status_code == 401, path
        for path in ("models", "models/smollm2-135m-instruct"):
            assert browser.get(f"/v1/{path}").status_code == 401
            assert browser.get(f"/v1/{path}", headers=wrong).status_code == 401

    def test_a_key_finds_the_models_of_its_own_tenant(self, world: World) -> None:
        with tenant_scope(world.north.tenant.pk):
            Route.objects.filter(is_default=True).update(name="north-only")
        acme, north = (
            {"Authorization": f"Bearer {create_api_key(tenant_slug=slug, name='k')}"}
            for slug in ("acme-bank", "north-fund")
        )
        assert Client().get("/v1/models/north-only", headers=north).status_code == 200, "the control"
        assert Client().get("/v1/models/north-only", headers=acme).status_code == 404
        listed = Client().get("/v1/models", headers=acme).json()["data"]
        assert [model["id"] for model in listed] == ["smollm2-135m-instruct", "all-minilm-l6-v2"]

    def test_every_operation_answers_only_for_the_models_of_the_keys_own_tenant(self, world: World) -> None:
        with tenant_scope(world.north.tenant.pk):
            Route.objects.filter(is_default=True).update(name="north-only")
            Route.objects.filter(is_default=False).update(name="north-embedder")
        key = create_api_key(tenant_slug="acme-bank", name="k")
        bodies = {
            "v1/chat/completions": {"model": "north-only", "messages": [{"role": "user", "content": "x"}]},
            "v1/completions": {"model": "north-only", "prompt": "x"},
            "v1/embeddings": {"model": "north-embedder", "input": "x"},
            "v1/tokenize": {"model": "north-only", "prompt": "x"},
            "v1/detokenize": {"model": "north-embedder", "tokens": [1]},
        }
        assert set(bodies) == KEY_POSTS
        for path, body in bodies.items():
            answer = Client().post(
                f"/{path}", body, content_type="application/json", headers={"Authorization": f"Bearer {key}"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), path

    def test_a_key_opens_no_page(self, world: World) -> None:
        key = create_api_key(tenant_slug="acme-bank", name="k")
        for path in ("/t/acme-bank/overview/", "/t/acme-bank/audit/", "/t/acme-bank/chat/"):
            assert Client().get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 302


async def _can_connect(user: User | None, path: str, origin: str = "http://127.0.0.1") -> bool:
    headers = [(b"origin", origin.encode()), (b"host", b"127.0.0.1")]
    if user is not None:
        browser = Client()
        await database_sync_to_async(browser.force_login)(
            user, backend="django.contrib.auth.backends.ModelBackend"
        )
        cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
        headers.append((b"cookie", cookie.encode()))
    socket = WebsocketCommunicator(application, path, headers=headers)
    connected, _ = await socket.connect(timeout=5)
    try:
        # Strangers are let in as far as the door, to be told why it closes; the greeting is for those who may stay.
        return connected and (await socket.receive_output(timeout=5))["type"] == "websocket.send"
    finally:
        await socket.disconnect()


async def test_only_those_who_may_chat_open_the_socket(world: World) -> None:
    for who, user in world.everybody.items():
        may = who in CHATTING
        assert await _can_connect(user, WEBSOCKETS["ws/t/<slug:slug>/chat/"]) == may, who
        assert not await _can_connect(user, WEBSOCKETS[""]), who


async def test_a_page_of_another_origin_cannot_open_the_socket(world: World) -> None:
    foreign = [
        "http://evil.example",
        "http://127.0.0.1:9999",
        "https://127.0.0.1",
        "http://localhost",
        "null",
    ]
    for origin in foreign:
        assert not await _can_connect(world.acme.member, "/ws/t/acme-bank/chat/", origin=origin), origin
    assert await _can_connect(world.acme.member, "/ws/t/acme-bank/chat/"), "the control"


async def test_a_trusted_origins_page_opens_the_socket(world: World, settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://127.0.0.1:8443"]
    path = "/ws/t/acme-bank/chat/"
    assert await _can_connect(world.acme.member, path, origin="https://127.0.0.1:8443")
    assert not await _can_connect(world.acme.member, path, origin="https://127.0.0.1:8444")


def test_a_page_for_an_unknown_host_is_refused(client: Client, db: None) -> None:
    assert client.get("/signin/", headers={"Host": "evil.example"}).status_code == 400
