"""Keeping a process running, with small real programs in place of the product's."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.supervisor.child import Backoff, Child, run_step
from console.supervisor.errors import SupervisorError
from console.supervisor.output import Output
from console.supervisor.processes import Process
from tests.supervisor.alive import is_alive, wait_for_end

# Says its own number and that of a process it started, then waits; deaf to polite requests when asked to be.
PROGRAM = """
import signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen(["sleep", "300"])
print("pids", __import__("os").getpid(), other.pid, flush=True)
time.sleep(300)
"""


class Screen:
    """What a person would have seen."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.output = Output(self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    async def shows(self, wanted: str, *, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.text.count(wanted) < times:
                await asyncio.sleep(0.02)

    def pids(self) -> list[int]:
        last = [line for line in self.text.splitlines() if "pids" in line][-1]
        return [int(word) for word in last.split("pids")[1].split()]


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.output.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between starts of hundredths of a second."""
    monkeypatch.setattr(Backoff, "LONGEST", 0.05)


def child(
    screen: Screen, folder: Path, *argv: str, essential: bool = False, stop_seconds: float = 5
) -> Child:
    process = Process(
        name="part",
        argv=(sys.executable, "-c", *argv),
        env=dict(os.environ),
        essential=essential,
        stop_seconds=stop_seconds,
    )
    return Child(process, base_dir=folder, log_dir=folder / "log", output=screen.output)


def test_waits_double_up_to_half_a_minute_and_begin_again_after_a_healthy_minute() -> None:
    backoff = Backoff()
    assert [backoff.after(lived=2) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.ended_at_once == 7
    assert backoff.after(lived=61) == 1
    assert backoff.ended_at_once == 0


async def test_a_killed_process_is_started_again_and_what_it_had_started_is_ended(
    screen: Screen, tmp_path: Path
) -> None:
    part = child(screen, tmp_path, PROGRAM)
    keeping = asyncio.create_task(part.keep_running())
    await screen.shows("pids")
    first = screen.pids()
    os.kill(first[0], signal.SIGKILL)
    await screen.shows("pids", times=2)
    assert "part ended (killed by SIGKILL); starting it again in 1 s" in screen.text
    second = screen.pids()
    assert second[0] != first[0] and is_alive(second[0])
    assert wait_for_end(first, 2) == []
    await part.stop()
    await keeping


@pytest.mark.parametrize("manners", ["polite", "deaf"])
async def test_stop_ends_the_process_and_what_it_started(
    screen: Screen, tmp_path: Path, manners: str
) -> None:
    part = child(screen, tmp_path, PROGRAM, manners, stop_seconds=0.5)
    keeping = asyncio.create_task(part.keep_running())
    await screen.shows("pids")
    pids = screen.pids()
    assert all(map(is_alive, pids))
    await part.stop()
    await asyncio.wait_for(keeping, 5)
    assert wait_for_end(pids, 2) == []


async def test_an_essential_process_that_cannot_start_gives_up_with_its_last_words(
    screen: Screen, tmp_path: Path, quick: None
) -> None:
    part = child(screen, tmp_path, "raise SystemExit('the port is taken')", essential=True)
    with pytest.raises(SupervisorError, match=r"5 times in a row(.|\n)*the port is taken"):
        await asyncio.wait_for(part.keep_running(), 30)
    assert screen.text.count("the port is taken") == 5


async def test_another_process_that_cannot_start_is_reported_once_and_tried_on(
    screen: Screen, tmp_path: Path, quick: None
) -> None:
    part = child(screen, tmp_path, "raise SystemExit('no model')")
    keeping = asyncio.create_task(part.keep_running())
    await screen.shows("│ no model", times=7)
    assert screen.text.count("something in its configuration is wrong") == 1
    await part.stop()
    keeping.cancel()


async def test_lines_reach_the_terminal_with_a_prefix_and_the_log_as_they_are(
    screen: Screen, tmp_path: Path
) -> None:
    program = r"print('one\x1b[2Jtwo'); print('10%\r50%\r100%'); print('x' * 40_000); print('no end', end='')"
    part = child(screen, tmp_path, program)
    keeping = asyncio.create_task(part.keep_running())
    await screen.shows("part ended (exit status 0)")
    await part.stop()
    keeping.cancel()
    assert "part      │ one [2Jtwo\n" in screen.text  # the terminal is not cleared by a child
    assert "part      │ 100%\n" in screen.text
    assert "50%" not in screen.text
    assert "part      │ no end\n" in screen.text
    assert screen.text.count("x" * 16_000) >= 2
    log = tmp_path / "log" / "part.log"
    assert "one\x1b[2Jtwo\n" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_step_that_fails_says_how_it_ended(screen: Screen, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; print('why it failed'); sys.exit(7)"]
    with pytest.raises(SupervisorError, match=r"build failed \(exit status 7\)(.|\n)*why it failed"):
        await run_step("build", argv, cwd=tmp_path, log_dir=tmp_path, output=screen.output)


async def test_a_step_whose_program_is_missing_says_so(screen: Screen, tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="program /no/such/npm was not found"):
        await run_step("build", ["/no/such/npm"], cwd=tmp_path, log_dir=tmp_path, output=screen.output)


async def test_what_a_step_keeps_is_shown_and_logged_nowhere(screen: Screen, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; print('pass' + 'word'); print('a warning', file=sys.stderr)"]
    answer = await run_step(
        "prepare", argv, cwd=tmp_path, log_dir=tmp_path, output=screen.output, keep_output=True
    )
    assert answer == "password"
    await screen.shows("prepare   │ a warning")
    assert "password" not in screen.text
    assert (tmp_path / "prepare.log").read_text() == "a warning\n"


async def test_a_cancelled_step_leaves_no_process(screen: Screen, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PROGRAM]
    step = asyncio.create_task(run_step("build", argv, cwd=tmp_path, log_dir=tmp_path, output=screen.output))
    await screen.shows("pids")
    pids = screen.pids()
    step.cancel()
    await asyncio.wait({step})
    assert wait_for_end(pids, 2) == []


def test_a_reader_who_has_gone_stops_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        output = Output(stream)
        for number in range(20_000):
            output.line("part", f"line {number}")
        output.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)
