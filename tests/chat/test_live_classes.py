"""Precise or fast, asked for in the chat; and who answered and why, as it is told."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import translation

from console import route_reasons
from console.chat import selectors
from inference.registry.models import Deployment, Route
from inference.routing.models import Target
from tenants.scope import tenant_scope
from tests.chat.browser import Browser
from tests.conftest import Company

SHORT = "What is the capital of France? Answer in one short sentence."


@pytest.fixture
def classes(live_acme: Company, thinker: str) -> str:
    """The default route: precise is its own model, fast the scripted one."""
    with tenant_scope(live_acme.tenant.pk):
        route = Route.objects.get(is_default=True)
        fast = Deployment.objects.get(name=thinker)
        Target.objects.create(route=route, deployment=fast, position=1, route_class="fast")
        Target.objects.create(route=route, deployment=route.deployment, position=2, route_class="precise")
    return route.name


async def test_the_class_that_is_asked_for_answers_and_is_told(
    live_acme: Company, browser: Browser, classes: str, thinker: str
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT, route_class="fast")
    fast = (await tab.until("done"))["answering"]
    assert fast["route_class"] == "fast" and fast["deployment"] == thinker
    assert fast["reason"] == "rule 1 of the model, the fast one, as asked"

    await tab.send(
        type="regenerate", client_id=str(uuid.uuid4()), conversation=accepted["conversation"]["id"],
        answer=accepted["answer"]["id"], route_class="precise",
    )  # fmt: skip
    again = await tab.until("accepted")
    done = await tab.until(
        lambda frame: frame["type"] == "done" and frame["generation"] == again["generation"]
    )
    assert done["answering"]["route_class"] == "precise"
    assert done["answering"]["deployment"] != thinker

    def on_the_page() -> dict[str, Any]:
        actor = live_acme.actor(live_acme.member)
        with tenant_scope(actor.tenant_id), translation.override("en"):
            return selectors.page_data(actor, uuid.UUID(accepted["conversation"]["id"]))

    page = await sync_to_async(on_the_page)()
    metas = [message["meta"] for message in page["messages"] if message["role"] == "assistant"]
    assert [meta["route_class"] for meta in metas] == ["fast", "precise"]
    assert metas[0]["reason"] == fast["reason"]
    assert {route["name"]: route["classes"] for route in page["routes"]}[classes] == ["precise", "fast"]


async def test_a_class_that_the_route_does_not_offer_is_refused(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    await tab.send(type="ask", client_id=str(uuid.uuid4()), conversation=None, text=SHORT, route_class="fast")
    assert (await tab.until("error"))["code"] == "route_not_found"


@pytest.mark.parametrize(
    ("reason", "words", "name"),
    [
        ("named", "", ""),
        ("default no_rule", "no rule of the model applied", ""),
        (
            "named rule:1 fast difficulty:0.18<0.4",
            "rule 1 of the model, the fast one, difficulty 0.18 < 0.4",
            "fast",
        ),
        (
            "named rule:2 precise:asked instead_of:big",
            "rule 2 of the model, the precise one, as asked, instead of big, which was not available",
            "precise",
        ),
        ("named something_new:4", "", ""),
    ],
)
def test_reasons_in_words(reason: str, words: str, name: str) -> None:
    with translation.override("en"):
        assert (route_reasons.in_words(reason), route_reasons.class_of(reason)) == (words, name)
