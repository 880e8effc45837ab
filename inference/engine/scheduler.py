"""Decides what each step computes: who decodes, whose prompt goes on, who comes in, who must make room.

There are no phases: every sequence's `num_computed_tokens` chases its `num_tokens`, and a step spends one
budget of tokens on closing those gaps. Each call of `schedule`:

1. Running sequences that lack one token decode, in the order they came in; then their draft tokens are
   added, as far as the budget goes. If blocks run out, a sequence of the tenant that holds the most memory
   is preempted: its least urgent, and of those the one that arrived last. It loses its blocks, keeps its
   tokens, goes to the front of its tenant's line and is computed again later. Of the running, the one that
   arrived first is never preempted, so that every request is done some day.
2. What is left, at most `max_prefill_tokens` if anybody decodes, goes to prompts: first each tenant gets its
   share, of tokens and of places among the running; then what nobody claimed goes to whoever is first.
   A tenant below its share of places or memory takes them from a tenant above, by preemption. A request
   that needs more memory than that waits for it; others may overtake it within their share of memory, but
   nobody does once it is the oldest of all.

Tenants stand in order of the tokens lately computed for them, divided by their weight; a tenant's own
requests in order of priority, then arrival. All blocks of a prompt are reserved when it comes in.

The waiting line is bounded. A tenant may wait in it with at most three times as many requests as there is
room left, so that a lone tenant can fill three quarters of it but never all: others still find room.

Imports no torch.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from inference.engine.blocks import BlockManager, Holder
from inference.engine.errors import ContextLengthExceeded, QueueFull

_GREED = 3  # A tenant's requests in line per free room left in it; see above.
_MEMORY = 32  # A tenant's past use counts half after this many full steps.
_RECOVERY = 256  # Steps until a budget that was limited is back, at most.


class Schedulable(Holder, Protocol):
    """What the scheduler needs of a sequence. Lower `priority` runs first."""

    draft_ids: list[int]
    num_cached_tokens: int
    cancelled: bool

    @property
    def num_tokens(self) -> int: ...
    @property
    def tenant(self) -> str: ...
    @property
    def priority(self) -> int: ...


S = TypeVar("S", bound=Schedulable)


@dataclass(slots=True)
class Work(Generic[S]):
    """Compute `num_tokens` tokens of `sequence` from `num_computed_tokens` on.

    When that is more than the tokens it lacks, the rest are its `draft_ids`, already cut to fit. Blocks for
    all of them are in its `block_ids`.
    """

    sequence: S
    num_tokens: int


@dataclass(slots=True)
class Step(Generic[S]):
    """What to compute now, decodes first; who came in, perhaps again; who was sent back to the line.

    A sequence that was sent back comes in again in a later step at the earliest.
    """

    work: list[Work[S]]
    admitted: list[S]
    preempted: list[S]

    @property
    def num_tokens(self) -> int:
        return sum(work.num_tokens for work in self.work)


@dataclass(slots=True, eq=False)
class _Tenant(Generic[S]):
    name: str
    line: list[tuple[int, int, int, _Entry[S]]] = field(default_factory=list)  # A heap.
    num_running: int = 0
    used: float = 0.0  # Tokens lately computed, by weight.


@dataclass(slots=True, eq=False)
class _Entry(Generic[S]):
    """A live sequence's place."""

    sequence: S
    tenant: _Tenant[S]
    arrival: int
    was_preempted: bool = False

    @property
    def rank(self) -> tuple[int, int, int, _Entry[S]]:
        """Its place in its tenant's line; arrivals differ, so entries are never compared."""
        return (not self.was_preempted, self.sequence.priority, self.arrival, self)


