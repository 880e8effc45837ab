"""Compares what is wanted of deployments with what runs, and does the next thing about it. Each step is short.

A restart, a change and a scaling down drain first: the instance is marked, so that no new request finds it, its answers
end, then the process. A successor is ready before its predecessor is drained, where memory allows that.
"""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db.models import Max
from django.db.utils import Error as DatabaseError

from console.deployments import process
from console.deployments.watching import Watching
from console.supervisor.ports import free_port
from inference.client import InferenceClient, Software
from inference.deployments import capacity, secrets
from inference.deployments.clients import client_to
from inference.deployments.looks import Look, look_at_all
from inference.deployments.models import ENDED, Condition, Instance
from inference.registry.models import Deployment, Stage
from inference.registry.selectors import stage_of
from tenants import clock

logger = logging.getLogger(__name__)

State = Instance.State
Kind = Deployment.Kind
Wanted = Deployment.Wanted

# What was resolved a moment ago may still be on its way to an instance that is marked as draining.
DRAIN_AT_LEAST_S = 2.0
STOP_WITHIN_S = 30.0
TERMINATE_S = 10.0
HUNG_S = 60.0
SLOWEST_START_S = 1800.0
HEALTHY_S = 60.0
# A failed start is tried again after 1, 2, 4 … 30 s, and from the fifth in a row on every five minutes.
LONGEST_WAIT_S = 30.0
GIVE_UP_AFTER = 5
HOPELESS_WAIT_S = 300.0
# An instance that was loaded on demand is not unloaded while whoever asked for it may still be coming.
IDLE_AT_LEAST_S = 5.0
WRITE_EVERY = timedelta(seconds=3)
KEPT_ENDED = 10


class Process(Protocol):
    pid: int

    def status(self) -> int | None: ...

    def signal(self, number: signal.Signals) -> None: ...

    def tail(self) -> str: ...


Start = Callable[..., Process]
LookAtAll = Callable[[Mapping[UUID, InferenceClient]], dict[UUID, Look]]


@dataclass(eq=False)
class Running:
    """An instance whose process is ours. Moments are of a clock that nobody sets."""

    row: Instance
    process: Process
    began: float
    ready_since: float | None = None
    away_since: float | None = None
    last_busy: float = 0.0
    draining_since: float | None = None
    drain_limit_s: float = 0.0
    is_idle: bool = False  # As of a look that was made after it was marked.
    stopping_since: float | None = None

    @property
    def is_leaving(self) -> bool:
        return self.draining_since is not None


@dataclass
class Attempts:
    """How often in a row instances of a deployment have failed, and when the next is due."""

    failures: int = 0
    due: float = 0.0
    changed: Any = field(default=None)  # When the deployment was last changed: then all is tried anew.


