"""A reviewer's errand, from a sentence that somebody once read to a file for a regulator."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect

from audit.search.asked import WEEKDAYS
from tests.e2e.test_accessibility import violations
from tests.support.product import Product

SENTENCE = "受益所有人是最终拥有或控制客户的自然人。"
# A question and its answer as they were recorded the day before.
SAID = """
from datetime import datetime
from uuid import UUID
from audit import record
from tenants.access import actor_for_user
from tenants.models import User
actor = actor_for_user(user=User.objects.get(email="member@acme-bank.example"), tenant_slug="acme-bank")
milliseconds = {milliseconds}
handle = record.begin(
    actor=actor, channel="chat", input=[{{"role": "user", "content": "谁是受益所有人？"}}], model="m",
    model_version="v", route="default", route_reason="default", parameters={{}},
    request_id=UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | 1),
)
record.append(handle, seq=1, text="{sentence}")
record.complete(handle, status="completed")
"""


def test_what_was_said_on_a_day_is_found_opened_and_exported(
    product: Product, sign_in: Callable[..., Page]
) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    code = SAID.format(milliseconds=int(noon.timestamp() * 1000), sentence=SENTENCE)
    product.command("shell", "--no-imports", "-c", code)
    page = sign_in("reviewer@acme-bank.example", locale="zh-CN")
    page.goto("/t/acme-bank/audit/")
    page.keyboard.press("/")
    page.keyboard.type("最终拥有或控制")
    page.locator("#reason").fill("监管要求")
    page.locator(".filter-fold summary").click()
    page.locator("#when").select_option(WEEKDAYS[noon.weekday()])
    page.locator("#text").press("Enter")
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit mark")).to_have_text("最终拥有或控制")
    assert "?s=" in page.url and "%" not in page.url, "the words are not in the address"
    assert violations(page) == []

    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_url(re.compile(r"/audit/[0-9a-f-]{36}/"))
    expect(page.locator(".record-text mark")).to_have_text("最终拥有或控制")
    expect(page.get_by_role("status").first).to_contain_text("监管要求")
    assert violations(page) == []

    page.keyboard.press("u")
    page.locator("button[name=all]").click()
    page.locator("#id_format").select_option("jsonl")
    with page.expect_download() as started:
        page.locator("button[name=confirmed]").click()
    (line,) = started.value.path().read_text(encoding="utf-8").splitlines()
    exported = json.loads(line)
    assert list(exported)[:5] == ["request_id", "user_id", "input", "output", "timestamp"]
    assert exported["output"] == SENTENCE
    assert datetime.fromisoformat(exported["timestamp"]) == noon

    page.goto("/t/acme-bank/audit/?kind=readings")
    page.locator("tbody a.cover").first.click()
    page.locator("form .btn.primary").first.click()
    expect(page.locator(".record")).to_contain_text("监管要求")


def test_records_are_gone_through_without_a_mouse_and_on_a_narrow_screen(
    product: Product, sign_in: Callable[..., Page]
) -> None:
    page = sign_in("reviewer@acme-bank.example", width=320)
    page.goto("/t/acme-bank/audit/?kind=readings")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.keyboard.press("j")
    expect(page.locator("[data-item] a.cover").first).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("[data-item] .tick input").first).to_be_checked()
    page.keyboard.press("?")
    expect(page.locator("[data-help]")).to_contain_text("Next or previous record")
