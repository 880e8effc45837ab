"""How many prompt tokens a step may take follows from how long tokens take."""

from inference.engine.pace import Pace


def paced(*, decode: float, token: float, most: int = 1000) -> Pace:
    """After many steps of `decode` seconds, each prompt token taking `token` seconds more."""
    pace = Pace(most=most)
    for _ in range(50):
        pace.observe(decode, num_tokens=4, num_decodes=4)
        pace.observe(decode + 100 * token, num_tokens=104, num_decodes=4)
    return pace


def test_a_step_with_a_prompt_takes_two_and_a_half_times_as_long_as_one_without() -> None:
    assert abs(paced(decode=0.1, token=0.001).prefill_tokens - 150) <= 1
    assert abs(paced(decode=0.1, token=0.0005).prefill_tokens - 300) <= 1


def test_there_is_a_least_and_a_most() -> None:
    assert paced(decode=0.1, token=0.1).prefill_tokens == 16
    assert paced(decode=0.1, token=0.1, most=9).prefill_tokens == 9
    assert paced(decode=0.1, token=0.000001, most=256).prefill_tokens == 256


def test_before_anything_is_known_it_is_moderate() -> None:
    assert Pace(most=1000).prefill_tokens == 32
    assert Pace(most=20).prefill_tokens == 20
    pace = Pace(most=1000)
    pace.observe(0.1, num_tokens=4, num_decodes=4)
    assert pace.prefill_tokens == 32


def test_a_prompt_alone_tells_as_much() -> None:
    pace = Pace(most=1000)
    pace.observe(0.1, num_tokens=1, num_decodes=1)
    pace.observe(0.2, num_tokens=200, num_decodes=0)
    assert abs(pace.prefill_tokens - 150) <= 1


def test_it_follows_a_change_and_is_not_thrown_by_one_slow_step() -> None:
    pace = paced(decode=0.1, token=0.001)
    pace.observe(1.0, num_tokens=104, num_decodes=4)  # As when another process had the processor.
    assert 50 < pace.prefill_tokens < 150
    for _ in range(50):
        pace.observe(0.1 + 100 * 0.002, num_tokens=104, num_decodes=4)
    assert abs(pace.prefill_tokens - 75) <= 1


def test_a_few_tokens_say_nothing_about_prompts() -> None:
    """Guesses are no prompt, and a short rest of one costs as much as reading the weights."""
    pace = paced(decode=0.1, token=0.001)
    for _ in range(50):
        pace.observe(0.5, num_tokens=12, num_decodes=4)
    assert abs(pace.prefill_tokens - 150) <= 1


def test_a_prompt_step_faster_than_any_other_does_not_make_prompts_free() -> None:
    pace = Pace(most=10_000)
    pace.observe(0.1, num_tokens=4, num_decodes=4)
    pace.observe(0.05, num_tokens=104, num_decodes=4)
    assert pace.prefill_tokens <= 10_000
    assert pace.prefill_tokens == int(1.5 * 0.1 / (0.05 / 10 / 100))


def test_what_is_forgotten_no_longer_counts() -> None:
    pace = paced(decode=0.1, token=0.001)
    pace.forget()
    assert pace.prefill_tokens == 32
