"""Questions over real websockets, answered by the real model in another process."""

from __future__ import annotations

import asyncio
import time
import uuid

from asgiref.sync import sync_to_async

from audit.output import Kind, text_of
from console.chat import selectors
from console.chat.models import Message
from tenants import valkey
from tenants.scope import tenant_scope
from tests.chat.browser import Browser, Tab
from tests.chat.recorded import count_records, once_closed
from tests.conftest import Company

LONG = "Write a very long and detailed story about a river, with many chapters."
SHORT = "What is the capital of France? Answer in one short sentence."


def stored(company: Company) -> list[Message]:
    with tenant_scope(company.tenant.pk):
        return list(Message.objects.order_by("pk"))


async def test_an_answer_arrives_word_by_word_and_is_what_was_recorded(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT)
    done = await tab.until("done")
    text = tab.text_of(accepted["generation"])
    assert "Paris" in text
    assert done["status"] == "completed"
    assert done["error"] is None
    assert done["usage"]["completion_tokens"] > 1
    assert done["timings"]["ttft_ms"] > 0
    numbers = [frame["seq"] for frame in tab.frames if frame["type"] == "delta"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 1
    assert done["seq"] == numbers[-1] + 1
    record = await once_closed(live_acme, accepted["generation"])
    assert record.text == text
    assert record.status == "completed"
    assert record.input == [{"role": "user", "content": SHORT}]
    assert record.completion is not None
    assert record.completion.prompt_tokens == done["usage"]["prompt_tokens"]


async def test_reasoning_comes_beside_the_answer_and_is_kept_with_it(
    live_acme: Company, browser: Browser, thinker: str
) -> None:
    def reasoning(tab: Tab, generation: str) -> str:
        frames = [f for f in tab.frames if f["type"] == "delta" and f["generation"] == generation]
        return "".join(frame.get("reasoning", "") for frame in frames)

    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT, route=thinker)
    generation = accepted["generation"]
    await tab.until("done")
    said = ("The capital is asked.", "It is Paris.")
    assert (reasoning(tab, generation), tab.text_of(generation)) == said

    # From its stream, and when that is gone from the record.
    for gone in (False, True):
        if gone:
            await valkey.client().delete(f"custos:{live_acme.tenant.pk}:generation:{generation}")
        later = await browser.open(live_acme.member, "acme-bank")
        await later.send(type="resume", generation=generation, after=0)
        await later.until("done")
        assert (reasoning(later, generation), later.text_of(generation)) == said
    await valkey.close_client()

    def kept() -> tuple[str, str]:
        with tenant_scope(live_acme.tenant.pk):
            answer = Message.objects.get(pk=accepted["answer"]["id"])
            parts = selectors.parts_of(answer)
            return text_of(parts, Kind.REASONING), text_of(parts)

    assert await sync_to_async(kept)() == said
    await tab.ask("And of Spain?", conversation=accepted["conversation"]["id"], route=thinker)
    done = await tab.until("done")
    record = await once_closed(live_acme, done["generation"])
    assert record.input[1] == {"role": "assistant", "content": "It is Paris."}, "thoughts are not sent again"


async def test_the_conversation_so_far_is_sent_to_the_model(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    first = await tab.ask(SHORT)
    await tab.until("done")
    second = await tab.ask(SHORT, conversation=first["conversation"]["id"])
    await tab.until(lambda frame: frame["type"] == "delta" and frame["generation"] == second["generation"])
    await tab.send(type="stop", generation=second["generation"])
    await tab.until(lambda frame: frame["type"] == "done" and frame["generation"] == second["generation"])
    record = await once_closed(live_acme, second["generation"])
    assert [message["role"] for message in record.input] == ["user", "assistant", "user"]
    assert record.input[1]["content"] == tab.text_of(first["generation"])
    assert second["conversation"]["id"] == first["conversation"]["id"]


async def test_stop_ends_the_answer_at_once_and_keeps_what_was_written(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(LONG)
    await tab.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 5)
    stopped_at = time.monotonic()
    await tab.send(type="stop", generation=accepted["generation"])
    done = await tab.until("done")
    assert time.monotonic() - stopped_at < 2
    assert done["status"] == "stopped"
    record = await once_closed(live_acme, accepted["generation"])
    assert record.status == "stopped"
    assert record.text == tab.text_of(accepted["generation"])
    answer = (await sync_to_async(stored)(live_acme))[-1]
    assert answer.status == "stopped"


async def test_another_tab_picks_an_answer_up_in_the_middle_without_losing_or_repeating_anything(
    live_acme: Company, browser: Browser
) -> None:
    first = await browser.open(live_acme.member, "acme-bank")
    accepted = await first.ask(LONG)
    generation = accepted["generation"]
    await first.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 10)
    await first.connection.close()  # The answer goes on without a socket.
    second = await browser.open(live_acme.member, "acme-bank")
    third = await browser.open(live_acme.member, "acme-bank")
    await second.send(type="resume", generation=generation, after=6)
    await third.send(type="resume", generation=generation, after=0)
    await second.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 30)
    await third.send(type="stop", generation=generation)
    await second.until("done")
    await third.until("done")
    head = "".join(f["text"] for f in first.frames if f["type"] == "delta" and f["seq"] <= 6)
    assert min(f["seq"] for f in second.frames if f["type"] == "delta") == 7
    record = await once_closed(live_acme, generation)
    assert head + second.text_of(generation) == record.text
    assert third.text_of(generation) == record.text


