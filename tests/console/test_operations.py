"""What operators and their tools ask."""

from collections.abc import Callable

from django.conf import settings
from django.core.cache import cache
from django.test import Client

from console.tasks import heartbeat
from tenants.models import User
from tests.conftest import Company


def test_alive(client: Client, db: None) -> None:
    assert client.get("/healthz").content == b"ok\n"


def test_readiness_names_the_part_that_fails(client: Client, db: None) -> None:
    cache.clear()
    answer = client.get("/readyz")
    parts = answer.json()["parts"]
    assert answer.status_code == 503
    assert parts["database"]["ok"] and parts["valkey"]["ok"]
    assert not parts["inference"]["ok"], "no inference runs in this test"
    assert not parts["worker"]["ok"], "nor a worker"


def test_the_heartbeat_of_a_worker_is_seen(client: Client, db: None) -> None:
    heartbeat()
    assert client.get("/readyz").json()["parts"]["worker"]["ok"]


def test_metrics_are_for_the_token_and_the_platform_administrator(
    client: Client, acme: Company, platform_administrator: User, client_of: Callable[[User], Client]
) -> None:
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404
    assert client_of(acme.administrator).get("/metrics").status_code == 404
    shown = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"})
    assert b"# TYPE custos_" in shown.content
    assert client_of(platform_administrator).get("/metrics").status_code == 200


def test_metrics_of_an_inference_that_is_away_are_an_error_and_no_crash(client: Client, db: None) -> None:
    answer = client.get("/metrics/inference", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"})
    assert answer.status_code == 503
