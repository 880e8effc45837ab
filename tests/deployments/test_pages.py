"""The pages of deployments, the services under them, and what the audit keeps."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client

from audit.models import AuditRecord
from inference.client import Software
from inference.deployments import capacity, secrets, selectors, services, upstreams
from inference.deployments.clients import STALE
from inference.deployments.looks import Look
from inference.deployments.models import Condition, Instance
from inference.registry import selectors as registry
from inference.registry import stages
from inference.registry.models import Deployment, ModelVersion
from inference.registry.operators import Operator
from inference.registry.services import ensure_default_route
from tenants import clock
from tenants.errors import Refused
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db

HOME = "/platform/deployments/"
KEY = "sk-very-secret"


@pytest.fixture
def browser(platform_administrator: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(platform_administrator)


@pytest.fixture
def upstream(by: Operator) -> Deployment:
    return services.create_upstream(
        by=by, name="theirs", base_url="http://127.0.0.1:9/v1/", upstream_model="big/model", key=KEY
    )


def asked(version: ModelVersion, **changes: Any) -> dict[str, Any]:
    whole = {
        "name": "small",
        "version_id": str(version.pk),
        "replicas": 1,
        "kv_memory_mb": 256,
        "max_running": 8,
        "speculation": "on",
        "keep_warm": "on",
    }
    return {**whole, **changes}


def turn(browser: Client, deployment: Deployment, action: str, **more: Any) -> Any:
    return browser.post(f"{HOME}{deployment.pk}/turn/{action}", {"confirmed": "yes", **more}, follow=True)


def events(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        rows = AuditRecord.objects.filter(kind__startswith="deployment.").order_by("pk")
        return [kind.removeprefix("deployment.") for kind in rows.values_list("kind", flat=True)]


def test_a_version_is_deployed_shown_and_turned(
    browser: Client, version: ModelVersion, acme: Company, north: Company
) -> None:
    assert ">small</a>" not in browser.get(HOME).text
    assert f"{HOME}new/?version={version.pk}" in browser.get(f"/platform/models/versions/{version.pk}/").text
    form = browser.get(f"{HOME}new/", {"version": str(version.pk)}).text
    assert "smollm2-135m-instruct-2" in form and "int8" in form
    page = browser.post(f"{HOME}new/", asked(version), follow=True).text
    assert "small is being started." in page and "Waits to be started" in page
    made = Deployment.objects.get(name="small")
    assert (made.kind, made.wanted, made.max_running, made.edition) == ("managed", "running", 8, 1)
    for action, words, wanted in (
        ("restart", "It is being restarted.", "running"),
        ("scale", "It is being scaled.", "running"),
        ("drain", "It drains, then stops.", "drained"),
        ("stop", "It is being stopped.", "stopped"),
        ("start", "It is being started.", "running"),
    ):
        question = browser.get(f"{HOME}{made.pk}/turn/{action}").text
        assert "small" in question and "Cancel" in question
        assert words in turn(browser, made, action, replicas=2).text
        made.refresh_from_db()
        assert made.wanted == wanted
    assert (made.edition, made.replicas) == (2, 2)
    kinds = ["created", "restarted", "scaled", "drained", "stopped", "started"]
    for company in (acme, north):
        assert events(company) == kinds
    assert browser.get(f"{HOME}{made.pk}/turn/explode").status_code == 404
    assert browser.get(f"{HOME}{UUID(int=1)}/").status_code == 404


def test_what_cannot_be_is_said_at_its_field_and_nothing_typed_is_lost(
    browser: Client, version: ModelVersion, deployed: Deployment, settings: Any
) -> None:
    def refused(**changes: Any) -> str:
        answer = browser.post(f"{HOME}new/", asked(version, **changes))
        assert answer.status_code == 422
        return answer.text

    assert "There is a deployment of that name already." in refused()
    assert "a to z only" in refused(name="Ünïcode")
    assert "from 1 to 16" in refused(name="other", replicas=17)
    assert "from 1 to 16" in refused(name="other", replicas=0)
    assert "context of 8,192 tokens" in refused(name="other", max_context=9000).replace("8192", "8,192")
    assert "Select a valid choice" in refused(name="other", version_id=str(UUID(int=1)))
    settings.INFERENCE_MEMORY_MB = 500
    assert "CUSTOS_INFERENCE_MEMORY_MB" in refused(name="other", kv_memory_mb=100)
    assert Deployment.objects.filter(kind="managed").count() == 1


def test_only_staged_and_production_versions_are_deployed_and_a_deployed_one_is_not_archived(
    by: Operator, version: ModelVersion, deployed: Deployment
) -> None:
    for stage in ("archived", "draft"):
        with pytest.raises(Refused, match="End the deployment first"):
            stages.move(by=by, version_id=version.pk, stage=stage, reason="Away")
    services.stop(by=by, deployment_id=deployed.pk)
    stages.move(by=by, version_id=version.pk, stage="archived", reason="Away")
    for attempt in (
        lambda: services.start(by=by, deployment_id=deployed.pk),
        lambda: services.create(by=by, name="other", version_id=version.pk),
    ):
        with pytest.raises(Refused, match="staged or in production"):
            attempt()
    embedder = registry.version_named("all-minilm-l6-v2@1")
    with pytest.raises(Refused, match="answer with text"):
        services.create(by=by, name="other", version_id=embedder.pk)


def test_the_built_in_ones_can_be_neither_stopped_nor_scaled(
    browser: Client, by: Operator, version: ModelVersion
) -> None:
    built_in = selectors.deployment_named("embedded")
    for service in (services.stop, services.drain, services.restart, services.start):
        with pytest.raises(Refused, match="built in"):
            service(by=by, deployment_id=built_in.pk)
    with pytest.raises(Refused, match="built in"):
        services.scale(by=by, deployment_id=built_in.pk, replicas=2)
    page = browser.get(f"{HOME}{built_in.pk}/").text
    assert "neither stopped nor scaled" in page and "/turn/stop" not in page
    assert "neither stopped nor scaled" in turn(browser, built_in, "stop").text


def test_settings_are_changed_and_what_is_no_change_replaces_nothing(
    browser: Client, deployed: Deployment
) -> None:
    path = f"{HOME}{deployed.pk}/settings"
    same = {"kv_memory_mb": 512, "max_running": 64, "speculation": "on", "keep_warm": "on"}
    assert "Saved." in browser.post(path, same, follow=True).text
    assert Deployment.objects.get(pk=deployed.pk).edition == 1
    browser.post(path, {**same, "max_context": 2048})
    changed = Deployment.objects.get(pk=deployed.pk)
    assert (changed.edition, changed.max_context) == (2, 2048)
    answer = browser.post(path, {**same, "max_running": 0})
    assert answer.status_code == 422 and "from 1 to 4096" in answer.text


def test_failed_instances_show_why_and_their_log(browser: Client, deployed: Deployment) -> None:
    facts = {"deployment": deployed, "edition": 1, "address": "http://127.0.0.1:1"}
    log = "line one\n<script>alert(1)</script>"
    Instance.objects.create(
        **facts,
        number=1,
        state="failed",
        failure="load",
        failure_detail="no such file",
        tail=log,
        ended=clock.now(),
    )
    Instance.objects.create(**facts, number=2, state="ready", looked=clock.now(), running=3, capacity=8)
    Condition.objects.create(deployment=deployed, trouble="memory", trouble_detail="1000/20/500")
    for path in (f"{HOME}{deployed.pk}/", f"{HOME}{deployed.pk}/state"):
        page = browser.get(path).text
        assert "The model could not be loaded: no such file" in page and "line one" in page
        assert "<script>alert(1)" not in page and "3 / 8" in page
        assert "one needs about 1000 MB, and of 500 MB for models 20 MB" in page
    for path in (HOME, f"{HOME}state"):
        page = browser.get(path).text
        assert "1 / 1" in page and "3 / 8" in page and "Ready" in page
    Instance.objects.filter(number=2).update(looked=clock.now() - STALE)
    assert "Not known" in browser.get(HOME).text


def test_the_routes_that_lead_there_are_named(browser: Client, version: ModelVersion, acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
    built_in = selectors.deployment_named("embedded")
    for path in (HOME, f"{HOME}{built_in.pk}/"):
        assert "Acme Bank: smollm2-135m-instruct" in browser.get(path).text


# --- Upstreams ---------------------------------------------------------------------------------------


def test_an_upstream_is_tried_connected_and_given_another_key(
    browser: Client, version: ModelVersion, acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    answer = Look("ready", running=2, waiting=1, software=Software.VLLM, models=("big/model",), context=4096)

    async def look(client: Any) -> Look:
        seen.append((client.base_url, client._token))
        return answer

    monkeypatch.setattr("inference.deployments.looks.look_at", look)
    wish = {
        "name": "theirs",
        "base_url": "http://127.0.0.1:9/v1",
        "key": KEY,
        "upstream_model": "",
        "context_tokens": 4096,
        "max_running": 16,
    }
    page = browser.post(f"{HOME}upstream/", {**wish, "try": "yes"}).text
    assert seen == [("http://127.0.0.1:9", KEY)]
    assert "big/model" in page and "context of up to" in page and KEY not in page
    assert not Deployment.objects.filter(name="theirs").exists()
    assert "Say which model" in browser.post(f"{HOME}upstream/", wish).text
    page = browser.post(f"{HOME}upstream/", {**wish, "upstream_model": "big/model"}, follow=True).text
    assert "theirs answers from now on." in page and KEY not in page
    made = selectors.deployment_named("theirs")
    assert (str(made.version), made.served_id, made.version.context_tokens) == ("theirs@1", "big/model", 4096)
    assert KEY not in made.sealed_key and secrets.opened(made.sealed_key, made.pk) == KEY
    answer = Look("away", "it refused")
    assert "It does not answer: it refused" in browser.post(f"{HOME}{made.pk}/try", follow=True).text
    assert seen[-1] == ("http://127.0.0.1:9", KEY)
    browser.post(f"{HOME}{made.pk}/key", {"key": ""})
    assert selectors.deployment_named("theirs").sealed_key == ""
    assert "one word" in browser.post(f"{HOME}{made.pk}/key", {"key": "two words"}).text
    assert events(acme) == ["created", "key_changed"]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nothing",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://",
        "http://user:secret@127.0.0.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1/?q=1",
        "http://127.0.0.1/#x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1\n.example",
        "http://169.254.169.254",
        "http://[fe80::1]",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://100.100.100.200/v1",
        "http://0.0.0.0:8000",
        "http://[::]",
        "http://224.0.0.1",
        "http://2852039166",
        "http://name.invalid",
    ],
)
def test_addresses_that_may_not_be_asked_are_refused(by: Operator, address: str) -> None:
    with pytest.raises(Refused) as refusal:
        services.create_upstream(by=by, name="theirs", base_url=address, upstream_model="m")
    assert refusal.value.field == "base_url"
    with pytest.raises(Refused):
        services.try_upstream(base_url=address)


def test_addresses_are_kept_in_one_form() -> None:
    for text in ("http://10.0.0.5:8000", " http://10.0.0.5:8000/ ", "http://10.0.0.5:8000/v1/"):
        assert upstreams.cleaned(text) == "http://10.0.0.5:8000"
    assert upstreams.cleaned("https://llm.example/openai/v1") == "https://llm.example/openai"
    upstreams.check("http://10.0.0.5:8000")


def test_a_sealed_key_opens_at_its_own_deployment_alone(upstream: Deployment, settings: Any) -> None:
    assert secrets.opened(upstream.sealed_key, upstream.pk) == KEY
    for sealed, deployment_id in (
        (upstream.sealed_key, UUID(int=1)),
        (upstream.sealed_key[:-8], upstream.pk),
    ):
        with pytest.raises(secrets.KeyLost):
            secrets.opened(sealed, deployment_id)
    settings.DEPLOYMENTS_KEY = base64.b64encode(bytes(32)).decode()
    with pytest.raises(secrets.KeyLost):
        secrets.opened(upstream.sealed_key, upstream.pk)
    assert selectors.endpoints_of(upstream)[0].client._token == "", "the upstream refuses, and says so"


def test_what_a_deployment_serves_and_where_never_changes(upstream: Deployment) -> None:
    for column, value in (
        ("name", "other"),
        ("base_url", "http://x"),
        ("upstream_model", "x"),
        ("kind", "managed"),
    ):
        with pytest.raises(IntegrityError, match="does not change"), transaction.atomic():
            Deployment.objects.filter(pk=upstream.pk).update(**{column: value})
    with (
        pytest.raises(Exception, match="permission denied"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM registry_deployment")


def test_an_upstream_is_neither_restarted_nor_scaled_here_and_can_be_stopped(
    by: Operator, upstream: Deployment
) -> None:
    with pytest.raises(Refused, match="operates"):
        services.restart(by=by, deployment_id=upstream.pk)
    with pytest.raises(Refused, match="operates"):
        services.scale(by=by, deployment_id=upstream.pk, replicas=2)
    with pytest.raises(Refused, match="files are not here"):
        services.create(by=by, name="other", version_id=upstream.version_id)
    services.stop(by=by, deployment_id=upstream.pk)
    assert selectors.endpoints_of(selectors.deployment_named("theirs")) == []


# --- Commands ----------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    out = io.StringIO()
    call_command("deployments", *arguments, stdout=out)
    return json.loads(out.getvalue()) if "--json" in arguments else out.getvalue()


def test_the_command_deploys_turns_and_lists(version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run("create", "small", str(version), "--replicas", "2", "--on-demand", "--json")
    assert (made["deployment"], made["replicas"], made["keep_warm"]) == ("small", 2, False)
    run("scale", "small", "1")
    run("stop", "small")
    run("start", "small")
    monkeypatch.setenv("CUSTOS_UPSTREAM_KEY", KEY)
    there = run("upstream", "theirs", "http://127.0.0.1:9", "big", "--json")
    assert there["has_key"] is True and KEY not in json.dumps(there)
    run("key", "theirs")
    listed = {row["deployment"]: row for row in run("list", "--json")["deployments"]}
    assert listed["small"]["state"] == "asleep" and set(listed) == {
        *("small", "theirs", "embedded", "embedded-embedder"),
    }
    assert "small" in run("list")
    for wrong in (
        ("stop", "nothing"),
        ("create", "x1", "nothing@1"),
        ("stop", "embedded"),
        ("fault", "small"),
    ):
        with pytest.raises(CommandError):
            run(*wrong)


def test_memory_is_estimated_by_parameters_or_files(version: ModelVersion, by: Operator) -> None:
    assert capacity.weights_mb(version) == int(134_515_008 * 1.05 / 1e6) + 1
    unknown = ModelVersion(precision="float32", files={"a": {"size": 1_000_000_000}})
    assert capacity.weights_mb(unknown) == 2001
