"""The whole product for a measurement, as `make run` starts it, in a folder of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from console.supervisor.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
START_SECONDS = 180


@contextmanager
def folder() -> Iterator[Path]:
    """A state folder that lasts for the measurement; the model, once converted, is shared."""
    path = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    path.chmod(0o755)  # The database runs as another account when we are root.
    models = REPOSITORY / "var" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (path / "models").symlink_to(models)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(state: Path) -> Iterator[str]:
    """Custos on that folder; its address, once every part is ready. Raises SystemExit when it does not start."""
    port = free_port()
    os.environ.update(CUSTOS_VAR_DIR=str(state), CUSTOS_PORT=str(port))
    product = subprocess.Popen([sys.executable, "manage.py", "up"], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, product)
        yield url
    finally:
        product.terminate()
        product.wait(60)


def api_key(name: str, *, tenant: str = "acme-bank") -> str:
    """A fresh API key of the running product."""
    command = [sys.executable, "manage.py", "create_api_key", "--tenant", tenant, "--name", name]
    return subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.strip()


def _wait_until_ready(url: str, product: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and product.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url + "/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the product did not become ready: run `python manage.py up` to see why")