class _Plan(Generic[S]):
    """A step in the making."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.work: dict[S, Work[S]] = {}
        self.admitted: list[S] = []
        self.preempted: list[S] = []
        self.prompts: dict[_Tenant[S], list[_Entry[S]]] = {}  # Begun, in order; some perhaps preempted since.
        self.blocked = False  # Somebody waits for blocks: others come in within their share of them.
        self.closed = False  # The oldest of all does: nobody may.

    def give(self, sequence: S, num_tokens: int) -> None:
        work = self.work.get(sequence)
        if work is None:
            self.work[sequence] = Work(sequence, num_tokens)
        else:
            work.num_tokens += num_tokens
        self.left -= num_tokens


class Scheduler(Generic[S]):
    """Not thread-safe: the engine guards it with its lock. Only `cancelled` may be set by any thread.

    The engine's loop: `remove_cancelled`, `schedule`, run the step, append the accepted tokens to each
    sequence, `advance` each work, `remove` what ended. A step that failed is simply not advanced: the next
    `schedule` plans the same tokens again. Sequences are told apart by identity.
    """

    def __init__(
        self,
        blocks: BlockManager,
        *,
        max_running: int,
        max_waiting: int,
        token_budget: int,
        max_prefill_tokens: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if token_budget <= max_running:
            raise ValueError("token_budget must exceed max_running, or prompts never get a turn.")
        if max_prefill_tokens < 1:
            raise ValueError("max_prefill_tokens must be at least 1.")
        self.blocks = blocks
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.token_budget = token_budget
        self.max_prefill_tokens = max_prefill_tokens
        self.num_preemptions = 0
        self._budget = float(token_budget)
        self._entries: dict[S, _Entry[S]] = {}
        self._running: dict[S, _Entry[S]] = {}  # In order of admission.
        self._tenants: dict[str, _Tenant[S]] = {}
        self._arrivals = 0
        self._seconds_per_request = 1.0  # Moving average, for Retry-After.
        self.set_weights(weights or {})

    # --- In and out ---------------------------------------------------------------------------------

    def add(self, sequence: S) -> None:
        """Put `sequence` in line. Raises QueueFull, or ContextLengthExceeded if it could never fit."""
        prompt, answer = len(sequence.request.prompt_token_ids), sequence.request.sampling.max_tokens
        room = self.blocks.num_blocks * self.blocks.block_size
        if prompt + answer - 1 > room:  # The last token's keys and values are never needed.
            raise ContextLengthExceeded(
                f"The key/value memory holds {room} tokens, but the prompt has {prompt} and the answer may "
                f"have {answer}. Shorten the conversation or lower max_tokens."
            )
        tenant = self._tenants.get(sequence.tenant) or _Tenant(sequence.tenant)
        places = self.max_running + self.max_waiting - len(self._entries)
        if places <= 0 or len(tenant.line) > _GREED * places:
            raise QueueFull(self.retry_after())
        self._tenants[tenant.name] = tenant
        self._arrivals += 1
        entry = self._entries[sequence] = _Entry(sequence, tenant, self._arrivals)
        heapq.heappush(tenant.line, entry.rank)

    def retry_after(self) -> int:
        """Seconds, 1 to 60, until about one place should be free."""
        return round(min(60.0, max(1.0, self._seconds_per_request / self.max_running)))

    def advance(self, work: Work[S], num_computed: int) -> None:
        """`num_computed` tokens of `work` now have final keys and values: all but the rejected drafts.

        Call it once the accepted tokens are in `token_ids`. No matter if the sequence is gone.
        """
        sequence = work.sequence
        if sequence not in self._running:
            return
        sequence.num_computed_tokens += num_computed
        if sequence.num_computed_tokens > sequence.num_tokens:
            raise ValueError("Append the accepted tokens before advancing past them.")
        self.blocks.commit(sequence)

    def remove(self, sequence: S, *, seconds: float) -> None:
        """A request ended after `seconds` in the engine: free what it holds. No matter if it is gone."""
        if sequence in self._running:
            self._seconds_per_request += 0.1 * (seconds - self._seconds_per_request)
        self._drop([sequence])

    def remove_cancelled(self) -> list[S]:
        """Free what the cancelled hold, and return them."""
        gone = [sequence for sequence in self._entries if sequence.cancelled]
        self._drop(gone)
        return gone

    def remove_all(self) -> list[S]:
        everyone = list(self._entries)
        self._drop(everyone)
        return everyone

    def _drop(self, sequences: Collection[S]) -> None:
        shorter = set()
        for sequence in sequences:
            entry = self._entries.pop(sequence, None)
            if entry is None:
                continue
            if self._running.pop(sequence, None):
                entry.tenant.num_running -= 1
                self.blocks.release(sequence)
            else:
                shorter.add(entry.tenant)
        for tenant in shorter:
            tenant.line = [item for item in tenant.line if item[-1].sequence in self._entries]
            heapq.heapify(tenant.line)

    # --- Views and settings -------------------------------------------------------------------------

    @property
    def running(self) -> list[S]:
        """In order of admission."""
        return list(self._running)

    @property
    def waiting(self) -> list[S]:
        """In order of arrival."""
        return [sequence for sequence in self._entries if sequence not in self._running]

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._entries) - len(self._running)

    @property
    def is_idle(self) -> bool:
        return not self._entries

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Tenants' shares relative to each other; 1 for those not named."""
        if any(weight <= 0 for weight in weights.values()):
            raise ValueError("A tenant's weight must be above 0.")
        self._weights = dict(weights)

    def limit_budget(self, num_tokens: int) -> None:
        """Compute at most `num_tokens` (at least 1) a step, as after running out of memory.

        The limit rises again little by little.
        """
        self._budget = max(1.0, min(self._budget, float(num_tokens)))

    # --- A step -------------------------------------------------------------------------------------

    def schedule(self) -> Step[S]:
        """What to compute next. Empty work only if nobody is there."""
        plan: _Plan[S] = _Plan(int(self._budget))
        self._budget = min(float(self.token_budget), self._budget + self.token_budget / _RECOVERY)
        decodes = []
        for entry in self._running.values():
            if entry.sequence.num_tokens - entry.sequence.num_computed_tokens == 1:
                decodes.append(entry)
            else:
                plan.prompts.setdefault(entry.tenant, []).append(entry)
        wanting = [tenant for tenant in self._tenants.values() if tenant.line or tenant in plan.prompts]
        expected = plan.prompts or (wanting and len(self._running) < self.max_running)
        self._decode(plan, decodes, self.max_prefill_tokens if expected else 0)
        if plan.work:
            plan.left = min(plan.left, self.max_prefill_tokens)
        self._prefill(plan, wanting)
        self._charge(plan)
        return Step(list(plan.work.values()), plan.admitted, plan.preempted)

    def _decode(self, plan: _Plan[S], decodes: list[_Entry[S]], reserved: int) -> None:
        """One token for each; then drafts, as far as budget beyond `reserved` and free blocks go."""
        spare = plan.left - len(decodes) - reserved
        for entry in decodes:
            if not plan.left:
                break
            # It may have been preempted for an older one.
            if entry.sequence in self._running and self._secure(entry, plan):
                plan.give(entry.sequence, 1)
        for entry in decodes:
            if entry.sequence.draft_ids and entry.sequence in plan.work:
                spare -= self._draft(entry.sequence, plan, spare)

    def _draft(self, sequence: S, plan: _Plan[S], most: int) -> int:
        """Cut the drafts to what fits in budget, answer and memory; returns how many are left."""
        request = sequence.request
        wanted = len(request.prompt_token_ids) + request.sampling.max_tokens - sequence.num_tokens
        del sequence.draft_ids[max(0, min(most, wanted - 1)) :]  # A step yields one token more.
        if not self.blocks.grow(sequence, sequence.num_tokens + len(sequence.draft_ids)):
            sequence.draft_ids.clear()  # Nobody is preempted for a guess.
        plan.give(sequence, len(sequence.draft_ids))
        return len(sequence.draft_ids)

    def _secure(self, entry: _Entry[S], plan: _Plan[S]) -> bool:
        """Blocks for all its tokens, if need be from others. False: it lost its own instead."""
        while not self.blocks.grow(entry.sequence, entry.sequence.num_tokens):
            victim = self._victim()
            self._preempt(victim, plan)
            if victim is entry:
                return False
        return True

    def _prefill(self, plan: _Plan[S], wanting: list[_Tenant[S]]) -> None:
        """Spend what is left on prompts: every tenant its share, then the rest to whoever is first."""
        total = sum(map(self._weight, wanting))
        budget = plan.left
        for fair in (True, False):
            for tenant in sorted(wanting, key=self._order):
                share = -int(-budget * self._weight(tenant) // total) if fair else plan.left
                self._serve(tenant, min(share, plan.left), plan, fair)

    def _serve(self, tenant: _Tenant[S], limit: int, plan: _Plan[S], fair: bool) -> None:
        """Up to `limit` tokens for the tenant's prompts: those begun, then those that can come in."""
        floor = plan.left - limit
        for entry in tuple(plan.prompts.get(tenant, ())):
            self._extend(entry, plan, floor)
        while plan.left > floor and tenant.line:
            admitted = self._admit(tenant, plan, fair)
            if admitted is None:
                break
            plan.prompts.setdefault(tenant, []).append(admitted)
            self._extend(admitted, plan, floor)

    def _extend(self, entry: _Entry[S], plan: _Plan[S], floor: int) -> None:
        """As much of the prompt as it lacks, leaving `floor` of the budget."""
        sequence = entry.sequence
        # Blocks were reserved on admission, but tokens may have been appended that nobody computed.
        if sequence not in self._running or not self._secure(entry, plan):
            return
        work = plan.work.get(sequence)
        planned = work.num_tokens if work else 0
        chunk = min(sequence.num_tokens - sequence.num_computed_tokens - planned, plan.left - floor)
        if chunk > 0:
            plan.give(sequence, chunk)

    def _admit(self, tenant: _Tenant[S], plan: _Plan[S], fair: bool) -> _Entry[S] | None:
        """Let the first of the tenant's line in; None if it cannot, or should not yet."""
        entry = tenant.line[0][-1]
        sequence = entry.sequence
        full = len(self._running) >= self.max_running
        if plan.closed or sequence in plan.preempted or (full and not fair):
            return None
        if plan.blocked and not self._is_within_memory(entry):
            return None
        if fair and tenant.num_running >= self._share(tenant, self.max_running):
            return None
        matched = self.blocks.match(sequence.token_ids, sequence.request.cache_salt)
        if self._is_coming(entry, matched, plan):
            return None
        missing = self._missing_blocks(sequence, matched)
        if full or missing > 0:
            victims = self._victims(entry, missing, matched) if fair else []
            if not victims:
                if missing > 0:
                    plan.blocked = True
                    plan.closed = sequence is next(iter(self._entries))
                return None
            for victim in victims:
                self._preempt(victim, plan)
            matched = self.blocks.match(sequence.token_ids, sequence.request.cache_salt)
        self._let_in(entry, matched, plan)
        return entry

    def _let_in(self, entry: _Entry[S], matched: list[int], plan: _Plan[S]) -> None:
        sequence = entry.sequence
        heapq.heappop(entry.tenant.line)
        self.blocks.adopt(sequence, matched, count=not entry.was_preempted)
        fits = self.blocks.grow(sequence, sequence.num_tokens)
        assert fits, "what was reckoned free was not"
        if not entry.was_preempted:
            sequence.num_cached_tokens = sequence.num_computed_tokens
        entry.tenant.num_running += 1
        self._running[sequence] = entry
        plan.admitted.append(sequence)

    def _is_coming(self, entry: _Entry[S], matched: list[int], plan: _Plan[S]) -> bool:
        """Whether the same tenant computes right now what this prompt needs next: then wait and share it."""
        return any(
            other.sequence.request.cache_salt == entry.sequence.request.cache_salt
            and self.blocks.is_coming(entry.sequence.token_ids, matched, other.sequence)
            for other in plan.prompts.get(entry.tenant, ())
        )

    def _missing_blocks(self, sequence: S, matched: list[int]) -> int:
        """How many blocks there are too few. One for each running sequence stays in reserve."""
        needed = self.blocks.blocks_for(sequence.num_tokens) - len(matched) + len(self._running)
        return needed - (self.blocks.num_available - self.blocks.num_unused(matched))

    def _charge(self, plan: _Plan[S]) -> None:
        """Note for whom this step works, and let what was before fade."""
        fading = 0.5 ** (sum(w.num_tokens for w in plan.work.values()) / (_MEMORY * self.token_budget))
        for tenant in list(self._tenants.values()):
            tenant.used *= fading
            if not tenant.line and not tenant.num_running and tenant.used < 1:
                del self._tenants[tenant.name]
        for sequence, work in plan.work.items():
            tenant = self._running[sequence].tenant
            tenant.used += work.num_tokens / self._weight(tenant)

    # --- Shares and preemption ----------------------------------------------------------------------

    def _weight(self, tenant: _Tenant[S]) -> float:
        return self._weights.get(tenant.name, 1.0)

    def _order(self, tenant: _Tenant[S]) -> tuple[float, float, int]:
        """Who is first: served least, then running least, then waiting longest."""
        arrival = tenant.line[0][2] if tenant.line else 0
        return (tenant.used, tenant.num_running / self._weight(tenant), arrival)

    def _share(self, tenant: _Tenant[S], total: int) -> int:
        """The tenant's part, at least 1, of `total` places or blocks among the tenants that are there."""
        present = (t for t in self._tenants.values() if t.line or t.num_running)
        return max(1, int(total * self._weight(tenant) / sum(map(self._weight, present))))

    def _held(self) -> dict[_Tenant[S], int]:
        """Blocks by tenant; a shared one counts for each that holds it."""
        held = dict.fromkeys(self._tenants.values(), 0)
        for entry in self._running.values():
            held[entry.tenant] += len(entry.sequence.block_ids)
        return held

    def _is_within_memory(self, entry: _Entry[S]) -> bool:
        """Whether its tenant's share of blocks has room for it."""
        held = self._held()[entry.tenant] + self.blocks.blocks_for(entry.sequence.num_tokens)
        return held <= self._share(entry.tenant, self.blocks.num_blocks)

    def _preemptable(self) -> list[_Entry[S]]:
        """All running but the one that arrived first: nobody stops it."""
        oldest = min(self._running.values(), key=lambda entry: entry.arrival)
        return [entry for entry in self._running.values() if entry is not oldest]

    def _victim(self) -> _Entry[S]:
        """Who makes room for a decode. There is one: a sequence that runs alone has room enough."""
        held = self._held()
        return max(
            self._preemptable(),
            key=lambda entry: (
                held[entry.tenant] / self._weight(entry.tenant),
                entry.sequence.priority,
                entry.arrival,
            ),
        )

    def _victims(self, entry: _Entry[S], missing: int, matched: list[int]) -> list[_Entry[S]]:
        """Who makes room for `entry`, below its share of places: those of tenants above theirs.

        Empty if that does not free a place and `missing` blocks, or takes `entry` above its share.
        """
        place = len(self._running) >= self.max_running
        held, kept = self._held(), set(matched)
        if missing > 0 and not self._is_within_memory(entry):
            return []
        running = {tenant: tenant.num_running for tenant in self._tenants.values()}
        victims = []
        latest = sorted(self._preemptable(), key=lambda e: (e.sequence.priority, e.arrival), reverse=True)
        for victim in latest:
            tenant = victim.tenant
            above_places = running[tenant] > self._share(tenant, self.max_running)
            above_blocks = held[tenant] > self._share(tenant, self.blocks.num_blocks)
            if (place and above_places) or (missing > 0 and above_blocks):
                victims.append(victim)
                place = False
                running[tenant] -= 1
                held[tenant] -= len(victim.sequence.block_ids)
                missing -= self.blocks.num_released(victim.sequence, kept)
            if not place and missing <= 0:
                return victims
        return []

    def _preempt(self, entry: _Entry[S], plan: _Plan[S]) -> None:
        sequence = entry.sequence
        self.blocks.release(sequence)
        sequence.num_computed_tokens = 0
        sequence.draft_ids.clear()
        del self._running[sequence]
        entry.tenant.num_running -= 1
        entry.was_preempted = True
        heapq.heappush(entry.tenant.line, entry.rank)
        plan.work.pop(sequence, None)
        if sequence in plan.admitted:
            plan.admitted.remove(sequence)
        plan.preempted.append(sequence)
        self.num_preemptions += 1
