"""`manage.py up` as a person meets it: the whole product, started once for this file."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.supervisor.alive import wait_for_end
from tests.supervisor.conftest import open_folder
from tests.support.product import Product
from tests.support.services import REPOSITORY

INFERENCE_BACK_SECONDS = 30
PARTS = [
    "inference.server",
    "console.asgi",
    "celery --quiet -A console worker",
    "celery --quiet -A console beat",
    "manage.py monitor",
    "audit.witness",
]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    folders = open_folder()
    running = Product(next(folders))
    running.start()
    yield running
    running.stop()
    next(folders, None)


def up(var_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py up` to its end, for starts that are refused."""
    return subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=REPOSITORY,
        env={**Product(var_dir).environment, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_ready_and_says_how_to_get_in(product: Product) -> None:
    product.wait_until(lambda: "Ctrl-C stops everything." in product.output(), 10, "the announcement")
    output = product.output()
    assert f"{product.url}/" in output
    assert "member@acme-bank.example" in output
    assert "as set by CUSTOS_DEMO_PASSWORD" in output
    assert httpx.get(f"{product.url}/healthz").status_code == 200


@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(product: Product, part: str) -> None:
    assert product.pid_of(part)


def test_other_shells_find_the_services_and_other_accounts_do_not(product: Product) -> None:
    file = product.var_dir / "run" / "environment.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with psycopg.connect(product.settings()["CUSTOS_APP_DATABASE_URL"]) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row == ("custos_app",)


def test_no_secret_is_on_a_command_line_or_in_a_log(product: Product) -> None:
    secrets = {path.read_text().strip() for path in (product.var_dir / "secrets").iterdir()}
    assert len(secrets) >= 6
    shown = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in product.pids())
    logged = "".join(path.read_text() for path in product.var_dir.rglob("*.log")) + product.output()
    assert [secret for secret in secrets if secret in shown] == []
    assert [secret for secret in secrets if secret in logged] == []


def test_the_inference_process_gets_no_database_and_no_broker(product: Product) -> None:
    variables = Path(f"/proc/{product.pid_of('inference.server')}/environ").read_bytes()
    assert b"CUSTOS_INFERENCE_TOKEN=" in variables
    for name in (b"DATABASE_URL", b"REDIS_URL", b"CUSTOS_DEMO_PASSWORD"):
        assert name not in variables


def test_the_web_process_does_not_hold_the_owners_password(product: Product) -> None:
    variables = Path(f"/proc/{product.pid_of('uvicorn')}/environ").read_bytes().split(b"\0")
    assert (product.var_dir / "secrets" / "owner_database_password").read_bytes() not in b"".join(variables)
    assert b"DATABASE_URL=" in variables, "empty, so that it is not looked up elsewhere either"


def test_a_second_start_in_the_folder_says_where_the_first_is(product: Product) -> None:
    second = up(product.var_dir, CUSTOS_PORT=str(product.port))
    assert second.returncode == 3
    assert f"already runs in this folder: {product.url}" in second.stdout
    assert product.is_ready()


def test_a_busy_port_names_the_setting(product: Product, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        refused = up(folder, CUSTOS_PORT=str(port))
    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in refused.stdout
    assert "CUSTOS_PORT=" in refused.stdout


def test_a_database_that_does_not_answer_names_the_setting_and_leaves_nothing(folder: Path) -> None:
    refused = up(folder, DATABASE_URL="postgresql://custos:hidden-word@127.0.0.1:9/custos")
    assert refused.returncode == 1
    assert "DATABASE_URL does not answer" in refused.stdout
    assert "hidden-word" not in refused.stdout
    assert wait_for_end(Product(folder).pids()) == []
    assert not (folder / "run" / "environment.json").exists()


def test_the_doctor_finds_nothing_wrong(product: Product) -> None:
    findings = {finding["name"]: finding for finding in json.loads(product.command("doctor", "--json"))}
    for name in (
        "product",
        "database",
        "database role",
        "migrations",
        "valkey",
        "inference",
        "port",
        "secrets",
    ):
        assert findings[name]["state"] == "ok", findings[name]


@pytest.mark.timeout(180)
def test_killed_inference_is_back_in_time(product: Product) -> None:
    before = product.pid_of("inference.server")
    os.kill(before, signal.SIGKILL)
    product.wait_until(lambda: not product.is_ready(), 10, "its absence to show")
    product.wait_until(product.is_ready, INFERENCE_BACK_SECONDS, "inference to be back")
    assert product.pid_of("inference.server") != before


@pytest.mark.timeout(180)
def test_killed_servers_come_back_with_their_data(product: Product) -> None:
    with psycopg.connect(product.settings()["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    for marker in ("pginstall/bin/postgres -D", "valkey-server"):
        os.kill(product.pid_of(marker), signal.SIGKILL)
    product.wait_until(lambda: not product.is_ready(), 10, "their absence to show")
    product.wait_until(product.is_ready, 60, "the servers to be back")
    with psycopg.connect(product.settings()["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        connection.execute("DROP TABLE kept")


@pytest.mark.timeout(180)
def test_killed_web_is_back(product: Product) -> None:
    os.kill(product.pid_of("console.asgi"), signal.SIGKILL)
    product.wait_until(lambda: not product.is_ready(), 10, "its absence to show")
    product.wait_until(product.is_ready, 30, "web to be back")


@pytest.mark.timeout(180)
def test_stop_start_and_kill_leave_no_process_and_no_address(product: Product) -> None:
    pids = product.pids()
    assert len(pids) > 6
    began = time.monotonic()
    assert product.stop() == 0
    assert time.monotonic() - began < 20
    assert wait_for_end(pids, 1) == []
    assert not (product.var_dir / "run" / "environment.json").exists()

    began = time.monotonic()
    product.start()
    print(f"warm start: {time.monotonic() - began:.1f} s")
    pids = product.pids()
    os.kill(supervisor_of(product), signal.SIGKILL)
    assert wait_for_end(pids, 10) == []

    product.start()  # at once, over what the killed one left behind
    assert product.is_ready()


def test_a_second_interrupt_does_not_wait(product: Product) -> None:
    supervisor, pids = supervisor_of(product), product.pids()
    os.kill(product.pid_of("console.asgi"), signal.SIGSTOP)  # web will not stop by being asked
    os.kill(supervisor, signal.SIGINT)
    product.wait_until(
        lambda: "once more to stop without waiting" in product.output(), 5, "the first to be heard"
    )
    os.kill(supervisor, signal.SIGINT)
    assert wait_for_end(pids, 5) == []


def supervisor_of(product: Product) -> int:
    holder = json.loads((product.var_dir / "run" / "lock").read_text())
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", holder["address"])
    return int(holder["pid"])
