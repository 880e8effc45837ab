"""One inference process: how it is started, the end of its log, and how it ended."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

from django.conf import settings

from console.supervisor import tether
from console.supervisor.logs import LogFile
from console.supervisor.processes import SECRET_VARIABLES
from inference.deployments import secrets
from inference.registry.models import Deployment
from inference.registry.selectors import weights_of

TAIL_LINES = 100
TAIL_CHARACTERS = 16_000
LONGEST_LINE = 2_000


class InstanceProcess:
    """A child that cannot outlive this process. Its lines go to the deployment's log, the last ones are kept."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], *, log_path: Path, prefix: str = ""
    ) -> None:
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._log, self._prefix = LogFile(log_path), prefix
        self._popen = tether.start(
            argv,
            env=env,
            cwd=settings.BASE_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._popen.pid
        self._reading = threading.Thread(target=self._read, name=f"log-{self.pid}", daemon=True)
        self._reading.start()

    def status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        """To it and whatever it started."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def tail(self) -> str:
        """The last lines of its log; once it has ended, all that it still said is among them."""
        if self.status() is not None:
            self._reading.join(1.0)  # What it started may hold the pipe open.
        return "\n".join(self._tail)[-TAIL_CHARACTERS:]

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            while raw := lines.readline(LONGEST_LINE):
                line = raw.decode(errors="replace").replace("\x00", "").rstrip()
                if line:
                    self._tail.append(line)
                    self._log.write(f"{self._prefix}{line}")
        self._log.close()


def start(deployment: Deployment, instance_id: UUID, *, number: int, port: int) -> InstanceProcess:
    """The process of one instance. Raises OSError when it cannot be started."""
    return InstanceProcess(
        arguments(deployment, port=port),
        environment(secrets.token_of(instance_id)),
        log_path=settings.VAR_DIR / "log" / f"deployment-{deployment.name}.log",
        prefix=f"#{number} ",
    )


def arguments(deployment: Deployment, *, port: int) -> list[str]:
    version = deployment.version
    model, digest = weights_of(version)
    return [
        *(sys.executable, "-m", "inference.server", "--model", model, "--served-name", version.served_id),
        *(["--digest", digest] if digest else []),
        *("--models-dir", str(settings.VAR_DIR / "models"), "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", version.precision, "--kv-memory-mb", str(deployment.kv_memory_mb)),
        *("--max-running", str(deployment.max_running)),
        *(["--max-context", str(deployment.max_context)] if deployment.max_context else []),
        *([] if deployment.speculation else ["--no-speculation"]),
        *(["--faults"] if settings.INFERENCE_FAULTS else []),
    ]


def environment(token: str) -> dict[str, str]:
    """What of this process's environment an inference process gets: no database, no broker, no key but its own."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in SECRET_VARIABLES and not name.startswith(("CUSTOS_", "DJANGO_"))
    }
    return {**inherited, "PYTHONUNBUFFERED": "1", "CUSTOS_INFERENCE_TOKEN": token}


def describe(status: int) -> str:
    try:
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    except ValueError:
        return f"signal {-status}"
