"""Quotas, usage, grants and identity providers through the management API."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from console.pace import TooFast, keep_pace
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants.access import actor_for_key, visible_objects
from tenants.models import Group
from tenants.quotas.models import UsageDay
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.keys import READ, WRITE, Caller, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(acme: Company) -> Caller:
    return Caller(make_key(acme, WRITE))


class TestLimits:
    def test_a_limit_is_set_listed_and_removed(self, api: Caller) -> None:
        subject = {"subject_kind": "tenant", "metric": "tokens_per_day"}
        assert api.put("/limits", **subject, value=1000).status_code == 204
        assert api.put("/limits", **subject, value=2000).status_code == 204
        [limit] = api.get("/limits").json()
        assert (limit["value"], limit["used"], limit["percent"], limit["is_ceiling"]) == (2000, 0, 0, False)
        assert api.delete("/limits", **subject).status_code == 204
        assert api.delete("/limits", **subject).status_code == 404
        assert api.get("/limits").json() == []

    def test_what_cannot_be_is_named(self, api: Caller) -> None:
        wrong = {"subject_kind": "key", "metric": "storage_bytes", "value": 1}
        assert api.put("/limits", **wrong).json()["code"] == "storage_not_by_key"


class TestUsage:
    @pytest.fixture
    def used(self, acme: Company) -> None:
        with tenant_scope(acme.tenant.pk):
            UsageDay.objects.create(
                day=date(2026, 3, 1),
                user_id=acme.member.pk,
                route="=cmd",
                model="m",
                requests=2,
                prompt_tokens=30,
                completion_tokens=12,
            )

    def test_it_is_added_up_as_asked(self, api: Caller, used: None) -> None:
        march = {"since": "2026-03-01", "until": "2026-03-02"}
        by_day = api.get("/usage", **march).json()
        assert [(each["key"], each["prompt_tokens"]) for each in by_day] == [
            ("2026-03-01", 30),
            ("2026-03-02", 0),
        ]
        assert [each["label"] for each in api.get("/usage", **march, by="member").json()] == [
            "member@acme-bank.example"
        ]
        assert api.get("/usage", since="2026-03-02", until="2026-03-01").json()["code"] == "range_invalid"

    def test_as_csv_no_cell_is_a_formula(self, api: Caller, used: None) -> None:
        answer = api.get("/usage/csv", since="2026-03-01", until="2026-03-01")
        assert answer.headers["Content-Type"] == "text/csv"
        assert "'=cmd" in answer.content.decode()


class TestGrants:
    @pytest.fixture
    def route(self, acme: Company) -> Any:
        ensure_default_registry()
        with tenant_scope(acme.tenant.pk):
            return ensure_default_route()

    def test_a_grant_is_given_changed_and_taken_back(self, api: Caller, acme: Company, route: Any) -> None:
        with tenant_scope(acme.tenant.pk):
            everyone = Group.objects.get(is_everyone=True).pk
        assert api.delete(f"/grants/route/{route.pk}/groups/{everyone}").status_code == 204
        member = f"/grants/route/{route.pk}/people/{acme.member.pk}"

        def sees() -> bool:
            with tenant_scope(acme.tenant.pk):
                found = visible_objects(acme.actor(acme.member), type(route).objects.all(), "view_route")
                return found.filter(pk=route.pk).exists()

        assert not sees()
        assert api.put(member, level="viewer").json()["principal"] == "member@acme-bank.example"
        assert sees()
        assert api.put(member, level="editor").json()["level"] == "editor"
        [grant] = api.get(f"/grants/route/{route.pk}").json()
        assert (grant["principal_kind"], grant["level"]) == ("person", "editor")
        listed = api.get("/grants/route", search=route.name).json()
        assert [each["grants"] for each in listed["items"]] == [[grant]]
        assert api.delete(member).status_code == 204
        assert not sees()

    def test_a_decision_is_explained(self, api: Caller, acme: Company, route: Any) -> None:
        path = f"/grants/route/{route.pk}/explanation"
        member = api.get(path, user_id=str(acme.member.pk)).json()
        assert (member["allowed"], member["level"]) == (True, "viewer")
        reviewer = api.get(path, user_id=str(acme.reviewer.pk)).json()
        assert not reviewer["allowed"]
        assert any(step["sort"] == "condition" and not step["holds"] for step in reviewer["steps"])
        assert api.get(path).status_code == 422

    def test_content_is_shared_by_its_owners_alone(self, api: Caller) -> None:
        kinds = {each["kind"]: each["holds_content"] for each in api.get("/grants").json()}
        assert kinds["conversation"] and not kinds["route"]
        assert api.get("/grants/nothing").status_code == 404


class TestIdentityProviders:
    def test_one_is_added_changed_and_removed_and_its_secret_never_comes_out(self, api: Caller) -> None:
        made = api.post(
            "/identity-providers",
            slug="sso",
            name="SSO",
            issuer="https://sso.acme-bank.example",
            client_id="custos",
            client_secret="hush hush",
            domains=["acme-bank.example"],
        )
        assert made.status_code == 201
        assert made.json()["has_secret"]
        path = f"/identity-providers/{made.json()['id']}"
        assert api.patch(path, enabled=False).json()["enabled"] is False
        assert "hush" not in api.get(path).content.decode() + made.content.decode()
        assert [each["name"] for each in api.get("/identity-providers").json()] == ["SSO"]
        assert api.delete(path).status_code == 204
        assert api.get(path).status_code == 404

    def test_an_issuer_that_is_no_address_is_named(self, api: Caller) -> None:
        wrong = {
            "slug": "sso",
            "name": "S",
            "issuer": "http://10.0.0.1",
            "client_id": "c",
            "domains": ["a.example"],
        }
        assert api.post("/identity-providers", **wrong).json()["errors"][0]["field"] == "issuer"


class TestPace:
    def test_a_key_that_asks_too_often_waits_for_the_next_minute(
        self, acme: Company, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at = datetime(2026, 3, 1, 12, 0, 50, tzinfo=UTC)
        monkeypatch.setattr("console.pace.clock.now", lambda: at)
        monkeypatch.setattr("console.pace.REQUESTS_PER_MINUTE", 3)
        hasty, other = (actor_for_key(make_key(acme, READ)) for _ in range(2))
        for _ in range(3):
            keep_pace(hasty)
        with pytest.raises(TooFast) as refused:
            keep_pace(hasty)
        assert refused.value.retry_after == 10
        keep_pace(other)
        at += timedelta(seconds=10)
        keep_pace(hasty)

    def test_a_limit_of_the_key_itself_holds_too(self, acme: Company) -> None:
        key = make_key(acme, WRITE)
        own = str(actor_for_key(key).api_key_id)
        limit = {"subject_kind": "key", "subject_id": own, "metric": "requests_per_minute", "value": 0}
        assert Caller(key).put("/limits", **limit).status_code == 204
        refused = Caller(key).get("/limits")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_fast")
        assert 0 < int(refused.headers["Retry-After"]) <= 60
