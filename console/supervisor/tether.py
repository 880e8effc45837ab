"""Start a child that cannot outlive this process.

Linux can signal a child when its parent *thread* ends (PR_SET_PDEATHSIG), which holds even when the
supervisor is killed with -9. Three details make it reliable: the setting is cleared by a change of user,
so it is made after that change; the parent may already be gone by then, so that is checked; and the
thread that starts the child has to live as long as the process, so one thread starts them all.
Elsewhere than on Linux children are stopped by an orderly stop only.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from console.supervisor.accounts import Account

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own (a Ctrl-C at the terminal reaches the supervisor only).

    `account`: the account to run as, when this process is root. `death_signal`: what the child gets
    when this process dies. Raises OSError when the program cannot be executed.
    """

    def popen() -> subprocess.Popen[bytes]:
        switch = {} if account is None else account.popen_arguments()
        return subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid(), death_signal),  # noqa: PLW1509 — takes no lock, see there
            **switch,
        )

    return _launcher.submit(popen).result()


def _die_with(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    """The setting as the child makes it, between fork (and change of user) and exec."""
    if _libc is None:
        return None
    prctl = _libc.prctl  # looked up before the fork: the child must not need a lock

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return tie


def stop(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> int:
    """Send each signal in turn and wait its seconds, then SIGKILL. Returns the exit status."""
    for step, seconds in steps:
        if process.poll() is not None:
            break
        process.send_signal(step)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
    return process.wait()
