"""Questions over a real websocket, answered by the real model."""

from __future__ import annotations

from tests.chat.browser import Browser
from tests.conftest import Company


async def test_a_question_is_answered(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask("What is the capital of France? Answer in one short sentence.")
    done = await tab.until("done")
    assert done["status"] == "completed"
    assert "Paris" in tab.text_of(accepted["generation"])
