"""Routes and rules on the pages of a workspace's administration, and what is recorded of their changes."""

from collections.abc import Callable

import pytest
from django.test import Client

from audit.models import AuditRecord
from inference.registry.models import Route
from inference.routing import services
from inference.routing.models import Target
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.routing.conftest import Deployed

pytestmark = pytest.mark.django_db

MODELS = "/t/acme-bank/administration/models/"
Clients = Callable[[User], Client]


def recorded(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(
            AuditRecord.objects.filter(kind__startswith="route.")
            .order_by("id")
            .values_list("kind", flat=True)
        )


def test_a_route_is_made_given_rules_tried_and_deleted(
    acme: Company, route: Route, deployed: Deployed, client_of: Clients
) -> None:
    operator, elsewhere = client_of(acme.operator), deployed("elsewhere")
    about = {"name": "assistant", "label": "Assistant", "deployment_id": str(route.deployment_id)}
    assert operator.post(f"{MODELS}routes/new/", {**about, "name": "No Slug"}).status_code == 422
    page = operator.post(f"{MODELS}routes/new/", about, follow=True)
    assert "No rule yet" in page.text
    path = page.request["PATH_INFO"]
    rule = {
        "deployment_id": str(elsewhere.pk),
        "position": "1",
        "weight": "100",
        "enabled": "on",
        "route_class": "fast",
        "languages": ["zh"],
        "weekdays": ["0", "6"],
        "difficulty_below": "0.4",
    }
    refused = operator.post(f"{path}rules/new/", {**rule, "from_hour": "3"})
    assert refused.status_code == 422 and "both hours" in refused.text
    assert "Chinese" in operator.post(f"{path}rules/new/", rule, follow=True).text
    with tenant_scope(acme.tenant.pk):
        target = Target.objects.get()
    assert target.conditions == {"languages": ["zh"], "weekdays": [0, 6], "difficulty_below": 0.4}
    everyday = {**rule, "weekdays": [], "route_class": ""}
    assert 'value="0.4"' in operator.get(f"{path}rules/{target.pk}/").text
    operator.post(f"{path}rules/{target.pk}/", everyday)
    tried = operator.post(path, {"question": "你好", "channel": "chat", "wanted": ""}).text
    assert "<strong>elsewhere</strong>" in tried and "rule 1" in tried and "below 0.4" in tried
    tried = operator.post(path, {"question": "你好", "channel": "chat", "wanted": "fast"}).text
    assert "No rule offers this class" in tried
    details = {"label": "Helper", "deployment_id": str(elsewhere.pk), "is_default": "on"}
    assert "Helper" in operator.post(path, details, follow=True).text
    with tenant_scope(acme.tenant.pk):
        assert Route.objects.get(is_default=True).name == "assistant"
    assert "default" in operator.post(f"{path}delete/", {"confirmed": "1"}, follow=True).text
    assert "Remove the rule" in operator.get(f"{path}rules/{target.pk}/remove/").text
    operator.post(f"{path}rules/{target.pk}/remove/", {"confirmed": "1"})
    operator.post(f"{MODELS}routes/{route.pk}/", {**details, "label": route.label})
    assert "Delete the route" in operator.get(f"{path}delete/").text
    operator.post(f"{path}delete/", {"confirmed": "1"})
    assert operator.get(path).status_code == 404
    assert recorded(acme) == [
        *("route.created", "route.rule_added", "route.rule_changed", "route.changed"),
        *("route.rule_removed", "route.changed", "route.deleted"),
    ]


def test_who_operates_no_models_sees_and_changes_nothing(
    acme: Company, route: Route, client_of: Clients
) -> None:
    member = client_of(acme.member)
    for path in ("routes/new/", f"routes/{route.pk}/", f"routes/{route.pk}/rules/new/"):
        assert member.get(f"{MODELS}{path}").status_code == 404
    with pytest.raises(NotVisible):
        services.delete_route(actor=acme.actor(acme.member), route_id=route.pk)


def test_another_tenants_route_is_not_there(
    acme: Company, north: Company, route: Route, client_of: Clients
) -> None:
    path = f"/t/{north.tenant.slug}/administration/models/routes/{route.pk}/"
    assert client_of(north.operator).get(path).status_code == 404
    with pytest.raises(NotVisible):
        services.delete_route(actor=north.actor(north.operator), route_id=route.pk)


def test_a_route_keeps_to_its_kind_and_its_name(acme: Company, route: Route) -> None:
    actor = acme.actor(acme.operator)
    about = {"actor": actor, "label": "Two", "deployment_id": route.deployment_id}
    services.create_route(name="two", **about)
    with pytest.raises(Refused, match="of this name"):
        services.create_route(name="two", **about)
    with tenant_scope(acme.tenant.pk):
        embedder = Route.objects.get(name="all-minilm-l6-v2").deployment_id
    with pytest.raises(Refused, match="no such deployment"):
        services.update_route(
            actor=actor, route_id=route.pk, label="x", deployment_id=embedder, is_default=True
        )