async def test_an_answer_that_ended_can_still_be_resumed(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT)
    done = await tab.until("done")
    again = await browser.open(live_acme.member, "acme-bank")
    await again.send(type="resume", generation=accepted["generation"], after=0)
    assert await again.until("done") == done
    assert again.text_of(accepted["generation"]) == tab.text_of(accepted["generation"])


async def test_a_resumed_answer_whose_stream_expired_comes_from_the_record(
    live_acme: Company, browser: Browser, services
) -> None:
    import redis

    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT)
    done = await tab.until("done")
    with redis.Redis.from_url(services.valkey.url) as valkey:
        key = f"custos:{live_acme.tenant.pk}:generation:{accepted['generation']}"
        assert valkey.delete(key) == 1
    again = await browser.open(live_acme.member, "acme-bank")
    await again.send(type="resume", generation=accepted["generation"], after=1)
    assert await again.until("done") == done
    first_piece = next(f["text"] for f in tab.frames if f["type"] == "delta")
    assert first_piece + again.text_of(accepted["generation"]) == tab.text_of(accepted["generation"])


async def test_the_persons_other_tabs_hear_that_an_answer_started(
    live_acme: Company, browser: Browser
) -> None:
    asking = await browser.open(live_acme.member, "acme-bank")
    watching = await browser.open(live_acme.member, "acme-bank")
    colleague = await browser.open(live_acme.administrator, "acme-bank")
    accepted = await asking.ask(SHORT)
    started = await watching.until("started")
    assert {k: v for k, v in started.items() if k != "type"} == {
        k: v for k, v in accepted.items() if k not in ("type", "client_id")
    }
    await asking.until("done")
    await colleague.send(type="ping")
    assert (await colleague.receive())["type"] == "pong"  # And nothing before it.


async def test_asking_again_with_the_same_client_id_asks_once(live_acme: Company, browser: Browser) -> None:
    first = await browser.open(live_acme.member, "acme-bank")
    second = await browser.open(live_acme.member, "acme-bank")
    client_id = str(uuid.uuid4())
    one, two = await asyncio.gather(
        first.ask(SHORT, client_id=client_id), second.ask(SHORT, client_id=client_id)
    )
    await first.until("done")
    await second.until("done")
    three = await second.ask(SHORT, client_id=client_id)
    assert one == two == three
    await second.until("done")
    assert first.text_of(one["generation"]) == second.text_of(one["generation"])
    assert len(await sync_to_async(stored)(live_acme)) == 2


async def test_regenerating_adds_an_answer_and_keeps_the_earlier_one(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT)
    await tab.until("done")
    await tab.send(
        type="regenerate",
        client_id=str(uuid.uuid4()),
        conversation=accepted["conversation"]["id"],
        answer=accepted["answer"]["id"],
    )
    again = await tab.until("accepted")
    await tab.until("done")
    assert again["regenerated"] == accepted["answer"]["id"]
    assert again["question"] == accepted["question"]
    question, first, second = await sync_to_async(stored)(live_acme)
    assert first.question_id == second.question_id == question.pk
    assert first.sealed_content and second.sealed_content
    record = await once_closed(live_acme, again["generation"])
    assert record.input == [{"role": "user", "content": SHORT}]


async def test_one_answer_at_a_time_in_a_conversation_and_a_few_for_a_person(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    running = [await tab.ask(LONG) for _ in range(4)]
    client_id = str(uuid.uuid4())
    await tab.send(
        type="ask", client_id=client_id, text=SHORT, conversation=running[0]["conversation"]["id"], route=None
    )
    busy = await tab.until("error")
    assert (busy["code"], busy["client_id"]) == ("conversation_busy", client_id)
    await tab.send(type="ask", client_id=client_id, text=SHORT, conversation=None, route=None)
    assert (await tab.until("error"))["code"] == "too_many_answers"
    before = await sync_to_async(count_records)(live_acme)
    assert before == 4  # What was refused before it was recorded was never asked.
    for accepted in running:
        await tab.send(type="stop", generation=accepted["generation"])
    for _ in running:
        await tab.until("done")
    await tab.ask(SHORT)
    assert (await tab.until("done"))["status"] == "completed"


async def test_a_question_too_long_for_the_model_is_refused_with_advice(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask("河" * 10_900)
    done = await tab.until("done")
    assert done["status"] == "refused"
    assert done["error"]["code"] == "context_length_exceeded"
    assert "new conversation" in done["error"]["message"]
    record = await once_closed(live_acme, accepted["generation"])
    assert (record.status, record.text) == ("refused", "")


async def test_deleting_a_conversation_stops_its_answer_and_keeps_the_record(
    live_acme: Company, browser: Browser, client_of
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(LONG)
    await tab.until("delta")
    page = f"/t/acme-bank/chat/{accepted['conversation']['id']}/"
    response = await sync_to_async(lambda: client_of(live_acme.member).post(page + "delete"))()
    assert response.status_code == 200
    record = await once_closed(live_acme, accepted["generation"])
    assert record.status == "stopped"
    assert record.text.startswith(tab.text_of(accepted["generation"]))
    assert await sync_to_async(stored)(live_acme) == []
