"""While nothing has come, another is asked in turn: recorded before, once, and observed as the failure it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from audit import record
from audit.models import AuditCompletion, AuditRecord
from audit.output import text_of
from audit.record import AuditUnavailable
from inference.client import (
    Delta,
    Event,
    Finished,
    InferenceClient,
    InferenceRejected,
    InferenceUnavailable,
    Usage,
)
from inference.generation import run, running
from inference.generation.run import Ending, Order
from inference.protocol import invalid_request
from inference.registry.models import Deployment, Route
from inference.registry.selectors import Resolved
from inference.rollouts.models import Observation, Rollout, State
from tenants.roles import CHAT_USE
from tenants.scope import tenant_scope
from tests.chat.recorded import once_closed
from tests.conftest import Company

DOWN = InferenceUnavailable("It is down.")


class Saying(InferenceClient):
    """Says its words, then raises, if it has something to raise."""

    def __init__(self, *words: str, fault: Exception | None = None) -> None:
        super().__init__("")
        self.words, self.fault, self.asked = words, fault, 0

    async def stream_chat(self, request: dict[str, Any], **facts: Any) -> AsyncGenerator[Event, None]:
        self.asked += 1
        for word in self.words:
            yield Delta(text=word)
        if self.fault is not None:
            raise self.fault
        yield Finished(finish_reasons={0: "stop"}, usage=Usage(prompt_tokens=7, completion_tokens=2))


class Nobody:
    def __init__(self) -> None:
        self.ending: Ending | None = None

    async def batch(self, **_: Any) -> None: ...

    async def end(self, *, seq: int, ending: Ending) -> None:
        self.ending = ending


@pytest.fixture
async def order(live_acme: Company) -> AsyncIterator[Order]:
    def make() -> Order:
        actor = live_acme.actor(live_acme.member)
        with tenant_scope(live_acme.tenant.pk):
            route = Route.objects.get(is_default=True)
        resolved = Resolved(
            route=route.name,
            route_id=route.pk,
            reason="rollout",
            model="small",
            version="small@2",
            deployment="candidate",
            served_id="small",
            context_tokens=2048,
            client=Saying("Yes."),
            arm="candidate",
            rollout_id=rollout().pk,
        )
        return Order(
            actor=actor,
            channel="chat",
            permission=CHAT_USE,
            kind="chat",
            request={"messages": [{"role": "user", "content": "May I?"}]},
            resolved=resolved,
        )

    yield await sync_to_async(make)()
    await running.of_this_loop().shut_down()


def rollout() -> Rollout:
    baseline = Deployment.objects.select_related("version").get(name=Deployment.EMBEDDED)
    candidate = Deployment.objects.create(name="candidate", version=baseline.version, base_url="http://x")
    return Rollout.objects.create(
        baseline=baseline, candidate=candidate, state=State.SHARE, percent=20, began_by="Custos"
    )


def in_turn(order: Order, first: Saying, *others: Saying) -> Order:
    resolved = replace(order.resolved, client=first)
    after = tuple(
        replace(resolved, client=each, deployment="baseline", version="small@1", arm="", rollout_id=None)
        for each in others
    )
    return replace(order, resolved=replace(resolved, others=after))


async def answered(order: Order) -> tuple[str, Ending]:
    sink = Nobody()
    generation = await run.begin(order, sink)
    generation.start()
    await generation.wait()
    assert sink.ending is not None
    return text_of(generation.parts), sink.ending


def observed() -> list[tuple[str, bool, str]]:
    return list(Observation.objects.order_by("pk").values_list("arm", "failed", "error_code"))


def reroutings(company: Company) -> list[tuple[Any, str]]:
    with tenant_scope(company.tenant.pk):
        found = []
        for row in AuditRecord.objects.filter(kind=run.REROUTED).order_by("pk"):
            handle = record.handle_of(row)
            told = record.open_json(handle, field="input", sealed=row.input)
            ending = AuditCompletion.objects.get(day=row.day, request_id=row.id)
            found.append((row.subject_id, f"{told['from']['deployment']}→{told['to']['deployment']}"))
            assert ending.error_code == "inference_unavailable"
        return found


async def test_who_asked_gets_the_baselines_answer_and_the_candidate_its_failure(
    live_acme: Company, order: Order
) -> None:
    order = in_turn(order, Saying(fault=DOWN), Saying("Yes."))
    text, ending = await answered(order)
    assert (text, ending.status, ending.error_code) == ("Yes.", "completed", "")
    assert await sync_to_async(reroutings)(live_acme) == [(order.request_id, "candidate→baseline")]
    assert await sync_to_async(observed)() == [("candidate", True, "inference_unavailable")]
    assert (await once_closed(live_acme, order.request_id)).text == "Yes."


async def test_after_the_first_piece_nobody_else_is_asked(live_acme: Company, order: Order) -> None:
    other = Saying("No.")
    _text, ending = await answered(in_turn(order, Saying("Ye", fault=DOWN), other))
    assert (ending.status, other.asked) == ("failed", 0)
    assert await sync_to_async(reroutings)(live_acme) == []
    assert await sync_to_async(observed)() == [("candidate", True, "inference_unavailable")]


async def test_when_nobody_answers_the_last_failure_stands(live_acme: Company, order: Order) -> None:
    others = [Saying(fault=DOWN), Saying(fault=DOWN)]
    _text, ending = await answered(in_turn(order, Saying(fault=DOWN), *others))
    assert (ending.status, ending.error_code) == ("failed", "inference_unavailable")
    assert [each.asked for each in others] == [1, 1]
    assert len(await sync_to_async(reroutings)(live_acme)) == 2


async def test_what_cannot_be_recorded_is_not_done(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(**_: Any) -> None:
        raise AuditUnavailable

    monkeypatch.setattr(record, "record_event", unavailable)
    other = Saying("Yes.")
    _text, ending = await answered(in_turn(order, Saying(fault=DOWN), other))
    assert (ending.status, ending.error_code, other.asked) == ("failed", "audit_lost", 0)


async def test_a_request_at_fault_is_refused_once_but_not_by_a_candidate_alone(order: Order) -> None:
    fault = InferenceRejected(invalid_request("too_long", "The prompt is too long."))
    other = Saying("Yes.")
    plain = in_turn(order, Saying(fault=fault), other)
    _text, ending = await answered(replace(plain, resolved=replace(plain.resolved, arm="baseline")))
    assert (ending.status, ending.error_code, other.asked) == ("refused", "too_long", 0)
    assert await sync_to_async(observed)() == [], "says nothing of who answered"
    text, ending = await answered(in_turn(replace(order, request_id=run.uuid7()), Saying(fault=fault), other))
    assert (text, ending.status) == ("Yes.", "completed")


async def test_a_good_answer_is_observed_with_its_times(order: Order) -> None:
    await answered(order)
    found = await Observation.objects.aget()
    assert (found.arm, found.failed, found.error_code) == ("candidate", False, "")
    assert found.ttft_ms is not None


async def test_a_copy_goes_to_the_shadow_and_is_observed(
    live_acme: Company, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = replace(order.resolved, arm="baseline", deployment="baseline", reason="default")
    copied = replace(order.resolved, arm="shadow", reason="shadow", client=Saying("No."))
    text, _ending = await answered(replace(order, resolved=replace(resolved, shadow=copied)))
    assert text == "Yes.", "of the copy nobody is shown anything"

    def both() -> bool:
        return sorted(observed()) == [("baseline", False, ""), ("candidate", False, "")]

    for _ in range(100):
        if await sync_to_async(both)():
            return
        await run.asyncio.sleep(0.1)
    raise AssertionError(await sync_to_async(observed)())
