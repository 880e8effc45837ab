"""The scheduler: who runs when, what a tenant can do to another, and that nothing is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from statistics import median
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inference.engine.blocks import BlockManager
from inference.engine.errors import ContextLengthExceeded, QueueFull
from inference.engine.request import Request, SamplingParameters
from inference.engine.scheduler import Scheduler, Step, Work


class FakeSequence:
    """What the scheduler sees of a sequence."""

    def __init__(
        self,
        prompt: list[int],
        max_tokens: int = 4,
        *,
        tenant: str = "",
        priority: int = 0,
        salt: str = "",
    ) -> None:
        sampling = SamplingParameters(max_tokens=max_tokens)
        self.request = Request("test", tuple(prompt), sampling, cache_salt=salt)
        self.token_ids = list(prompt)
        self.block_ids: list[int] = []
        self.draft_ids: list[int] = []
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0
        self.cancelled = False
        self.tenant = tenant
        self.priority = priority

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_answered(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def is_done(self) -> bool:
        return self.num_answered >= self.request.sampling.max_tokens


def next_token(token_ids: list[int]) -> int:
    """The one true next token, of a small vocabulary so that different sequences meet."""
    return (sum(token_ids[-3:]) * 5 + len(token_ids)) % 3


class FakeRunner:
    """Writes into each place of memory what belongs there, and checks all it reads."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._memory: dict[tuple[int, int], tuple[str, tuple[int, ...]]] = {}

    def run(self, work: Work[FakeSequence]) -> int:
        """Append the accepted tokens; returns how many of the work's tokens count as computed."""
        sequence, start = work.sequence, work.sequence.num_computed_tokens
        lacking = sequence.num_tokens - start
        drafts = sequence.draft_ids if work.num_tokens > lacking else []
        assert work.num_tokens == lacking + len(drafts) or (work.num_tokens < lacking and not drafts)
        tokens = [*sequence.token_ids, *drafts][: start + work.num_tokens]
        for position in range(start):
            assert self._memory[self._place(sequence, position)] == self._content(sequence, tokens, position)
        for position in range(start, len(tokens)):
            self._memory[self._place(sequence, position)] = self._content(sequence, tokens, position)
        if work.num_tokens < lacking:
            return work.num_tokens
        accepted = 0
        while accepted < len(drafts) and drafts[accepted] == next_token(sequence.token_ids):
            sequence.token_ids.append(drafts[accepted])
            accepted += 1
        sequence.token_ids.append(next_token(sequence.token_ids))
        return lacking + accepted

    def _place(self, sequence: FakeSequence, position: int) -> tuple[int, int]:
        return sequence.block_ids[position // self._block_size], position % self._block_size

    @staticmethod
    def _content(sequence: FakeSequence, tokens: list[int], position: int) -> tuple[str, tuple[int, ...]]:
        return sequence.request.cache_salt, tuple(tokens[: position + 1])


class Bench:
    """A scheduler with a fake runner, stepped by hand."""

    def __init__(self, num_blocks: int = 64, block_size: int = 4, **limits: Any) -> None:
        limits = {
            "max_running": 4,
            "max_waiting": 64,
            "token_budget": 32,
            "max_prefill_tokens": 16,
        } | limits
        self.blocks = BlockManager(num_blocks, block_size)
        self.scheduler: Scheduler[FakeSequence] = Scheduler(self.blocks, **limits)
        self.runner = FakeRunner(block_size)
        self.steps = 0
        self.answered_at: dict[FakeSequence, int] = {}  # The step of the first token.
        self._tokens = count(100)

    def add(self, length: int | list[int], max_tokens: int = 4, **options: Any) -> FakeSequence:
        """A prompt of so many tokens that no other prompt shares, or of these."""
        prompt = length if isinstance(length, list) else [next(self._tokens) for _ in range(length)]
        sequence = FakeSequence(prompt, max_tokens, **options)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Step[FakeSequence]:
        step = self.scheduler.schedule()
        self.steps += 1
        self.finish(step)
        return step

    def finish(self, step: Step[FakeSequence]) -> None:
        """Run the step, and remove who is done."""
        for work in step.work:
            self.scheduler.advance(work, self.runner.run(work))
            if work.sequence.num_answered:
                self.answered_at.setdefault(work.sequence, self.steps)
            if work.sequence.is_done:
                self.scheduler.remove(work.sequence, seconds=1.0)

    def run(self, most: int = 1000) -> None:
        for _ in range(most):
            if self.scheduler.is_idle:
                break
            self.step()
        assert self.scheduler.is_idle
        self.blocks.check()
        assert self.blocks.num_available == self.blocks.num_blocks


def planned(step: Step[FakeSequence]) -> list[tuple[FakeSequence, int]]:
    return [(work.sequence, work.num_tokens) for work in step.work]


# --- A step ------------------------------------------------------------------------------------------


def test_a_request_runs_from_prompt_to_last_token() -> None:
    bench = Bench()
    sequence = bench.add(6, 3)
    first = bench.step()
    assert planned(first) == [(sequence, 6)]
    assert first.admitted == [sequence]
    assert planned(bench.step()) == planned(bench.step()) == [(sequence, 1)]
    assert bench.scheduler.is_idle
    assert bench.step().work == []
    bench.run()


def test_a_long_prompt_has_the_whole_budget_until_somebody_decodes() -> None:
    bench = Bench()
    long = bench.add(100)
    assert planned(bench.step()) == [(long, 32)]
    short = bench.add(3)
    assert planned(bench.step()) == [(long, 32)]  # It came first.
    bench.scheduler.remove(long, seconds=1.0)
    bench.step()
    longer = bench.add(100)
    assert planned(bench.step()) == [(short, 1), (longer, 16)]
    assert planned(bench.step()) == [(short, 1), (longer, 16)]


def test_decodes_come_first_and_oldest_first() -> None:
    bench = Bench()
    older, newer = bench.add(5, 9), bench.add(5, 9)
    bench.step()
    prompt = bench.add(9)
    assert planned(bench.step()) == [(older, 1), (newer, 1), (prompt, 9)]


def test_a_step_keeps_to_its_budget_and_places() -> None:
    bench = Bench(max_running=3, token_budget=8)
    for _ in range(6):
        bench.add(7, 5)
    while not bench.scheduler.is_idle:
        step = bench.step()
        assert 1 <= step.num_tokens <= 8
        assert bench.scheduler.num_running <= 3


def test_after_a_step_that_failed_the_same_is_planned_within_a_lower_limit() -> None:
    bench = Bench(token_budget=512, num_blocks=512)
    sequence = bench.add(600)
    failed = bench.scheduler.schedule()
    assert planned(failed) == [(sequence, 512)]
    bench.scheduler.limit_budget(failed.num_tokens // 2)
    assert planned(bench.step()) == [(sequence, 256)]
    assert planned(bench.step()) == [(sequence, 258)]  # It rises again.
    bench.run()
    bench.scheduler.limit_budget(0)
    longer = bench.add(1200)
    assert planned(bench.step()) == [(longer, 1)]
    assert planned(bench.step()) == [(longer, 3)]


@pytest.mark.parametrize("budget", [1, 3])
def test_a_limited_budget_still_serves_the_oldest(budget: int) -> None:
    bench = Bench()
    sequences = [bench.add(3, 9) for _ in range(4)]
    bench.step()
    bench.scheduler.limit_budget(budget)
    assert planned(bench.scheduler.schedule()) == [(sequence, 1) for sequence in sequences[:budget]]


def test_drafts_are_computed_as_far_as_budget_and_answer_go() -> None:
    bench = Bench(token_budget=12, max_running=2)
    sequence, other = bench.add(5, 9), bench.add(5, 9)
    bench.step()
    sequence.draft_ids = [next_token(sequence.token_ids)] + [7] * 20
    other.draft_ids = [7] * 20
    step = bench.scheduler.schedule()  # 7 of 9 tokens are missing after the next one.
    assert planned(step) == [(sequence, 8), (other, 4)]
    bench.finish(step)
    assert (sequence.num_answered, other.num_answered) == (3, 2)
    assert sequence.num_computed_tokens == sequence.num_tokens - 1
    sequence.draft_ids, other.draft_ids = [], []
    bench.run()


def test_nobody_is_preempted_for_a_draft() -> None:
    bench = Bench(num_blocks=4)
    first, second = bench.add(4, 9), bench.add(4, 5)
    bench.step()
    first.draft_ids, second.draft_ids = [7] * 8, [7] * 3
    step = bench.scheduler.schedule()
    assert planned(step) == [(first, 1), (second, 4)]  # Eight guesses need two blocks more.
    assert (first.draft_ids, step.preempted) == ([], [])
    bench.finish(step)
    bench.run()


def test_drafts_leave_prompts_their_part() -> None:
    bench = Bench(token_budget=24, max_prefill_tokens=16)
    decoding = bench.add(4, 30)
    bench.step()
    decoding.draft_ids = [7] * 20
    prompt = bench.add(50)
    assert planned(bench.step()) == [(decoding, 8), (prompt, 16)]


def test_tokens_that_were_appended_but_not_computed_are_caught_up_with() -> None:
    bench = Bench()
    sequence = bench.add(5, 40)
    bench.step()
    sequence.token_ids += [7] * 20  # As a grammar does that leaves no choice.
    assert planned(bench.step()) == [(sequence, 21)]
    bench.run()


def test_advancing_past_the_tokens_is_refused() -> None:
    bench = Bench()
    bench.add(5)
    work = bench.scheduler.schedule().work[0]
    with pytest.raises(ValueError, match="accepted tokens"):
        bench.scheduler.advance(work, 6)


# --- Memory ------------------------------------------------------------------------------------------


def test_what_can_never_fit_is_refused() -> None:
    bench = Bench(num_blocks=4, block_size=4)
    with pytest.raises(ContextLengthExceeded, match="16 tokens"):
        bench.add(10, 8)
    bench.add(10, 7)
    bench.run()


def test_the_newest_makes_room_and_loses_nothing() -> None:
    bench = Bench(num_blocks=10)
    answers = (14, 12, 10)
    sequences = [bench.add(7, max_tokens) for max_tokens in answers]
    preempted = []
    while not bench.scheduler.is_idle:
        preempted += bench.step().preempted
    assert preempted[0] is sequences[2]
    assert sequences[0] not in preempted
    assert tuple(sequence.num_answered for sequence in sequences) == answers
    bench.run()


def test_the_less_urgent_makes_room_before_the_newest() -> None:
    bench = Bench(num_blocks=9)
    bench.add(7, 14)
    patient = bench.add(7, 8, priority=5)
    bench.step()
    urgent = bench.add(7, 8, priority=1)
    while not (step := bench.step()).preempted:
        pass
    assert step.preempted == [patient]
    assert urgent in bench.scheduler.running


def test_the_tenant_that_holds_the_most_makes_room() -> None:
    bench = Bench(num_blocks=12)
    bench.add(3, 20, tenant="hog")
    hog = bench.add(15, 20, tenant="hog")
    guest = bench.add(3, 20, tenant="guest")
    while not (step := bench.step()).preempted:
        pass
    assert step.preempted == [hog]
    assert guest in bench.scheduler.running


def test_the_preempted_stands_before_all_of_its_tenant() -> None:
    bench = Bench(num_blocks=7, max_running=2)
    bench.add(7, 14)
    preempted = bench.add(7, 10)
    bench.step()
    urgent = bench.add(2, 1, priority=-9)
    admitted = []
    while not bench.scheduler.is_idle:
        admitted += bench.step().admitted
    assert admitted == [preempted, urgent]


def test_who_needs_much_is_not_overtaken_for_ever() -> None:
    bench = Bench(num_blocks=16, max_running=4)
    big = bench.add(40, 20)
    for _ in range(150):
        while bench.scheduler.num_waiting < 8:
            bench.add(8, 8)
        bench.step()
    assert big.is_done


def test_who_needs_more_than_its_share_is_overtaken_until_it_is_the_oldest() -> None:
    bench = Bench(num_blocks=40, max_running=8, token_budget=64)
    for _ in range(8):
        bench.add(16, 40, tenant="a")
    bench.step()
    big = bench.add(120, 20, tenant="c")
    bench.step()
    for _ in range(5):
        small = bench.add(4, 1, tenant="b")
        bench.step()
        assert small.is_done
    assert big in bench.scheduler.waiting
    for number in range(200):
        while sum(sequence.tenant == "b" for sequence in bench.scheduler.waiting) < 8:
            bench.add(4, 3 + (number + bench.scheduler.num_waiting) % 5, tenant="b")
        bench.step()
    assert big.is_done


def test_nobody_takes_more_than_its_share_past_who_waits_for_memory() -> None:
    bench = Bench(num_blocks=40)
    bench.add(32, 40, tenant="a")
    bench.step()
    big, large, small = (bench.add(n, 1, tenant=t) for n, t in ((140, "c"), (72, "b"), (40, "d")))
    bench.step()  # There are 32 blocks left, and the tenants are four.
    assert bench.scheduler.waiting == [big, large]
    assert small in bench.scheduler.running or small.is_done


def test_coming_in_leaves_a_block_for_each_that_runs() -> None:
    bench = Bench(num_blocks=6)
    bench.add(5, 4)
    bench.step()
    larger = bench.add(13, 1)  # Four blocks: all that are left.
    bench.step()
    assert bench.scheduler.waiting == [larger]
    bench.scheduler.remove(larger, seconds=1.0)
    smaller = bench.add(12, 1)
    bench.step()
    assert smaller.is_done


def test_who_makes_room_may_hold_what_the_newcomer_shares() -> None:
    bench = Bench(max_running=3, weights={"a": 2.0})
    prompt = list(range(200, 209))
    bench.add(4, 40, tenant="a")
    victim, other = bench.add(prompt, 40, tenant="a"), bench.add(prompt, 40, tenant="c")
    bench.step()
    assert len({victim.block_ids[0], other.block_ids[0]}) == 2  # Both computed it, in the same step.
    newcomer = bench.add([*prompt, 5], 4, tenant="b")
    assert bench.step().preempted == [victim]
    bench.blocks.check()
    assert newcomer.block_ids[:2] == other.block_ids[:2]
    bench.run()


def test_a_prompt_is_shared_with_those_that_come_in_beside_it() -> None:
    bench = Bench(num_blocks=64, max_running=8)
    prompt = list(range(100, 120))
    group = [bench.add(prompt, 3) for _ in range(4)]
    assert [sequence for sequence, _ in planned(bench.step())] == group[:1]
    assert planned(bench.step()) == [(group[0], 1), *((other, 4) for other in group[1:])]
    assert [sequence.num_cached_tokens for sequence in group] == [0, 16, 16, 16]
    bench.run()


def test_nobody_waits_for_what_another_salt_computes() -> None:
    bench = Bench()
    prompt = list(range(100, 110))
    mine, yours = bench.add(prompt, salt="mine"), bench.add(prompt, salt="yours")
    assert planned(bench.step()) == [(mine, 10), (yours, 10)]
    bench.run()


def test_what_is_cached_is_told_once() -> None:
    bench = Bench(num_blocks=7)
    bench.add(7, 14)
    new = bench.add(7, 10)
    bench.run()
    assert bench.scheduler.num_preemptions >= 1
    assert new.num_cached_tokens == 0
    assert bench.blocks.prefix_queries == 14


# --- Tenants -----------------------------------------------------------------------------------------


def waits(flood: Callable[[Bench], None] | None) -> list[int]:
    """Steps until the first token of ten short requests of one tenant, one after another."""
    bench = Bench(num_blocks=80, max_running=8, max_waiting=80, token_budget=64, max_prefill_tokens=32)
    times = []
    for _ in range(10):
        for _ in range(7):
            if flood:
                flood(bench)
            bench.step()
        asked = bench.steps
        mine = bench.add(12, 3, tenant="b")
        while mine not in bench.answered_at:
            if flood:
                flood(bench)
            bench.step()
        times.append(bench.answered_at[mine] - asked)
    bench.blocks.check()
    return times


@pytest.mark.parametrize(("length", "max_tokens"), [(4, 60), (100, 4), (40, 40), (250, 50)])
def test_a_flood_costs_another_tenant_one_step_at_most(length: int, max_tokens: int) -> None:
    def flood(bench: Bench) -> None:
        while True:
            try:
                bench.add(length, max_tokens, tenant="a")
            except QueueFull:
                return

    alone, flooded = waits(None), waits(flood)
    assert median(flooded) <= median(alone) + 1
    assert max(flooded) <= max(alone) + 1


@pytest.mark.parametrize("max_running", [1, 12])
def test_backlogged_tenants_share_by_weight(max_running: int) -> None:
    bench = Bench(num_blocks=400, max_running=max_running, max_waiting=400, token_budget=64)
    bench.scheduler.set_weights({"heavy": 2.0})
    done = {"heavy": 0, "light": 0}
    for _ in range(200):
        for tenant in done:
            while sum(s.tenant == tenant for s in bench.scheduler.waiting) < 8:
                bench.add(6, 6, tenant=tenant)
        for work in bench.step().work:
            done[work.sequence.tenant] += work.num_tokens
    assert done["heavy"] / done["light"] == pytest.approx(2.0, rel=0.15)


def test_a_tenant_that_used_little_comes_first() -> None:
    bench = Bench(max_running=1)
    bench.add(12, 1, tenant="a")
    bench.run()
    bench.add(16, 1, tenant="a")
    second = bench.add(3, 1, tenant="b")
    assert planned(bench.step()) == [(second, 3)]


def test_a_newcomer_takes_the_place_of_the_latest_of_who_has_too_many() -> None:
    bench = Bench(max_running=4)
    flood = [bench.add(4, 40, tenant="a") for _ in range(3)]
    bench.step()
    modest = bench.add(4, 40, tenant="c")
    bench.step()
    newcomer = bench.add(4, 4, tenant="b")
    step = bench.step()
    assert (step.preempted, step.admitted) == ([flood[2]], [newcomer])
    assert bench.scheduler.running == [*flood[:2], modest, newcomer]
    second = bench.add(4, 4, tenant="b")  # Has its share now, and waits.
    bench.step()
    assert second in bench.scheduler.waiting


def test_every_tenant_has_its_share_of_a_step_and_the_rest_goes_to_who_was_served_least() -> None:
    bench = Bench(token_budget=30, num_blocks=100)
    bench.add(12, 1, tenant="a")
    bench.run()
    a, b, c = (bench.add(length, 1, tenant=name) for length, name in ((60, "a"), (4, "b"), (60, "c")))
    assert planned(bench.step()) == [(b, 4), (c, 16), (a, 10)]
    bench.run()


def test_what_a_tenant_used_long_ago_counts_no_more() -> None:
    bench = Bench(max_running=2, token_budget=16, max_waiting=200)
    for tenant, requests in (("a", 10), ("c", 150), ("b", 1)):
        for _ in range(requests):
            bench.add(16, 1, tenant=tenant)
            bench.run()
    newer, older = bench.add(30, 1, tenant="b"), bench.add(30, 1, tenant="a")
    assert planned(bench.step()) == [(older, 8), (newer, 8)]
    for tenant in range(300):
        bench.add(16, 1, tenant=str(tenant))
        bench.run()
    assert len(bench.scheduler._tenants) < 200  # Nor are they kept for ever.


def test_a_tenant_may_fill_most_of_the_line_but_not_all() -> None:
    bench = Bench(max_running=4, max_waiting=36)
    accepted = 0
    with pytest.raises(QueueFull):
        for _ in range(40):
            bench.add(3, tenant="a")
            accepted += 1
    assert accepted == 31
    for _ in range(6):
        bench.add(3, tenant="b")
    bench.run()


def test_the_line_is_bounded() -> None:
    bench = Bench(max_running=1, max_waiting=2)
    for _ in range(3):
        bench.add(3)
    with pytest.raises(QueueFull) as refused:
        bench.add(3, tenant="b")
    assert 1 <= refused.value.retry_after <= 60
    assert bench.scheduler.num_waiting == 3
    bench.run()


def test_the_urgent_goes_before_the_early() -> None:
    bench = Bench(max_running=1)
    bench.add(3)
    bench.step()
    late = [bench.add(3, priority=priority) for priority in (2, 1, 1, 0)]
    bench.run()
    order = sorted(late, key=lambda sequence: bench.answered_at[sequence])
    assert order == [late[3], late[1], late[2], late[0]]


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Bench().scheduler.set_weights({"a": 0.0})


@pytest.mark.parametrize(
    ("limits", "word"), [({"token_budget": 4}, "token_budget"), ({"max_prefill_tokens": 0}, "prefill")]
)
def test_limits_that_leave_prompts_nothing_are_refused(limits: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Bench(**limits)


# --- Ends --------------------------------------------------------------------------------------------


def test_a_cancelled_request_leaves_from_wherever_it_is() -> None:
    bench = Bench(max_running=2)
    decoding, prefilling, waiting = bench.add(3, 50), bench.add(60), bench.add(3)
    bench.step()
    assert bench.scheduler.waiting == [waiting]
    assert bench.scheduler.running == [decoding, prefilling]
    for sequence in (decoding, prefilling, waiting):
        sequence.cancelled = True
    assert set(bench.scheduler.remove_cancelled()) == {decoding, prefilling, waiting}
    assert bench.scheduler.is_idle
    assert bench.scheduler.remove_cancelled() == []
    bench.run()


def test_the_line_keeps_its_order_when_one_leaves_it() -> None:
    bench = Bench(max_running=1)
    line = [bench.add(3, 1, priority=priority) for priority in (0, 5, 1, 6, 7, 2, 3)]
    line[0].cancelled = True
    bench.scheduler.remove_cancelled()
    bench.run()
    order = sorted(line[1:], key=lambda sequence: bench.answered_at[sequence])
    assert [sequence.priority for sequence in order] == [1, 2, 3, 5, 6, 7]


def test_removing_twice_or_after_the_end_does_nothing() -> None:
    bench = Bench()
    sequence, other = bench.add(3, 9), bench.add(3, 9)
    step = bench.scheduler.schedule()
    bench.scheduler.remove(sequence, seconds=1.0)
    bench.scheduler.remove(sequence, seconds=1.0)
    bench.scheduler.advance(step.work[0], 3)
    assert bench.scheduler.running == [other]
    assert bench.scheduler.remove_all() == [other]
    bench.run()


def test_long_requests_make_the_refused_wait_longer() -> None:
    bench = Bench()
    assert bench.scheduler.retry_after() == 1
    for _ in range(40):
        sequence = bench.add(3, 9)
        bench.step()
        bench.scheduler.remove(sequence, seconds=40.0)
    assert 5 <= bench.scheduler.retry_after() <= 10


# --- Anything at any time ----------------------------------------------------------------------------

PROMPTS = st.lists(st.sampled_from([[1] * 5, [1] * 8, [2, 1, 2], [0, 0, 1, 2]]), min_size=1, max_size=4)


class AnythingAtAnyTime(RuleBasedStateMachine):
    """Whatever happens: every block is accounted for, memory is right, every request gets its answer."""

    @initialize(
        num_blocks=st.integers(8, 20),
        block_size=st.sampled_from([2, 3, 4]),
        max_running=st.integers(1, 5),
        budget=st.integers(6, 40),
        chunk=st.integers(1, 12),
    )
    def begin(self, num_blocks: int, block_size: int, max_running: int, budget: int, chunk: int) -> None:
        self.bench = Bench(
            num_blocks,
            block_size,
            max_running=max_running,
            max_waiting=6,
            token_budget=budget,
            max_prefill_tokens=chunk,
        )
        self.scheduler, self.blocks = self.bench.scheduler, self.bench.blocks
        self.accepted: list[FakeSequence] = []

    @rule(
        prompt=PROMPTS,
        max_tokens=st.integers(1, 14),
        tenant=st.sampled_from("abc"),
        priority=st.integers(-1, 1),
        salt=st.sampled_from(["", "", "salt"]),
    )
    def add(self, prompt: list[list[int]], **options: Any) -> None:
        try:
            self.accepted.append(self.bench.add([token for part in prompt for token in part], **options))
        except (QueueFull, ContextLengthExceeded):
            pass

    @rule(
        times=st.integers(1, 6), drafts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=5)
    )
    def step(self, times: int, drafts: list[tuple[int, int]]) -> None:
        for _ in range(times):
            self._guess(drafts)
            step = self._schedule()
            self.bench.finish(step)

    @rule()
    def step_out_of_memory(self) -> None:
        step = self._schedule()
        self.scheduler.limit_budget(step.num_tokens // 2)

    @rule(which=st.integers(0, 20), noticed=st.booleans())
    def cancel(self, which: int, noticed: bool) -> None:
        """Now, or while a step runs."""
        living = self._living()
        if not living:
            return
        sequence = living[which % len(living)]
        step = self._schedule() if noticed else None
        sequence.cancelled = True
        assert self.scheduler.remove_cancelled() == [sequence]
        self.accepted.remove(sequence)
        if step:
            step.work = [work for work in step.work if work.sequence is not sequence]
            self.bench.finish(step)

    @rule(which=st.integers(0, 20))
    def fail(self, which: int) -> None:
        if running := self.scheduler.running:
            self.scheduler.remove(running[which % len(running)], seconds=2.0)
            self.accepted.remove(running[which % len(running)])

    @rule()
    def reset(self) -> None:
        self.blocks.reset_prefix_cache()
        assert self.blocks.num_cached == 0

    @invariant()
    def all_is_accounted_for(self) -> None:
        if not hasattr(self, "bench"):
            return
        self.blocks.check()
        living = self._living()
        assert set(living) == {*self.scheduler.running, *self.scheduler.waiting}
        assert len(living) == self.scheduler.num_running + self.scheduler.num_waiting
        assert not any(s.block_ids or s.num_computed_tokens for s in self.scheduler.waiting)
        assert self.scheduler.num_running <= self.scheduler.max_running

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        work = sum(s.num_tokens + s.request.sampling.max_tokens for s in self._living())
        self.bench.run(most=10 * work + 10)
        for sequence in self.accepted:
            truth = list(sequence.request.prompt_token_ids)
            while len(truth) < len(sequence.token_ids):
                truth.append(next_token(truth))
            assert sequence.token_ids == truth
            assert sequence.num_answered == sequence.request.sampling.max_tokens

    def _living(self) -> list[FakeSequence]:
        return [sequence for sequence in self.accepted if not sequence.is_done]

    def _guess(self, drafts: list[tuple[int, int]]) -> None:
        """Give running sequences drafts, some right, then some wrong."""
        for sequence, (right, wrong) in zip(self.scheduler.running, drafts, strict=False):
            tokens = list(sequence.token_ids)
            for _ in range(right):
                tokens.append(next_token(tokens))
            sequence.draft_ids = tokens[sequence.num_tokens :] + [9] * wrong

    def _schedule(self) -> Step[FakeSequence]:
        step = self.scheduler.schedule()
        sequences = [work.sequence for work in step.work]
        assert len(set(sequences)) == len(sequences)
        assert not set(step.preempted) & set(sequences)
        assert set(step.admitted) <= set(sequences)
        assert step.num_tokens <= self.scheduler.token_budget
        assert bool(step.work) == (not self.scheduler.is_idle)
        return step


TestAnythingAtAnyTime = AnythingAtAnyTime.TestCase
TestAnythingAtAnyTime.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
