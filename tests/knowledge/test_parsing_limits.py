"""What the process that reads a file may not do, tried out in such a process."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from knowledge.parsing import Limits, Parsed, Refused, Stopped, parse_content, process
from knowledge.parsing.parsed import as_json

ROOT = Path(__file__).resolve().parents[2]
PARSED = Parsed("x", (), (), "", "en", (), "text/plain")


def tried(code: str, limits: str = "") -> str:
    """What the last line of some code gives in a process that has confined itself."""
    *before, last = textwrap.dedent(code).strip().splitlines()
    program = [
        "from knowledge.parsing import worker",
        "from knowledge.parsing.parsed import Limits",
        "import ctypes, os, socket, subprocess, urllib.request",
        f"worker._confine(Limits({limits}))",
        *before,
        "try:",
        f"    {last}",
        "except BaseException as error:",
        "    print(type(error).__name__)",
        "else:",
        "    print('done')",
    ]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return run.stdout.strip() or f"status {run.returncode}"


@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('example.com', 80)",
        "subprocess.run(['true'])",
        "os.system('true')",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.fork()",
        "open('/tmp/custos-parsing-test', 'w')",
        "os.open('/tmp/custos-parsing-test', os.O_CREAT | os.O_WRONLY)",
        "os.remove('/nowhere')",
        "os.kill(os.getppid(), 0)",
    ],
)
def test_forbidden(code: str) -> None:
    assert tried(code) == "PermissionError"
    assert tried("len(open('/etc/hosts').read())") == "done", "reading is not"


def test_a_library_cannot_write_either(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    # As a library would, past the hook.
    code = f"""
        libc = ctypes.CDLL(None)
        file = libc.open({str(path).encode()!r}, 1)
        assert file >= 0
        libc.signal(25, 1)
        assert libc.write(file, b'x', 1) == 1
    """
    assert tried(code) == "AssertionError"
    assert path.read_bytes() == b""


def test_memory_and_files_are_limited() -> None:
    assert tried("bytearray(1 << 30)", "memory=512 << 20") == "MemoryError"
    assert tried("bytearray(1 << 28)", "memory=2 << 30") == "done"
    assert tried("files = [open('/etc/hosts') for _each in range(200)]") == "OSError"


def test_too_much_memory() -> None:
    with pytest.raises(Refused, match="too_much_memory"):
        parse_content(b"word " * 20_000_000, name="x.txt", limits=Limits(memory=150 << 20))


def test_too_long() -> None:
    rows = b"a,b\n" * 1_500_000
    with pytest.raises(Refused, match="took_too_long"):
        parse_content(rows, name="x.csv", limits=Limits(cpu_s=1, cells=10_000_000))
    with pytest.raises(Refused, match="took_too_long"):
        parse_content(rows, name="x.csv", limits=Limits(wall_s=0.5, cells=10_000_000))


def test_nobody_wants_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ASK_EVERY_S", 0.05)
    asked: list[bool] = []

    def go_on() -> bool:
        asked.append(True)
        return len(asked) < 3

    with pytest.raises(Stopped):
        parse_content(b"a,b\n" * 1_500_000, name="x.csv", limits=Limits(cells=10_000_000), go_on=go_on)
    assert len(asked) == 3


def test_secrets_stay_here_and_errors_of_ours_are_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program that is started says what it was given."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nenv >&2\nls -l /proc/self/fd >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("CUSTOS_SECRET", "hidden")
    with (tmp_path / "kept").open("w") as kept, pytest.raises(process.ReaderBroken) as broken:
        assert kept.fileno()
        parse_content(b"x", name="x.txt")
    assert "LANG=C.UTF-8" in str(broken.value)
    assert "hidden" not in str(broken.value) and "/kept" not in str(broken.value)


@pytest.mark.parametrize(
    ("status", "errors", "code"),
    [
        (-24, b"", "took_too_long"),
        (-9, b"", "too_much_memory"),
        (-6, b"terminate called after throwing an instance of 'std::bad_alloc'", "too_much_memory"),
        (-11, b"", "corrupt"),
    ],
)
def test_a_process_that_ended_without_a_word(status: int, errors: bytes, code: str) -> None:
    with pytest.raises(Refused, match=code):
        process._understood(b"", errors, status)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"parsed": {"text": 1}}',
        b'{"refused": "anything"}',
        json.dumps({"parsed": {**as_json(PARSED), "blocks": [["paragraph", 0, 9, 0, None]]}}).encode(),
    ],
)
def test_an_answer_that_is_none(answer: bytes) -> None:
    with pytest.raises(Refused, match="corrupt"):
        process._understood(answer, b"", 0)


def test_an_answer() -> None:
    assert process._understood(json.dumps({"parsed": as_json(PARSED)}).encode(), b"", 0) == PARSED
