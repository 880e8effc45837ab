"""Real processes with the packaged model: killed, restarted, drained, and one whose files are not what is registered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.client import Delta, InferenceClient, InferenceUnavailable, close_pool
from inference.deployments import secrets, selectors, services
from inference.deployments.models import Instance
from inference.registry import selectors as registry
from inference.registry import stages, versions
from inference.registry.models import Deployment, ModelVersion
from inference.registry.operators import Operator
from tests.deployments.conftest import staged_int8, states
from tests.support.services import MODELS_DIR, REPOSITORY
from tests.support.services import services as running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


class Reconciling:
    """The process that looks after deployments."""

    def __init__(self, models_dir: Path) -> None:
        models = running.var_dir / "models"
        MODELS_DIR.mkdir(parents=True, exist_ok=True)
        if not models.exists():
            models.symlink_to(MODELS_DIR)
        self._env = {
            **os.environ,
            "CUSTOS_MODELS_DIR": str(models_dir),
            "CUSTOS_INFERENCE_MEMORY_MB": "20000",
            "CUSTOS_INFERENCE_FAULTS": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deployments.reconciling"], cwd=REPOSITORY, env=self._env
        )

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)


@pytest.fixture
def reconciling(tmp_path: Path) -> Iterator[Reconciling]:
    made = Reconciling(tmp_path)
    made.start()
    yield made
    made.end(signal.SIGTERM)
    # Nothing may write when the tables are emptied, and nothing may be left.
    assert not [row.pid for row in Instance.objects.exclude(pid=None) if row.pid and _runs(row.pid)]


@pytest.fixture
def deployed(by: Operator) -> Deployment:
    version = staged_int8(by)
    return services.create(by=by, name="small", version_id=version.pk, kv_memory_mb=64, max_context=1024)


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return found


def ready(deployment: Deployment) -> Instance | None:
    return deployment.instances.filter(state="ready").order_by("-number").first()


def _runs(pid: int) -> bool:
    try:
        return "inference.server" in Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return False


def ask(client: InferenceClient, tokens: int = 4) -> list[str]:
    """What it answers, piece by piece."""
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Count."}],
        "max_tokens": tokens,
        "ignore_eos": True,
    }

    async def run() -> list[str]:
        try:
            return [item.text async for item in client.stream_chat(body) if isinstance(item, Delta)]
        finally:
            await close_pool()

    return asyncio.run(run())


def client(deployment: Deployment) -> InferenceClient:
    found = selectors.endpoints_of(selectors.deployment_by_id(deployment.pk))
    assert found and found[0].is_ready
    return found[0].client


def test_an_instance_comes_back_after_it_or_whoever_looks_after_it_was_killed(
    reconciling: Reconciling, deployed: Deployment
) -> None:
    first = until(lambda: ready(deployed), "the first instance")
    assert "".join(ask(client(deployed)))
    wrong = InferenceClient(first.address, "another token")
    with pytest.raises(InferenceUnavailable):
        ask(wrong)
    environment = Path(f"/proc/{first.pid}/environ").read_bytes().decode()
    assert "postgres" not in environment and "REDIS_URL" not in environment

    os.kill(first.pid, signal.SIGKILL)
    second = until(lambda: (row := ready(deployed)) and row.number > first.number and row, "its successor")
    lost = deployed.instances.get(pk=first.pk)
    assert (lost.state, lost.failure, lost.failure_detail) == ("failed", "ended", "killed by SIGKILL")
    assert "is ready after" in lost.tail
    assert "".join(ask(client(deployed)))

    reconciling.end(signal.SIGKILL)
    until(lambda: not _runs(second.pid), "its children to end with it", 10)
    reconciling.start()
    until(lambda: (row := ready(deployed)) and row.number > second.number, "what was wanted")
    assert deployed.instances.get(pk=second.pk).failure == "left"
    assert "".join(ask(client(deployed)))


def test_a_restart_under_load_fails_no_request_and_a_drain_lets_an_answer_end(
    reconciling: Reconciling, deployed: Deployment, by: Operator
) -> None:
    first = until(lambda: ready(deployed), "the first instance")
    services.restart(by=by, deployment_id=deployed.pk)
    answers = 0
    while not ((row := ready(deployed)) and row.number > first.number and "stopped" in states(deployed)):
        assert "".join(ask(client(deployed)))
        answers += 1
    assert answers > 3

    drained: list[str] = []
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Count to a thousand."}],
        "max_tokens": 300,
        "ignore_eos": True,
    }
    streaming = client(deployed)

    async def stream() -> int:
        pieces = 0
        async for item in streaming.stream_chat(body):
            if isinstance(item, Delta):
                pieces += 1
                if pieces == 2:
                    await asyncio.to_thread(
                        in_a_thread, lambda: services.drain(by=by, deployment_id=deployed.pk)
                    )
                    drained.append("asked")
                    async with httpx.AsyncClient(trust_env=False) as http:
                        health = (await http.get(f"{streaming.base_url}/health")).json()
                    assert health["open"] >= 2, "the answer and this look"
        await close_pool()
        return pieces

    assert asyncio.run(stream()) > 100 and drained
    assert selectors.endpoints_of(selectors.deployment_by_id(deployed.pk)) == []
    until(lambda: not selectors.standing_of(deployed).instances, "the drained instance to end", 30)


def in_a_thread(work: Callable[[], Any]) -> None:
    from django.db import connection

    try:
        work()
    finally:
        connection.close()


def test_what_is_loaded_on_demand_answers_whoever_waited_for_it(
    reconciling: Reconciling, by: Operator
) -> None:
    version = staged_int8(by)
    made = services.create(by=by, name="small", version_id=version.pk, kv_memory_mb=64, keep_warm=False)
    time.sleep(3)
    assert states(made) == []
    assert "".join(ask(client(made)))
    assert states(made) == ["ready"] and client(made).base_url == made.instances.get().address


def test_failures_can_be_provoked_where_that_is_allowed(
    reconciling: Reconciling, deployed: Deployment
) -> None:
    from django.core.management import call_command

    row = until(lambda: ready(deployed), "the first instance")
    call_command("deployments", "fault", "small", "--error-rate", "1")
    with pytest.raises(InferenceUnavailable):
        ask(client(deployed))
    call_command("deployments", "fault", "small")
    assert "".join(ask(client(deployed)))
    assert httpx.post(f"{row.address}/faults", json={}, trust_env=False).status_code == 401
    headers = {"Authorization": f"Bearer {secrets.token_of(row.pk)}"}
    for wrong in ({"error_rate": 2}, {"delay_ms": -1}, [], {"error_rate": "x"}):
        answer = httpx.post(f"{row.address}/faults", json=wrong, headers=headers, trust_env=False)
        assert answer.status_code == 400


def test_files_that_are_not_those_registered_fail_with_their_log(
    reconciling: Reconciling, tmp_path: Path, by: Operator
) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, content in {"config.json": {"model_type": "llama"}, "tokenizer.json": {}}.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    version = versions.register(
        by=by,
        name="tiny",
        source_kind=ModelVersion.Source.FOLDER,
        source="tiny",
        location="tiny",
        revision="1",
        digest="sha256:" + "0" * 64,
        precision="bfloat16",
        served_id="tiny",
        context_tokens=2048,
        parameters=1000,
    )
    stages.move(by=by, version_id=version.pk, stage="staged", reason="To try it")
    made = services.create(by=by, name="tiny", version_id=registry.version_by_id(version.pk).pk)
    row = until(lambda: made.instances.filter(state="failed").first(), "the failure")
    assert row.failure == "load" and "digest" in row.failure_detail.lower()
    assert "could not be loaded" in row.tail
