"""The overview and the platform page: figures, never content."""

import pytest
from django.test import Client

from tenants.models import User
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/t/acme-bank/overview/"


def test_an_empty_overview_says_how_to_begin(administrator_browser: Client) -> None:
    page = administrator_browser.get(PAGE).text
    assert "No request yet" in page


def test_figures_and_recent_requests_are_shown_without_content(
    recorded: str, acme: Company, administrator_browser: Client
) -> None:
    generation(acme.actor(acme.member), status="failed")
    page = administrator_browser.get(PAGE)
    assert page.context["figures"]["totals"]["requests"] == 2
    assert page.context["error_rate"] == 50
    assert "member@acme-bank.example" in page.text
    assert "harbour" not in page.text


def test_the_data_is_what_the_page_shows(recorded: str, administrator_browser: Client) -> None:
    data = administrator_browser.get(f"{PAGE}data?minutes=15").json()
    assert len(data["buckets"]) == 60
    assert data["bucket_seconds"] == 15
    (recent,) = data["recent"]
    assert recent["id"] == recorded
    assert recent["state"] == {"tone": "ok", "icon": "s-ok", "label": "Completed"}
    assert "harbour" not in str(data)


@pytest.mark.parametrize("minutes", ["", "7", "-1", "10000000", "x"])
def test_only_offered_periods_are_computed(minutes: str, administrator_browser: Client) -> None:
    assert administrator_browser.get(f"{PAGE}?minutes={minutes}").context["window"].minutes == 60


def test_a_neighbours_requests_are_not_counted(
    acme: Company, north: Company, administrator_browser: Client
) -> None:
    generation(north.actor(north.member))
    assert administrator_browser.get(f"{PAGE}data").json()["totals"]["requests"] == 0


def test_the_platform_page_tells_what_does_not_work(platform_administrator: User, client: Client) -> None:
    client.force_login(platform_administrator, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get("/platform/").text
    state = client.get("/platform/data").json()
    parts = {part["name"]: part["ok"] for part in state["parts"]}
    assert parts["database"] and parts["valkey"]
    # Tests run without an inference service unless they start one.
    assert not parts["inference"]
    assert state["inference"] is None
    assert "Not working" in page
