"""The registry's pages: what platform administrators do there, and what a workspace's operators see."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from inference.registry import imports, selectors, stages, versions
from inference.registry.models import ModelImport, ModelVersion
from inference.registry.operators import Operator
from inference.registry.services import ensure_default_registry, ensure_default_route
from inference.routing.choice import resolve
from tenants.errors import Refused
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.registry.conftest import Writer, import_folder, safetensors

pytestmark = pytest.mark.django_db

MODELS = "/platform/models/"


@pytest.fixture
def browser(platform_administrator: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(platform_administrator)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """That the worker was asked to import: there is none here."""
    found: list[str] = []
    monkeypatch.setattr("console.tasks.import_models.delay_on_commit", lambda: found.append("import"))
    return found


@pytest.fixture
def default(db: None) -> ModelVersion:
    ensure_default_registry()
    return selectors.version_named("smollm2-135m-instruct@1")


def test_the_list_is_searched_filtered_and_sorted(browser: Client, default: ModelVersion) -> None:
    page = browser.get(MODELS).text
    assert "smollm2-135m-instruct@1" in page and "all-minilm-l6-v2@1" in page and "134.5 M" in page
    assert "all-minilm" not in browser.get(MODELS, {"q": "smol"}).text
    assert "all-minilm" not in browser.get(MODELS, {"kind": "text"}).text
    assert "No model matches" in browser.get(MODELS, {"stage": "draft"}).text
    assert "smollm2" in browser.get(MODELS, {"stage": "production", "sort": "-stage"}).text
    rows = b"".join(browser.get(MODELS, {"format": "csv"})).decode().splitlines()  # type: ignore[call-overload]
    assert len(rows) == 3 and default.digest in rows[2]


def test_an_empty_registry_says_what_to_do(browser: Client) -> None:
    assert "No model yet" in browser.get(MODELS).text


def test_a_version_shows_its_facts_files_and_where_it_is_used(
    browser: Client, default: ModelVersion, acme: Company
) -> None:
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
    page = browser.get(f"{MODELS}versions/{default.pk}/").text
    for words in ("LlamaForCausalLM", default.digest, "SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0"):
        assert words in page
    assert "Acme Bank: smollm2-135m-instruct" in page
    assert browser.get(f"{MODELS}versions/{UUID(int=1)}/").status_code == 404


def test_the_packaged_model_gets_an_int8_version_and_both_stand_side_by_side(
    browser: Client, default: ModelVersion, by: Operator
) -> None:
    refused = browser.post(f"{MODELS}versions/{default.pk}/derive", {"precision": "bfloat16"})
    assert refused.status_code == 422 and "registered already" in refused.text
    answer = browser.post(f"{MODELS}versions/{default.pk}/derive", {"precision": "int8"}, follow=True)
    assert "smollm2-135m-instruct@2 is registered as a draft." in answer.text
    made = selectors.version_named("smollm2-135m-instruct@2")
    assert made.parent == default and made.files == default.files
    assert selectors.weights_of(made) == selectors.weights_of(default)
    versions.evaluate(
        by=by, version_id=made.pk, suite="our text", figures={"agreement": 0.97, "weight_bytes": 1.4e8}
    )
    page = browser.get(f"{MODELS}compare/", {"v": [str(default.pk), str(made.pk)]}).text
    rows = {row.split("</th>")[0].split(">")[-1]: row for row in page.split("<tr>")[1:]}
    assert "Differs" in rows["Precision"] and "Same" in rows["Digest"] and "Same" in rows["Architecture"]
    assert "Differs" in rows["Same likeliest token as its reference"] and "0.970" in page
    assert "Choose two versions" in browser.get(f"{MODELS}compare/", {"v": ["x", str(made.pk)]}).text


def test_a_model_is_described_and_its_card_is_data_for_the_script(
    browser: Client, by: Operator, write_model: Writer
) -> None:
    write_model()
    version = import_folder(by).version
    assert version is not None
    page = browser.get(f"{MODELS}versions/{version.pk}/").text
    assert "<script>alert(1)" not in page and "\\u003Cscript\\u003Ealert(1)" in page
    path = f"{MODELS}{version.model.pk}/"
    wanted = {"title": "Tiny", "licence": "MIT", "description": "<img src=x onerror=alert(1)>"}
    page = browser.post(path, wanted, follow=True).text
    assert "Saved." in page and "<img src=x" not in page
    assert browser.post(path, {**wanted, "title": ""}).status_code == 422


# --- Stages -----------------------------------------------------------------------------------------


def turn(browser: Client, version: ModelVersion, action: str, reason: str = "Measured") -> Any:
    return browser.post(
        f"{MODELS}versions/{version.pk}/turn/{action}", {"confirmed": "yes", "reason": reason}, follow=True
    )


def test_a_version_goes_through_its_stages_with_reasons(
    browser: Client, by: Operator, write_model: Writer
) -> None:
    write_model()
    version = import_folder(by).version
    assert version is not None
    question = browser.get(f"{MODELS}versions/{version.pk}/turn/staged")
    assert "Stage tiny@1?" in question.text
    assert turn(browser, version, "staged", reason="").status_code == 422
    for action in ("staged", "production", "archived", "draft"):
        page = turn(browser, version, action, reason=f"Because of {action}").text
        assert selectors.stage_of(version) == action and f"Because of {action}" in page
    assert "from which this is not possible" in turn(browser, version, "production").text
    assert turn(browser, version, "explode").status_code == 404


def test_with_four_eyes_another_person_approves(
    browser: Client,
    by: Operator,
    other: Operator,
    write_model: Writer,
    settings: Any,
    client_of: Callable[[User], Client],
) -> None:
    settings.MODELS_FOUR_EYES = True
    write_model()
    version = import_folder(by).version
    assert version is not None
    turn(browser, version, "staged")
    page = turn(browser, version, "production").text
    assert "Another platform administrator has to approve it." in page
    assert selectors.stage_of(version) == "staged"
    assert f"{version.pk}/turn/approve" not in page, "not by whoever asked"
    assert "You asked for it yourself" in turn(browser, version, "approve").text
    second = client_of(User.objects.get(pk=other.user_id))
    assert f"{version.pk}/turn/approve" in second.get(f"{MODELS}versions/{version.pk}/").text
    turn(second, version, "decline", reason="Too slow")
    assert selectors.stage_of(version) == "staged" and selectors.pending_of(version) is None
    turn(browser, version, "production")
    turn(second, version, "approve")
    assert selectors.stage_of(version) == "production"


# --- Imports ----------------------------------------------------------------------------------------


def test_a_folder_is_imported_and_its_progress_shown(
    browser: Client, write_model: Writer, asked: list[str]
) -> None:
    write_model()
    page = browser.get(f"{MODELS}import/").text
    assert '<option value="tiny">' in page
    wrong = browser.post(f"{MODELS}import/?from=folder", {"source": "../etc", "precision": "bfloat16"})
    assert wrong.status_code == 422 and "leads out of" in wrong.text and 'value="../etc"' in wrong.text
    answer = browser.post(f"{MODELS}import/?from=folder", {"source": "tiny", "precision": "int8"})
    assert asked == ["import"]
    path = answer.headers["Location"]
    assert "In line" in browser.get(path).text
    imports.run_waiting()
    found = browser.get(f"{path}state").json()
    assert (found["state"], found["percent"]) == ("done", 100)
    assert "registered as a draft" in browser.get(path).text
    assert browser.get(found["version"]).status_code == 200


def test_a_failed_import_says_why_and_can_be_resumed(browser: Client, write_model: Writer) -> None:
    folder = write_model(tokenizer__json=None)
    browser.post(f"{MODELS}import/?from=folder", {"source": "tiny", "precision": "bfloat16"})
    imports.run_waiting()
    row = ModelImport.objects.get()
    path = f"{MODELS}imports/{row.pk}/"
    assert "tokenizer.json is missing" in browser.get(path).text
    assert "tiny" in browser.get(MODELS).text, "the list names what is not done"
    (folder / "tokenizer.json").write_text("{}")
    browser.post(f"{path}act/resume")
    imports.run_waiting()
    assert browser.get(f"{path}state").json()["state"] == "done"
    assert "from which this is not possible" in browser.post(f"{path}act/cancel", follow=True).text
    assert browser.post(f"{path}act/explode").status_code == 404


def test_a_server_without_a_models_folder_says_so(browser: Client, settings: Any) -> None:
    settings.MODELS_DIR = None
    assert "Set CUSTOS_MODELS_DIR" in browser.get(f"{MODELS}import/").text
    answer = browser.post(f"{MODELS}import/?from=folder", {"source": "tiny", "precision": "bfloat16"})
    assert answer.status_code == 422


def test_an_upload_is_announced_and_sent_in_pieces(browser: Client, write_model: Writer) -> None:
    content = safetensors()
    answer = browser.post(f"{MODELS}import/?from=upload", {"name": "Mine", "precision": "bfloat16"})
    path = answer.headers["Location"]
    assert "data-upload" in browser.get(path).text
    sizes = {"model.safetensors": len(content), "config.json": 2, "tokenizer.json": 2}

    def announce(files: Any) -> Any:
        return browser.post(f"{path}files", json.dumps(files), content_type="application/json")

    assert announce([1]).status_code == 400
    refused = announce({**sizes, "evil.bin": 5})
    assert (refused.status_code, refused.json()["code"]) == (422, "pickle")
    assert announce(sizes).json()["received"] == dict.fromkeys(sizes, 0)

    def send(name: str, offset: Any, piece: bytes) -> Any:
        return browser.post(
            f"{path}chunk?name={name}&offset={offset}",
            piece,
            content_type="application/octet-stream",
            headers={"X-Chunk-SHA256": hashlib.sha256(piece).hexdigest()},
        )

    assert send("model.safetensors", 0, content[:40]).json() == {"received": 40}
    assert (send("model.safetensors", 0, content[:40]).status_code, send("x", "-1", b"x").status_code) == (
        409,
        400,
    )
    assert send("../x", 0, b"x").status_code == 422
    assert announce(sizes).json()["received"]["model.safetensors"] == 40
    assert "completely" in browser.post(f"{path}act/finish", follow=True).text
    assert send("model.safetensors", 40, content[40:]).status_code == 200
    for name in ("config.json", "tokenizer.json"):
        assert send(name, 0, b"{}").status_code == 200
    browser.post(f"{path}act/finish")
    imports.run_waiting()
    assert browser.get(f"{path}state").json()["failure"].startswith("Custos cannot tell")


# --- A workspace ------------------------------------------------------------------------------------


def test_operators_see_what_their_routes_lead_to_and_change_nothing(
    default: ModelVersion, acme: Company, client_of: Callable[[User], Client]
) -> None:
    path = "/t/acme-bank/administration/models/"
    operator = client_of(acme.operator)
    assert "No model yet" in operator.get(path).text
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
    page = operator.get(path).text
    assert "SmolLM2 135M Instruct" in page and "Production" in page
    assert client_of(acme.member).get(path).status_code == 404
    assert operator.get(MODELS).status_code == 404


def test_an_archived_version_answers_nobody(default: ModelVersion, acme: Company, by: Operator) -> None:
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
        assert resolve(acme.actor(acme.member), None).model == "smollm2-135m-instruct"
    with pytest.raises(Refused, match="deployed"):
        stages.move(by=by, version_id=default.pk, stage="archived", reason="Old")
    default.stage_changes.create(number=2, stage="archived", by_label="past the service")
    with tenant_scope(acme.tenant.pk), pytest.raises(selectors.RouteNotFound):
        resolve(acme.actor(acme.member), None)