class Reconciler:
    """`start`, `look` and `now` are replaced in tests."""

    def __init__(
        self,
        *,
        start: Start = process.start,
        look: LookAtAll = look_at_all,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start_process, self._look_at_all, self._now = start, look, now
        self._running: list[Running] = []
        self._attempts: dict[UUID, Attempts] = {}
        self._deployments: dict[UUID, Deployment] = {}
        self._conditions: dict[UUID, Condition] = {}
        self.watching = Watching()

    # --- Life ------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """What another process started ended with it: those rows are of the past."""
        mine = [each.row.pk for each in self._running]
        left = Instance.objects.exclude(state__in=ENDED).exclude(pk__in=mine)
        left.filter(deployment__kind=Kind.MANAGED).update(
            state=State.STOPPED, ended=clock.now(), failure="left", pid=None
        )

    def end_all(self, seconds: float = TERMINATE_S) -> None:
        """End every child, and wait for that. Rows are written by whoever takes over."""
        for each in self._running:
            each.process.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(each.process.status() is None for each in self._running) and time.monotonic() < deadline:
            time.sleep(0.05)
        for each in self._running:
            each.process.signal(signal.SIGKILL)
        self._running.clear()

    def step(self) -> None:
        # The oldest first: what there was before has the room.
        rows = Deployment.objects.select_related("version__model").order_by("pk")
        self._deployments = {row.pk: row for row in rows}
        self._conditions = {row.pk: row for row in Condition.objects.all()}
        self._reap()
        self._look()
        for deployment in self._deployments.values():
            if deployment.kind == Kind.MANAGED:
                self._settle_alone(deployment)
        self._drain()
        self._watch_others()

    # --- Looking ---------------------------------------------------------------------------------

    def _reap(self) -> None:
        for each in list(self._running):
            status = each.process.status()
            if status is None:
                continue
            each.process.signal(signal.SIGKILL)  # What it started must not stand in its successor's way.
            if each.is_leaving:
                self._end(each, State.STOPPED)
            else:
                self._fail(each, "ended", process.describe(status))

    def _look(self) -> None:
        asked = {each.row.pk: _client(each.row) for each in self._running}
        looks = self._look_at_all(asked)
        for each in list(self._running):
            self._note(each, looks[each.row.pk])

    def _note(self, each: Running, look: Look) -> None:
        now, row = self._now(), each.row
        if look.state == "away":
            each.away_since = each.away_since or now
            if each.ready_since is None:
                if now - each.began > SLOWEST_START_S:
                    self._fail(each, "slow", str(int(SLOWEST_START_S // 60)))
            elif now - each.away_since > HUNG_S and not each.is_leaving:
                self._fail(each, "hung", str(int(HUNG_S)))
            elif row.state == State.READY:
                _write(row, State.AWAY)
            return
        each.away_since = None
        if look.state == "failed" and not each.is_leaving:
            self._fail(each, "load" if each.ready_since is None else "engine", look.detail)
            return
        is_busy = bool(look.running or look.waiting or look.open)
        if is_busy:
            each.last_busy = now
        each.is_idle = each.is_leaving and not is_busy
        state = row.state
        if look.state == "ready":
            if each.ready_since is None:
                each.ready_since = each.last_busy = now
                logger.info("%s #%s is ready", self._name(row), row.number)
            if now - each.ready_since > HEALTHY_S:
                self._attempts_of(row.deployment_id).failures = 0
            if state in (State.STARTING, State.LOADING, State.AWAY):
                state = State.READY
        elif look.state == "loading" and state == State.STARTING:
            state = State.LOADING
        _write(row, State(state), look)

    def _watch_others(self) -> None:
        """Rows of what others run: the built-in service and upstreams."""
        others = {each.pk: each for each in self._deployments.values() if each.kind != Kind.MANAGED}
        rows: dict[UUID, Instance] = {}
        for row in Instance.objects.filter(deployment__in=others).exclude(state__in=ENDED):
            if others[row.deployment_id].wanted == Wanted.RUNNING:
                rows[row.deployment_id] = row
            else:
                row.state, row.ended = State.STOPPED, clock.now()
                row.save(update_fields=["state", "ended"])
        wanted = {pk: each for pk, each in others.items() if each.wanted == Wanted.RUNNING}
        self.watching.wanted = {pk: self._client_of_other(each) for pk, each in wanted.items()}
        seen = self.watching.seen
        for pk, deployment in wanted.items():
            look = seen.get(pk)
            if look is None:
                continue
            row = rows.get(pk) or self._new_row(deployment, address=deployment.base_url)
            self._note_other(deployment, row, look)

    def _client_of_other(self, deployment: Deployment) -> InferenceClient:
        if deployment.kind == Kind.EMBEDDED:
            return client_to(deployment, None)
        key = ""
        try:
            key = secrets.opened(deployment.sealed_key, deployment.pk)
            self._trouble(deployment, "")
        except secrets.KeyLost:
            self._trouble(deployment, "key")
        # What it is, is found out by looking.
        return InferenceClient(deployment.base_url, key, Software.OTHER)

    def _note_other(self, deployment: Deployment, row: Instance, look: Look) -> None:
        # Of what fails elsewhere the row stays: it is not ours to end.
        state = {"ready": State.READY, "loading": State.LOADING}.get(look.state, State.AWAY)
        detail = look.detail[:500] if state == State.AWAY else ""
        if row.failure_detail != detail:
            row.failure_detail = detail
            row.save(update_fields=["failure_detail"])
        if deployment.kind == Kind.UPSTREAM and state == State.READY:
            software = str(look.software)
            if row.software != software:
                row.software = software
                row.save(update_fields=["software"])
            look = replace(look, capacity=deployment.max_running)
        _write(row, state, look)

    # --- Deciding --------------------------------------------------------------------------------

    def _settle_alone(self, deployment: Deployment) -> None:
        """What is wrong with one is not to hold up the others."""
        try:
            self._settle(deployment)
        except DatabaseError:
            raise
        except Exception:
            logger.exception("%s is looked after again in the next turn", deployment.name)

    def _settle(self, deployment: Deployment) -> None:
        mine = [each for each in self._running if each.row.deployment_id == deployment.pk]
        staying = [each for each in mine if not each.is_leaving]
        current = [each for each in staying if each.row.edition == deployment.edition]
        former = [each for each in staying if each.row.edition != deployment.edition]
        count = self._wanted_count(deployment)
        if len(current) < count:
            self._add(deployment, mine, former)
        # Those that are not ready yet go first, then the younger ones.
        current.sort(key=lambda each: (each.row.state == State.READY, -each.row.number))
        for each in current[: max(0, len(current) - count)]:
            self._leave(each, deployment)
        ready = sum(each.row.state == State.READY for each in current)
        former.sort(key=lambda each: (each.row.state == State.READY, each.row.number))
        for each in former[: max(0, len(former) - max(0, count - ready))]:
            self._leave(each, deployment)
        for each in mine:
            if each.is_leaving:
                each.drain_limit_s = min(each.drain_limit_s, _limit(deployment))

    def _wanted_count(self, deployment: Deployment) -> int:
        if deployment.wanted != Wanted.RUNNING or not deployment.enabled:
            return 0
        if stage_of(deployment.version) not in (Stage.STAGED, Stage.PRODUCTION):
            self._trouble(deployment, "stage")
            return 0
        if deployment.keep_warm:
            return deployment.replicas
        condition = self._conditions.get(deployment.pk)
        return deployment.replicas if condition is not None and condition.asked is not None else 0

    def _add(self, deployment: Deployment, mine: list[Running], former: list[Running]) -> None:
        """One more instance, if its time has come and there is room; else what makes room, or why there is none."""
        attempts = self._attempts_of(deployment.pk)
        if attempts.changed != deployment.changed:
            attempts.changed, attempts.failures, attempts.due = deployment.changed, 0, 0.0
        for each in mine:
            can_stay = each.row.edition == deployment.edition and each.stopping_since is None
            if each.is_leaving and can_stay and each.ready_since is not None:
                each.draining_since = None  # It was wanted again before it had gone.
                _write(each.row, State.READY)
                return
        if self._now() < attempts.due:
            return
        needed, budget = capacity.needed_mb(deployment), capacity.budget_mb()
        free = budget - sum(each.row.memory_mb for each in self._running)
        if needed > free:
            if any(each.is_leaving for each in self._running):
                return  # Room is being made.
            if former:
                self._leave(former[0], deployment)
            elif not self._unload_another(deployment):
                self._trouble(deployment, "memory", f"{needed}/{max(free, 0)}/{budget}")
            return
        self._start(deployment, needed)

    def _start(self, deployment: Deployment, memory_mb: int) -> None:
        port = free_port()
        row = self._new_row(deployment, address=f"http://127.0.0.1:{port}", memory_mb=memory_mb)
        try:
            started = self._start_process(deployment, row.pk, number=row.number, port=port)
        except Exception as error:  # Whatever it was, it is kept as any failure is.
            row.state, row.ended = State.FAILED, clock.now()
            row.failure, row.failure_detail = "not_started", (str(error) or repr(error))[:500]
            row.save()
            self._failed_again(deployment.pk)
            return
        row.pid = started.pid
        row.save(update_fields=["pid"])
        self._running.append(Running(row, started, began=self._now()))
        if self._attempts_of(deployment.pk).failures < GIVE_UP_AFTER:
            self._trouble(deployment, "")
        logger.info("%s #%s starts", deployment.name, row.number)

    def _unload_another(self, deployment: Deployment) -> bool:
        """Let go of what is loaded on demand and idle, the least recently used. Whether there was such."""
        now = self._now()
        idle: dict[UUID, float] = {}
        for each in self._running:
            other = self._deployments.get(each.row.deployment_id)
            if other is None or other.keep_warm or other.pk == deployment.pk:
                continue
            is_idle = each.ready_since is not None and now - each.last_busy > IDLE_AT_LEAST_S
            idle[other.pk] = max(idle.get(other.pk, 0.0), each.last_busy if is_idle else float("inf"))
        oldest = min(idle, key=lambda pk: idle[pk], default=None)
        if oldest is None or idle[oldest] == float("inf"):
            return False
        self._conditions[oldest], _made = Condition.objects.update_or_create(
            pk=oldest, defaults={"asked": None}
        )
        for each in self._running:
            if each.row.deployment_id == oldest and not each.is_leaving:
                self._leave(each, self._deployments[oldest])
        return True

    # --- Leaving ---------------------------------------------------------------------------------

    def _leave(self, each: Running, deployment: Deployment) -> None:
        """No new requests from now on."""
        each.draining_since, each.is_idle = self._now(), False
        each.drain_limit_s = _limit(deployment)
        _write(each.row, State.DRAINING)
        logger.info("%s #%s drains", deployment.name, each.row.number)

    def _drain(self) -> None:
        now = self._now()
        for each in self._running:
            if each.stopping_since is not None:
                if now - each.stopping_since > TERMINATE_S:
                    each.process.signal(signal.SIGKILL)
            elif each.draining_since is not None:
                waited = now - each.draining_since
                is_empty = each.ready_since is None or (each.is_idle and waited > DRAIN_AT_LEAST_S)
                if is_empty or waited > each.drain_limit_s:
                    each.stopping_since = now
                    _write(each.row, State.STOPPING)
                    each.process.signal(signal.SIGTERM)

    def _fail(self, each: Running, failure: str, detail: str) -> None:
        each.process.signal(signal.SIGKILL)
        each.row.failure, each.row.failure_detail = failure, detail.replace("\x00", "")[:500]
        deadline = time.monotonic() + 1.0
        while each.process.status() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        each.row.tail = each.process.tail()
        logger.warning("%s #%s failed: %s %s", self._name(each.row), each.row.number, failure, detail)
        self._end(each, State.FAILED)
        self._failed_again(each.row.deployment_id)

    def _end(self, each: Running, state: State) -> None:
        self._running.remove(each)
        row = each.row
        row.state, row.ended, row.pid, row.running, row.waiting = state, clock.now(), None, 0, 0
        row.save()
        ended = Instance.objects.filter(deployment_id=row.deployment_id, state__in=ENDED)
        kept = ended.order_by("-number").values_list("pk", flat=True)[:KEPT_ENDED]
        ended.exclude(pk__in=list(kept)).delete()

    def _failed_again(self, deployment_id: UUID) -> None:
        attempts = self._attempts_of(deployment_id)
        attempts.failures += 1
        wait = min(2.0 ** (attempts.failures - 1), LONGEST_WAIT_S)
        deployment = self._deployments.get(deployment_id)
        if attempts.failures >= GIVE_UP_AFTER and deployment is not None:
            wait = HOPELESS_WAIT_S
            self._trouble(deployment, "failing", str(attempts.failures))
        attempts.due = self._now() + wait

    # --- Small things ----------------------------------------------------------------------------

    def _attempts_of(self, deployment_id: UUID) -> Attempts:
        return self._attempts.setdefault(deployment_id, Attempts())

    def _name(self, row: Instance) -> str:
        found = self._deployments.get(row.deployment_id)
        return found.name if found else str(row.deployment_id)

    def _trouble(self, deployment: Deployment, code: str, detail: str = "") -> None:
        known = self._conditions.get(deployment.pk)
        if known is None and not code:
            return
        if known is not None and (known.trouble, known.trouble_detail) == (code, detail):
            return
        self._conditions[deployment.pk], _made = Condition.objects.update_or_create(
            deployment=deployment, defaults={"trouble": code, "trouble_detail": detail}
        )

    def _new_row(self, deployment: Deployment, *, address: str, memory_mb: int = 0) -> Instance:
        last = deployment.instances.aggregate(last=Max("number"))["last"] or 0
        return Instance.objects.create(
            deployment=deployment,
            number=last + 1,
            edition=deployment.edition,
            address=address,
            memory_mb=memory_mb,
            capacity=deployment.max_running,
            looked=clock.now(),
        )


def _limit(deployment: Deployment) -> float:
    """How long running answers may still take: as long as any answer may, but for a stop."""
    return STOP_WITHIN_S if deployment.wanted == Wanted.STOPPED else settings.GENERATION_TIME_LIMIT_S + 10.0


def _client(row: Instance) -> InferenceClient:
    return InferenceClient(row.address, secrets.token_of(row.pk))


def _write(row: Instance, state: State, look: Look | None = None) -> None:
    """Into the database when it says something new, or nothing for some seconds."""
    now = clock.now()
    before = (row.state, row.running, row.waiting, row.capacity)
    row.state = state
    if look is not None:
        row.running, row.waiting, row.capacity = look.running, look.waiting, look.capacity or row.capacity
        if (row.state, row.running, row.waiting, row.capacity) == before and (
            row.looked is not None and now - row.looked < WRITE_EVERY
        ):
            return
        row.looked = now
    row.save(update_fields=["state", "running", "waiting", "capacity", "looked"])
