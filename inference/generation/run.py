"""One audited generation: begin, receive, record, deliver, close.

The order that matters is in `Generation._deliver`: a batch of what the model wrote (text, reasoning, tool calls, of
all choices) is committed to the audit record first and handed to the sink second, so what is delivered is always part
of what is recorded. While a commit is in flight, further pieces from the model gather and become the next batch.

An embedding is a generation that writes nothing: its input is recorded, its vectors are `Generation.vectors` at the end.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol
from uuid import UUID

from django.conf import settings

from audit import output, record
from audit.models import Status as AuditStatus
from audit.models import speed
from audit.record import AuditUnavailable, Timings
from inference import client as inference
from inference.client import Delta
from inference.generation import metrics, quota, running, shadow, stream
from inference.generation.errors import NotRecorded, OverQuota, ShuttingDown, StreamUnavailable
from inference.generation.revocation import Claim
from inference.registry.selectors import Resolved
from inference.rollouts import observations
from inference.routing import circuits
from tenants import floods
from tenants.access import Actor, Need
from tenants.database import in_database
from tenants.ids import uuid7
from tenants.quotas import reservations
from tenants.quotas.reservations import Reservation

logger = logging.getLogger(__name__)

Status = Literal["completed", "stopped", "disconnected", "interrupted", "failed", "timed_out", "refused"]

REFUSED = "quota.refused"
REROUTED = "generation.rerouted"

# After these the text already received is still recorded and delivered; after any other, nothing more is.
_FLUSHED = ("completed", "interrupted")
_DEPLOYMENT_FAILED = (inference.InferenceUnavailable.code, "inference_interrupted")
_CLOSE_ATTEMPTS_S = (0.0, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Order:
    """What to generate, for whom. `request` is the OpenAI-shaped body without `model` and `stream`.

    passages, attachments: what of the request was retrieved or came from files. It is in the request as the model reads
    it, and recorded beside it as what it was.
    """

    actor: Actor
    channel: Literal["chat", "api"]
    permission: str
    kind: Literal["chat", "completion", "embedding"]
    request: dict[str, Any]
    resolved: Resolved
    conversation_id: UUID | None = None
    client_address: str = ""
    needs: frozenset[Need] = frozenset()  # Beside the route.
    passages: tuple[dict[str, Any], ...] = ()  # See audit.record.begin, as for attachments.
    attachments: tuple[dict[str, Any], ...] = ()
    is_shadow: bool = False  # A copy that nobody waits for; see `shadow`.
    request_id: UUID = field(default_factory=uuid7)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def claim(self) -> Claim:
        """What must go on holding while it runs."""
        return Claim(self.actor, self.permission, self.needs | {self.resolved.need})

    @property
    def key(self) -> stream.StreamKey:
        return self.actor.tenant_id, self.request_id

    @property
    def priority(self) -> int:
        """Of the tenant's requests a lower one goes first: people before programs, which may only stand further back."""
        if self.is_shadow:
            return shadow.LAST
        return 0 if self.channel == "chat" else max(self.request.get("priority", 1), 1)


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens; None: not known, because the answer was cut off before the model counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a generation ended. `error_code` is "" when nothing went wrong; see errors.explain.

    `finish_reasons` is by choice, and empty unless the model said how it ended; `error_param` names the field at fault.
    """

    status: Status
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: Counts = Counts()
    timings: Timings = Timings()  # noqa: RUF009 - frozen
    error_code: str = ""
    error_message: str = ""
    error_param: str | None = None
    http_status: int = 500
    retry_after: int | None = None

    @property
    def finish_reason(self) -> str:
        """In one word; where choices ended differently, each word once."""
        return ", ".join(sorted(set(self.finish_reasons.values())))

    @property
    def tokens_per_s(self) -> float | None:
        timings = self.timings
        return speed(self.usage.completion_tokens, ttft_ms=timings.ttft_ms, total_ms=timings.total_ms)


class Sink(Protocol):
    """Where what is recorded goes. Raising StreamUnavailable ends the generation as failed."""

    async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None: ...

    async def end(self, *, seq: int, ending: Ending) -> None: ...


OnEnd = Callable[[list[output.Part], Ending], Awaitable[None]]

_INPUTS = {
    "chat": "messages",
    "completion": "prompt",
    "embedding": "input",
}  # By kind: what a person or program wrote.


async def begin(order: Order, sink: Sink) -> Generation:
    """Reserve the quota, record the intent and return the generation, not yet started: `start` or `abandon` it.

    Raises OverQuota, QuotaNotCounted, NotRecorded, StreamUnavailable or ShuttingDown; nothing has been asked of the
    model then, and nothing is held. That a limit refused is recorded, and what was asked is not: nobody read it.
    """
    if running.of_this_loop().closed:
        raise ShuttingDown
    try:
        reservation = await quota.reserve(order)
    except OverQuota as refused:
        await in_database(_note_refusal, order, refused)
        raise
    try:
        handle = await intent(order)
    except BaseException:
        await reservations.release(reservation)
        raise
    return Generation(order=order, handle=handle, reservation=reservation, sink=sink)


def _note_refusal(order: Order, refused: OverQuota) -> None:
    """It is refused either way: where this cannot be recorded, nothing goes unrecorded that was done."""
    limit = refused.refusal.metric
    if count := floods.due("quota", order.actor.user_id, order.actor.api_key_id, limit):
        detail = {"limit": limit, "route": order.resolved.route, "count": count}
        with suppress(AuditUnavailable):
            record.record_event(
                actor=order.actor,
                kind=REFUSED,
                channel=order.channel,
                detail=detail,
                client_address=order.client_address,
                status=AuditStatus.REFUSED,
                error_code=refused.code,
            )


def _note_rerouting(order: Order, following: Resolved, error_code: str) -> None:
    """That another is asked, because the one before failed while nothing had come of it. Raises AuditUnavailable."""
    ways = {"from": order.resolved, "to": following}
    record.record_event(
        actor=order.actor,
        kind=REROUTED,
        channel=order.channel,
        subject_id=order.request_id,
        detail={way: {"deployment": each.deployment, "version": each.version} for way, each in ways.items()},
        client_address=order.client_address,
        status=AuditStatus.FAILED,
        error_code=error_code,
    )


async def intent(order: Order) -> record.Handle:
    """Record what is to be asked. Raises NotRecorded and StreamUnavailable."""
    # The heartbeat comes first, so that the reaper never meets a fresh intent without one.
    await stream.set_alive([order.key])
    asked = _INPUTS[order.kind]
    try:
        return await in_database(
            record.begin,
            actor=order.actor,
            channel=order.channel,
            kind=record.EMBEDDING if order.kind == "embedding" else record.GENERATION,
            input=order.request[asked],
            model=order.resolved.model,
            model_version=order.resolved.version,
            route=order.resolved.route,
            route_reason=order.resolved.reason,
            adapter=order.resolved.adapter,
            deployment=order.resolved.deployment,
            passages=order.passages,
            attachments=order.attachments,
            parameters={k: v for k, v in order.request.items() if k != asked},
            conversation_id=order.conversation_id,
            client_address=order.client_address,
            request_id=order.request_id,
        )
    except AuditUnavailable as error:
        raise NotRecorded from error


class Generation:
    """A running generation. `stop` may be called from anywhere in its event loop; the first reason wins."""

    def __init__(self, *, order: Order, handle: record.Handle, reservation: Reservation, sink: Sink) -> None:
        self.order = order
        self.reservation = reservation
        self.parts: list[output.Part] = []  # Everything recorded and delivered so far.
        self.vectors: list[dict[str, Any]] = []  # Of an embedding, once it has ended well.
        self._handle = handle
        self._sink = sink
        self._on_end: OnEnd | None = None
        self._pending: list[Delta] = []
        self._wake = asyncio.Event()
        self._ending: Ending | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._seq = 0
        self._asked = 0.0
        self._first_delivery: float | None = None
        self._arrivals: list[float] = []

    def start(self, on_end: OnEnd | None = None) -> None:
        """Run as a task of its own. `on_end(parts, ending)` runs before the sink hears of the end."""
        self._on_end = on_end
        self._task = asyncio.create_task(self._run(), name=f"generation {self.order.request_id}")
        running.of_this_loop().add(self)

    async def abandon(self, error_code: str) -> None:
        """Close the record of a generation that was begun but must not start."""
        self._end(Ending("refused", error_code=error_code))
        await self._close_record()
        await reservations.release(self.reservation)
        await self._clear_alive()

    def stop(self, status: Status, error_code: str = "") -> None:
        """End now, giving the model's slot back; what is not yet recorded is dropped."""
        self._end(Ending(status, error_code=error_code))
        if self._receiver is not None:
            self._receiver.cancel()

    async def wait(self) -> None:
        """Until the record is closed and the sink has heard of the end."""
        if self._task is not None:
            await asyncio.shield(self._task)

    # --- Receiving ---------------------------------------------------------------------------

    async def _receive(self) -> None:
        self._asked = time.monotonic()
        try:
            while True:
                try:
                    return await self._ask(self.order.resolved)
                except inference.InferenceError as error:
                    if not await self._reroute(error):
                        return self._end(_ending_of(error))
        except AuditUnavailable:
            self._fail("audit_lost")
            self._wake.set()
        except Exception:
            logger.exception("generation %s failed while receiving", self.order.request_id)
            self._end(Ending("failed", error_code="internal_error"))

    async def _ask(self, resolved: Resolved) -> None:
        client, order = resolved.client, self.order
        ask = {
            "chat": client.stream_chat,
            "completion": client.stream_completion,
            "embedding": client.stream_embeddings,
        }[order.kind]
        # As a header only: servers that are not Custos's refuse a body that states a priority.
        body = {k: v for k, v in order.request.items() if k != "priority"}
        body["model"] = resolved.served_id
        answer = ask(
            body,
            request_id=str(order.request_id),
            tenant=str(order.actor.tenant_id),
            priority=order.priority,
        )
        async with aclosing(answer) as items:
            async for item in items:
                self._take(item)

    async def _reroute(self, error: inference.InferenceError) -> bool:
        """Whether the next of those in turn is to be asked, which is recorded first. Never once something has come.

        What is refused for what it says would be refused there, too, unless a candidate is alone in refusing it.
        Raises AuditUnavailable.
        """
        failed = self.order.resolved
        is_theirs = isinstance(error, inference.InferenceRejected) and failed.arm != "candidate"
        if not failed.others or is_theirs or self._arrivals or self.vectors or self._ending is not None:
            return False
        following = replace(failed.others[0], others=failed.others[1:])
        await in_database(_note_rerouting, self.order, following, error.code)
        await _note_how_it_went(self.order, _ending_of(error))
        self.order = replace(self.order, resolved=following)
        return True

    def _take(self, item: inference.Event) -> None:
        match item:
            case Delta():
                self._arrivals.append(time.monotonic())
                self._pending.append(item)
                self._wake.set()
            case inference.Vectors():
                self.vectors = item.data
            case inference.Finished():
                usage = item.usage
                counts = Counts(
                    usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens
                )
                self._end(Ending("completed", finish_reasons=item.finish_reasons, usage=counts))

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._wake.set()

    # --- Recording, then delivering ----------------------------------------------------------

    async def _run(self) -> None:
        limit = settings.GENERATION_TIME_LIMIT_S
        deadline = asyncio.get_running_loop().call_later(limit, self.stop, "timed_out", "time_limit")
        metrics.active.inc()
        self._receiver = asyncio.create_task(self._receive())
        try:
            await self._deliver_all()
        except Exception:
            logger.exception("generation %s failed", self.order.request_id)
            self._end(Ending("failed", error_code="internal_error"))
        finally:
            deadline.cancel()
            try:
                await self._close()
            finally:
                # Whatever went wrong: with a heartbeat that is renewed for ever, nobody could close the record.
                running.of_this_loop().discard(self)
                metrics.active.dec()

    async def _deliver_all(self) -> None:
        while self._ending is None or (self._pending and self._ending.status in _FLUSHED):
            await self._wake.wait()
            self._wake.clear()
            while self._pending and (self._ending is None or self._ending.status in _FLUSHED):
                deltas, self._pending = self._pending, []
                if not await self._deliver(deltas):
                    return

    async def _deliver(self, deltas: list[Delta]) -> bool:
        """Record one batch, then hand it over. False when the generation must end here."""
        seq = self._seq + 1
        try:
            sealed = await record.aappend(self._handle, seq=seq, text=output.encode(deltas))
        except AuditUnavailable:
            logger.error("generation %s: the record could not be written, stopping", self.order.request_id)
            self._fail("audit_lost")
            return False
        self._seq = seq
        self.parts += output.joined(deltas)
        try:
            await self._sink.batch(seq=seq, deltas=deltas, sealed=sealed)
        except StreamUnavailable:
            self._fail("stream_unavailable")
            return False
        if self._first_delivery is None:
            self._first_delivery = time.monotonic()
        return True

    def _fail(self, error_code: str) -> None:
        """A failure of ours overrules whatever the model said about its end."""
        self._ending = Ending("failed", error_code=error_code)

    # --- Closing -----------------------------------------------------------------------------

    async def _close(self) -> None:
        """Give the model's slot back, close the record, then tell the owner and the sink."""
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)
        ending = await self._close_record()
        # Before anybody hears of the end: who asks again at once finds what was not used.
        await quota.settle(self.reservation, self.order, ending.usage)
        try:
            if self._on_end is not None:
                await self._on_end(self.parts, ending)
        except Exception:
            # The answer is in the record, from which its owner rebuilds it later.
            logger.exception("generation %s: its answer could not be saved", self.order.request_id)
        try:
            await self._sink.end(seq=self._seq + 1, ending=ending)
        except StreamUnavailable:
            logger.warning("generation %s: its end could not be published", self.order.request_id)
        await self._clear_alive()
        self._count(ending)
        await _note_how_it_went(self.order, ending)
        copied = self.order.resolved.shadow
        if copied is not None and ending.status == "completed":
            shadow.start(self.order, copied, copied.reason)

    async def _close_record(self) -> Ending:
        assert self._ending is not None
        ending = replace(self._ending, timings=self._timings())
        if ending.usage.completion_tokens is None:
            # Cut off before the model's own count: pieces of text are nearly tokens.
            ending = replace(ending, usage=Counts(completion_tokens=len(self._arrivals)))
        self._ending = ending
        for pause in _CLOSE_ATTEMPTS_S:
            await asyncio.sleep(pause)
            try:
                await record.acomplete(
                    self._handle,
                    status=ending.status,
                    finish_reason=ending.finish_reason,
                    usage=ending.usage,
                    timings=ending.timings,
                    error_code=ending.error_code,
                )
                return ending
            except AuditUnavailable:
                continue
        # The reaper will close it from what was recorded.
        logger.error("generation %s: its record could not be closed", self.order.request_id)
        return ending if ending.error_code else replace(ending, error_code="audit_not_closed")

    async def _clear_alive(self) -> None:
        try:
            await stream.clear_alive(self.order.key)
        except StreamUnavailable:
            logger.info("generation %s: its heartbeat runs out by itself", self.order.request_id)

    def _timings(self) -> Timings:
        """Milliseconds since the request arrived."""
        arrived = self.order.arrived
        gaps = [b - a for a, b in zip(self._arrivals, self._arrivals[1:], strict=False)]
        return Timings(
            queue_ms=_ms((self._asked or time.monotonic()) - arrived),
            ttft_ms=None if self._first_delivery is None else _ms(self._first_delivery - arrived),
            total_ms=_ms(time.monotonic() - arrived),
            itl_p50_ms=round(statistics.median(gaps) * 1000, 2) if gaps else None,
        )

    def _count(self, ending: Ending) -> None:
        if self.order.is_shadow:
            metrics.shadows.labels(ending.status).inc()
            return
        channel, model = self.order.channel, self.order.resolved.model
        timings = ending.timings
        metrics.generations.labels(channel, ending.status, model).inc()
        metrics.duration.labels(channel, model).observe((timings.total_ms or 0) / 1000)
        if timings.ttft_ms is not None:
            metrics.time_to_first_token.labels(channel, model).observe(timings.ttft_ms / 1000)
        if timings.itl_p50_ms is not None:
            metrics.inter_token.labels(channel, model).observe(timings.itl_p50_ms / 1000)
        metrics.tokens.labels("prompt", model).inc(ending.usage.prompt_tokens or 0)
        metrics.tokens.labels("completion", model).inc(ending.usage.completion_tokens or 0)


async def _note_how_it_went(order: Order, ending: Ending) -> None:
    """For the rollout that the deployment is part of, and for whether it is asked again soon."""
    await observations.note_ending(order, ending)
    deployment, failed = order.resolved.deployment_id, ending.error_code in _DEPLOYMENT_FAILED
    if deployment is not None and (failed or ending.status == "completed"):
        await circuits.note(deployment, failed=failed)


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def _ending_of(error: inference.InferenceError) -> Ending:
    """What an error of the inference client means for the record and for the person."""
    match error:
        case inference.InferenceBusy():
            return Ending("refused", error_code=error.code, http_status=429, retry_after=error.retry_after)
        case inference.InferenceRejected():
            return Ending(
                "refused",
                error_code=error.code,
                error_message=error.error.message,
                error_param=error.error.param,
                http_status=error.error.status,
            )
        case inference.InferenceInterrupted():
            return Ending("interrupted", error_code="inference_interrupted", http_status=502)
        case _:
            return Ending("failed", error_code=error.code, http_status=503)
