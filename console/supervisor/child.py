"""Keeps one process running, and runs one step to its end."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from console.supervisor import tether
from console.supervisor.errors import SupervisorError
from console.supervisor.logs import LogFile, last_lines
from console.supervisor.output import Output
from console.supervisor.processes import Process

POLL_SECONDS = 0.1
LONGEST_LINE = 16 * 1024


class Backoff:
    """Seconds to wait before the next start: 1, 2, 4 … 30, from the beginning after a healthy minute."""

    LONGEST = 30.0
    HEALTHY_SECONDS = 60.0
    AT_ONCE_SECONDS = 10.0

    def __init__(self) -> None:
        self._next = 1.0
        self.ended_at_once = 0  # in a row

    def after(self, *, lived: float) -> float:
        """The wait after a process that lived so many seconds."""
        if lived >= self.HEALTHY_SECONDS:
            self._next = 1.0
        self.ended_at_once = self.ended_at_once + 1 if lived < self.AT_ONCE_SECONDS else 0
        wait, self._next = self._next, min(self._next * 2, self.LONGEST)
        return wait


class Child:
    """One process of the table: started, logged, started again when it ends."""

    GIVE_UP_AFTER = 5  # ends at once in a row

    def __init__(self, process: Process, *, base_dir: Path, log_dir: Path, output: Output) -> None:
        self.process = process
        self.name = process.name
        self.log_path = log_dir / f"{process.name}.log"
        self.pid: int | None = None
        self._base_dir = base_dir
        self._output = output
        self._running: subprocess.Popen[bytes] | None = None
        self._stopping = False

    async def keep_running(self) -> None:
        """Returns after `stop`. Raises SupervisorError when an essential process cannot be started."""
        backoff = Backoff()
        log = LogFile(self.log_path)
        try:
            while not self._stopping:
                started = time.monotonic()
                status = await self._run_once(log)
                if self._stopping:
                    return
                wait = backoff.after(lived=time.monotonic() - started)
                self._output.say(
                    f"{self.name} ended ({_describe(status)}); starting it again in {wait:.0f} s"
                )
                if backoff.ended_at_once == self.GIVE_UP_AFTER:
                    self._report_hopeless()
                await asyncio.sleep(wait)
        finally:
            log.close()

    async def stop(self) -> None:
        """End the process: asked first, killed after its `stop_seconds`."""
        self._stopping = True
        if self._running is not None:
            await _end(self._running, seconds=self.process.stop_seconds)

    async def _run_once(self, log: LogFile) -> int:
        running = tether.start(
            self.process.argv,
            env=self.process.env,
            cwd=self._base_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._running, self.pid = running, running.pid

        def show(line: str) -> None:
            log.write(line)
            self._output.line(self.name, line)

        try:
            return await _until_end(running, show)
        finally:
            self.pid = None
            if running.poll() is not None:  # what it started must not stand in the way of its successor
                _signal_group(running, signal.SIGKILL)

    def _report_hopeless(self) -> None:
        message = (
            f"{self.name} ended at once {self.GIVE_UP_AFTER} times in a row, so something in its "
            f"configuration is wrong; the end of {self.log_path}:\n{last_lines(self.log_path)}"
        )
        if self.process.essential:
            raise SupervisorError(message)
        self._output.say(message + "\nIt is tried again every 30 s; `python manage.py doctor` may know more.")


async def run_step(
    name: str,
    argv: Sequence[str],
    *,
    cwd: Path,
    log_dir: Path,
    output: Output,
    env: Mapping[str, str] | None = None,
    keep_output: bool = False,
) -> str:
    """Run a command to its end; its lines go to the terminal and to `<log_dir>/<name>.log`.

    With `keep_output` its standard output goes nowhere but into the answer: it may hold a password.
    Raises SupervisorError with the end of the log when the command fails or is missing.
    """
    log = LogFile(log_dir / f"{name}.log")
    kept: list[str] = []

    def show(line: str) -> None:
        log.write(line)
        output.line(name, line)

    try:
        running = tether.start(
            argv,
            env=env,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keep_output else subprocess.STDOUT,
            death_signal=signal.SIGTERM,  # npm passes it on to what it started
        )
        try:
            status = await _until_end(running, kept.append if keep_output else show, show)
        finally:
            await _end(running, seconds=5)
    except FileNotFoundError as error:
        raise SupervisorError(f"{name}: the program {argv[0]} was not found") from error
    finally:
        log.close()
    if status != 0:
        raise SupervisorError(
            f"{name} failed ({_describe(status)}); the end of {log.path}:\n{last_lines(log.path)}"
        )
    return "\n".join(kept)


async def _until_end(
    running: subprocess.Popen[bytes],
    on_stdout: Callable[[str], None],
    on_stderr: Callable[[str], None] | None = None,
) -> int:
    """Pass on the lines of a process until it has ended. Returns its exit status."""
    pumps = [asyncio.create_task(_pump(running.stdout, on_stdout))]
    if running.stderr is not None and on_stderr is not None:
        pumps.append(asyncio.create_task(_pump(running.stderr, on_stderr)))
    try:
        while running.poll() is None:
            await asyncio.sleep(POLL_SECONDS)
        # A grandchild may hold the pipe open; what the process itself said is here at once.
        await asyncio.wait(pumps, timeout=1)
    finally:
        for pump in pumps:
            pump.cancel()
    return running.returncode


async def _pump(pipe: object, on_line: Callable[[str], None]) -> None:
    """Lines of a pipe, cut at LONGEST_LINE, until its end."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    rest = b""
    try:
        while chunk := await reader.read(LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                # A progress bar overwrites itself: its last state is what counts.
                shown = line.rstrip(b"\r").rpartition(b"\r")[2]
                if shown.strip():
                    on_line(shown.decode(errors="replace"))
            if len(rest) > LONGEST_LINE:
                on_line(rest.decode(errors="replace"))
                rest = b""
        if rest:
            on_line(rest.decode(errors="replace"))
    finally:
        transport.close()


async def _end(running: subprocess.Popen[bytes], *, seconds: float) -> None:
    """End a process and what it started: SIGTERM to its group, then SIGKILL to whatever is left."""
    _signal_group(running, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while running.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS / 2)
    _signal_group(running, signal.SIGKILL)
    while running.poll() is None:
        await asyncio.sleep(POLL_SECONDS / 2)


def _signal_group(running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(running.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _describe(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
