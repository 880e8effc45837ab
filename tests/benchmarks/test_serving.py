"""The arithmetic behind published figures."""

import asyncio
import json
import math
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.serving import report, trace
from benchmarks.serving.exchange import Address, Answer, Reads, exchange
from benchmarks.serving.figures import percentile
from benchmarks.serving.load import open_loop, poisson_arrivals
from console.supervisor.ports import free_port

BODY = {"max_tokens": 9, "stream": True}


def _event(content: str = "", **more: object) -> bytes:
    choice = {"delta": {"content": content}, "finish_reason": more.pop("finish_reason", None)}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\r\n\r\n"


def _chunked(*bodies: bytes) -> bytes:
    chunks = b"".join(f"{len(body):x}\r\n".encode() + body + b"\r\n" for body in bodies)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


RESPONSE = _chunked(
    _event(),
    _event("Grü")[:30],
    _event("Grü")[30:] + _event("ße"),
    _event(finish_reason="length"),
    b'data: {"choices": [], "usage": {"completion_tokens": 7, "prompt_tokens": 5}}\n\ndata: [DONE]\n\n',
)


def test_percentiles_are_measured_values_by_nearest_rank() -> None:
    values = [float(n) for n in range(20, 0, -1)]

    assert [percentile(values, each) for each in (50, 95, 99)] == [10, 19, 20]
    assert percentile([3.0], 50) == 3.0
    assert math.isnan(percentile([], 99))


def test_an_answer_is_understood_however_the_network_cuts_it() -> None:
    for size in range(1, len(RESPONSE) + 1):
        pieces = [(float(at), RESPONSE[at : at + size]) for at in range(0, len(RESPONSE), size)]
        answer = Answer.of(Reads(asked=0.0, max_tokens=9, pieces=pieces, ended=1e9))

        assert (answer.text, answer.tokens, answer.prompt_tokens, answer.problem) == ("Grüße", 7, 5, "")
        assert len(answer.arrivals) == 2


def test_text_arrives_when_the_read_that_completes_its_event_does() -> None:
    response = _chunked(_event("a"), _event("bc", finish_reason="stop"))
    cut = response.index(b"bc") + 1
    pieces = [(1.0, response[:cut]), (2.5, response[cut:])]

    answer = Answer.of(Reads(asked=0.25, max_tokens=9, pieces=pieces, ended=3.0))

    assert (answer.ttft, answer.gaps) == (0.75, [1.5])


def test_without_usage_an_answer_cut_by_length_has_all_its_tokens_and_another_its_events() -> None:
    def tokens(reason: str) -> int:
        response = _chunked(_event("a"), _event("b", finish_reason=reason))
        return Answer.of(Reads(asked=0.0, max_tokens=9, pieces=[(1.0, response)])).tokens

    assert (tokens("length"), tokens("stop")) == (9, 2)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 429 Too Many Requests\r\n\r\n{}",
        _chunked(_event("a"), b'data: {"error": {"message": "out of memory"}}\n\n'),
        _chunked(_event("a")),
        b"",
    ],
    ids=["refused", "failed midway", "broken off", "nothing"],
)
def test_what_is_no_whole_answer_is_a_problem(response: bytes) -> None:
    pieces = [(1.0, response)] if response else []

    assert Answer.of(Reads(asked=0.0, max_tokens=9, pieces=pieces)).problem


async def test_an_open_loop_keeps_its_times_and_does_not_wait_for_answers() -> None:
    waiting, together = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting, together
        head = await reader.readuntil(b"\r\n\r\n")
        assert (
            json.loads(await reader.readexactly(int(head.split(b"Content-Length: ")[1].split()[0]))) == BODY
        )
        waiting += 1
        together = max(together, waiting)
        await asyncio.sleep(0.2)
        waiting -= 1
        writer.write(RESPONSE)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        address = Address(server.sockets[0].getsockname()[1])
        run = await open_loop(address, [(0.0, BODY), (0.05, BODY), (0.1, BODY)])

    assert (run.summary()["errors"], run.summary()["output_tokens"], together) == (0, 21, 3)
    assert min(later.asked - earlier.asked for earlier, later in pairwise(run.answers)) > 0.03


async def test_a_server_that_is_not_there_is_a_problem_and_no_exception() -> None:
    assert Answer.of(await exchange(Address(free_port()), BODY)).problem


def test_poisson_arrivals_are_seeded_ordered_and_of_the_asked_rate() -> None:
    arrivals = poisson_arrivals(rate=4.0, count=4000, seed=1)
    gaps = [after - before for before, after in pairwise(arrivals)]

    assert (
        arrivals
        == poisson_arrivals(rate=4.0, count=4000, seed=1)
        != poisson_arrivals(rate=4.0, count=4000, seed=2)
    )
    assert arrivals[0] == 0 and min(gaps) >= 0
    assert statistics.mean(gaps) == pytest.approx(0.25, rel=0.1)
    assert statistics.stdev(gaps) == pytest.approx(0.25, rel=0.1)


def test_the_trace_is_in_order_and_fits_a_small_model() -> None:
    arrivals = trace.scaled()

    assert len(arrivals) == 120
    assert [each.after_s for each in arrivals] == sorted(each.after_s for each in arrivals)
    assert max(each.prompt_tokens + each.output_tokens for each in arrivals) < 1500


def _session(**tokens_per_s: list[float]) -> report.Session:
    about = {"software": "Some 1.0", "precision": "bf16", "weight_bytes": 310_000_000, "start": {}}
    return {
        "machine": {
            "date": "2026-11-24 14:00 UTC",
            "cpu": "A processor",
            "cores": 2,
            "memory_gb": 24,
            "system": "Linux",
            "load_average_before": 0.1,
        },
        "bandwidth_gb_s": [30.0, 31.0],
        "servers": dict.fromkeys(tokens_per_s, about),
        "left_out": {},
        "results": [
            {
                "scenario": "decode_1",
                "server": name,
                "round": round_,
                "load_average": 1.0,
                "figures": {"tokens_per_s": figure, "errors": 0, "ttft_ms": {"p50": 20.0, "p95": None}},
            }
            for name, figures in tokens_per_s.items()
            for round_, figure in enumerate(figures)
        ],
    }


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was twice as fast in one round: ratios of medians would say 2, 2.5 or 1.25."""
    results = report.Results(_session(ours=[80.0, 40.0, 100.0], vllm=[32.0, 16.0, 25.0]))

    assert results.ratio("decode_1", "ours", "vllm") == 2.5


def test_a_goal_is_met_behind_or_not_measured() -> None:
    results = report.Results(_session(ours=[85.0], vllm=[40.0]))
    verdicts = {goal.what: goal.verdict for goal in report.bar(results)}

    assert verdicts["memory limit, 1 stream, bf16"] == "met"
    assert verdicts["vLLM, 1 stream, bf16"] == "**behind**"
    assert verdicts["vLLM, 8 streams, bf16"] == "not measured"


def test_the_report_replaces_what_was_between_its_marks_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")

    report.write("\n".join(report.markdown(_session(ours=[85.0], vllm=[40.0]))), page)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| vLLM, 1 stream, bf16 | 2.12× | ≥ 2.7× | **behind** |" in text
    assert "| ours (Some 1.0, bf16) | 85.0 |" in text
    assert "at most 100 tokens/s in bf16" in text


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("precious\n", encoding="utf-8")

    with pytest.raises(SystemExit):
        report.write("figures", page)

    assert page.read_text(encoding="utf-8") == "precious\n"


def test_the_documentation_has_a_place_for_the_report() -> None:
    page = (report.REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8")

    assert page.index(report.BEGIN) < page.index(report.END)
