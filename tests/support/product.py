"""The whole product as a newcomer starts it: `manage.py up` in a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from console.supervisor.ports import free_port
from tests.support.services import MODELS_DIR, REPOSITORY

PASSWORD = "a password for the tests"
START_SECONDS = 180
STOP_SECONDS = 30


class Product:
    """One running Custos: `var_dir` is its state, `url` its address."""

    def __init__(self, var_dir: Path, **environment: str) -> None:
        self.var_dir = var_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output_path = var_dir / "up.txt"
        own = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
            and not name.startswith("CUSTOS_")
        }
        self.environment = own | {
            "CUSTOS_VAR_DIR": str(var_dir),
            "CUSTOS_PORT": str(self.port),
            "CUSTOS_DEMO_PASSWORD": PASSWORD,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until every part is ready. Raises AssertionError with the output when it does not."""
        self.var_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        MODELS_DIR.mkdir(parents=True, exist_ok=True)
        if not (self.var_dir / "models").exists():
            (self.var_dir / "models").symlink_to(MODELS_DIR)
        with self.output_path.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_until(self.is_ready, START_SECONDS, "the product to be ready")

    def is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"`manage.py up` ended with {self._process.returncode}:\n{self.output()}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """Ask for an orderly stop; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}:\n{self.output()[-6000:]}")
            time.sleep(0.2)

    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    def command(self, *arguments: str) -> str:
        """Standard output of a management command run from another shell."""
        environment = {
            k: v for k, v in self.environment.items() if k not in {"CUSTOS_PORT", "CUSTOS_DEMO_PASSWORD"}
        }
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def api_key(self, tenant: str, name: str) -> str:
        return self.command("create_api_key", "--tenant", tenant, "--name", name).strip()

    def pid_of(self, marker: str) -> int:
        """The process of this product whose command line holds `marker`, for example "inference.server"."""
        for pid in self.pids():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if marker in command:
                return pid
        raise AssertionError(f"no process of this product runs {marker}")

    def pids(self) -> list[int]:
        """All processes of this product, found by the folder in their environment, command line or working folder."""
        found = []
        folder = str(self.var_dir).encode()
        for entry in Path("/proc").iterdir():
            if not re.fullmatch(r"\d+", entry.name) or int(entry.name) == os.getpid():
                continue
            try:
                text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                text += os.fsencode((entry / "cwd").readlink())  # servers overwrite the other two
            except OSError:
                continue
            if folder in text:
                found.append(int(entry.name))
        return sorted(found)

    def settings(self) -> dict[str, str]:
        """What the supervisor wrote for other shells."""
        return json.loads((self.var_dir / "run" / "environment.json").read_text())
