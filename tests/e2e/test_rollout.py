"""A second version beside the first: in the shadow, for a share, broken, and rolled back by itself, while people get answers.

A Custos of its own, whose deployed instances can be made to fail.
"""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Self

import httpx
import openai
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_accessibility import violations
from tests.support.product import Product
from tests.support.services import TEST_DIR

PLATFORM = "platform@custos.example"
READY_MS = 180_000
ROLLED_BACK_MS = 60_000
STREAMS = 8
KEYS = """
from tenants.access import create_api_key
for number in range(40):
    print(create_api_key(tenant_slug="acme-bank", name=f"program {number}"))
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(
        TEST_DIR / f"rollout-{tmp_path_factory.getbasetemp().name}", CUSTOS_INFERENCE_FAULTS="yes"
    )
    running.start()
    yield running
    assert running.stop() == 0, running.output()[-4000:]
    shutil.rmtree(running.var_dir)


class Load:
    """Programs that ask without a pause, each with a key of its own in turn; every one expects a whole answer."""

    def __init__(self, url: str, keys: list[str]) -> None:
        self._clients = [openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) for key in keys]
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(STREAMS)]
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        while not self._ended.is_set():
            client = self._clients[number % len(self._clients)]
            try:
                self.ask(client)
                self.answers += 1
            except Exception as error:
                self.failures.append(repr(error))
            number += STREAMS

    @staticmethod
    def ask(client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(
            model="smollm2-135m-instruct",
            messages=[{"role": "user", "content": "What is a bank?"}],
            stream=True,
            max_tokens=6,
        )
        chunks = [chunk for chunk in stream if chunk.choices]
        assert chunks[-1].choices[0].finish_reason in ("length", "stop")


def fits(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def requests_of(page: Page, name: str) -> int:
    """How many requests the page has seen of a deployment."""
    row = page.get_by_role("group", name="How the two compare").get_by_role("row").filter(has_text=name)
    return int(row.get_by_role("cell").first.inner_text().replace(",", ""))


def wait_for_requests(product: Product, page: Page, name: str) -> None:
    def some() -> bool:
        page.wait_for_timeout(500)
        return requests_of(page, name) > 0

    product.wait_until(some, 60, f"requests of {name}")


def begin(page: Page, *, mode: str, percent: int) -> None:
    page.goto("/platform/rollouts/new/")
    for label, name in (("Baseline", "embedded"), ("Candidate", "small")):
        chosen = page.get_by_label(label, exact=True)
        option = chosen.locator("option").filter(has_text=re.compile(rf"^{name} ·"))
        chosen.select_option(value=option.get_attribute("value"))
    page.get_by_label(mode).check()
    page.get_by_label("Of a hundred requests").fill(str(percent))
    assert violations(page) == [] and fits(page)
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.get_by_text("The rollout has begun.")).to_be_visible()
    assert violations(page) == [] and fits(page)


def turn(page: Page, button: str, **typed: str) -> None:
    page.get_by_role("link", name=f"{button}…").click()
    dialog = page.get_by_role("dialog")
    for label, text in typed.items():
        dialog.get_by_label(label, exact=True).fill(text)
    dialog.get_by_role("button", name=button).click()


@pytest.mark.timeout(900)
def test_a_broken_candidate_is_rolled_back_and_nobody_is_without_an_answer(
    product: Product, sign_in: Callable[..., Page]
) -> None:
    made = json.loads(
        product.command(
            "models", "import", "version:smollm2-135m-instruct@1", "--precision", "int8", "--json"
        )
    )
    product.command("models", "stage", made["version"], "staged", "--reason", "To try it")
    product.command("deployments", "create", "small", made["version"], "--kv-memory-mb", "64")
    keys = [line for line in product.command("shell", "-c", KEYS).split() if line.startswith("custos-")]
    page = sign_in(PLATFORM, width=320)
    page.goto("/platform/rollouts/")
    expect(page.get_by_text("No rollout yet")).to_be_visible()
    assert violations(page) == [] and fits(page)
    page.goto("/platform/deployments/")
    expect(page.get_by_role("row").filter(has_text="small")).to_contain_text("Ready 1 / 1", timeout=READY_MS)

    begin(page, mode="In the shadow", percent=100)
    Load.ask(openai.OpenAI(base_url=f"{product.url}/v1", api_key=keys[0], max_retries=0))
    wait_for_requests(product, page, "small")

    turn(page, "Set its share", **{"Of a hundred requests": "20"})
    expect(page.get_by_text("small answers 20 % of conversations and programs.")).to_be_visible()
    with Load(product.url, keys) as load:
        wait_for_requests(product, page, "small")
        product.command("deployments", "fault", "small", "--error-rate", "1")
        state = page.locator("#rollout-standing .card-head")
        expect(state).to_contain_text("Rolled back", timeout=ROLLED_BACK_MS)
        expect(page.locator("#rollout-steps")).to_contain_text("Custos by itself")
        assert violations(page) == [] and fits(page)

        product.command("deployments", "fault", "small")
        begin(page, mode="With a share", percent=50)
        wait_for_requests(product, page, "small")
        turn(page, "Roll back")
        expect(page.get_by_text("The baseline answers everything again within seconds.")).to_be_visible()
        expect(page.locator("#rollout-standing .card-head")).to_contain_text("Rolled back")
    assert load.failures == [] and load.answers > 2 * STREAMS

    page.goto("/platform/alerts/")
    expect(page.get_by_text("A rollout was rolled back").first).to_be_visible()
    auditor = sign_in("auditor@acme-bank.example")
    auditor.goto("/t/acme-bank/audit/?kind=changes")
    expect(auditor.get_by_text("Rollout rolled back").first).to_be_visible()
    metrics = {
        "Authorization": f"Bearer {(product.var_dir / 'secrets' / 'metrics_token').read_text().strip()}"
    }
    told = httpx.get(f"{product.url}/metrics", headers=metrics).text
    assert 'custos_rollouts_ended_total{outcome="rolled_back"} 2.0' in told
    chinese = sign_in(PLATFORM, locale="zh-CN", scheme="dark", width=320)
    chinese.goto("/platform/rollouts/")
    assert violations(chinese) == [] and fits(chinese)
