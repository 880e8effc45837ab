"""What nobody foresaw is OpenAI's error JSON too, never a page."""

from unittest.mock import patch

import pytest
from django.test import AsyncClient

from inference.registry.selectors import RouteNotFound
from inference.routing.choice import resolve
from tenants.scope import tenant_scope
from tests.conftest import Company


@pytest.mark.django_db(transaction=True)
async def test_an_unforeseen_failure_is_an_openai_error(async_client: AsyncClient) -> None:
    async_client.raise_request_exception = False
    with patch("console.api.requests.actor_for_key", side_effect=RuntimeError("a secret detail")):
        response = await async_client.get("/v1/models", headers={"Authorization": "Bearer x"})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret detail" not in response.text


def test_a_name_with_a_zero_character_names_no_model(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk), pytest.raises(RouteNotFound):
        resolve(acme.actor(acme.member), "smollm2\x00")
