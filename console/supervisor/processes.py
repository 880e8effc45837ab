"""The table of processes: what runs beside the database and Valkey, and with which arguments."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from console.environment import Environment, log_name, log_public_key
from console.supervisor.settings import DEMO_PASSWORD, Addresses

# What a process needs of the machine's environment but not of ours.
SECRET_VARIABLES = {
    *("DATABASE_URL", "CUSTOS_APP_DATABASE_URL", "REDIS_URL", DEMO_PASSWORD, "CUSTOS_VAULT_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
}

# Well above what the chat takes as a question: a bit too much gets an answer, far too much a closed socket.
WEBSOCKET_MESSAGE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process to keep running.

    `stop_seconds`: how long it may take to finish what it is doing when asked to stop.
    `essential`: without it there is no product, so the supervisor gives up when it cannot start.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    stop_seconds: float = 10.0
    essential: bool = False


def inference(env: Environment, *, port: int, token: str) -> Process:
    """The model server. It gets no database, no broker and no key but its own token."""
    inherited = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    models = env.var_dir / "models"
    return Process(
        name="inference",
        argv=(
            *(sys.executable, "-m", "inference.server", "--model", "smollm2"),
            *("--host", "127.0.0.1", "--port", str(port), "--models-dir", str(models)),
            *("--dtype", env.inference_precision),
        ),
        env={**inherited, "PYTHONUNBUFFERED": "1", "CUSTOS_INFERENCE_TOKEN": token},
    )


def application(env: Environment, addresses: Addresses, *, token: str) -> list[Process]:
    """Web, beat, worker, monitor, deployments and, unless it is elsewhere, the witness, in the order in which they stop."""
    shared = {
        **{name: value for name, value in os.environ.items() if name != DEMO_PASSWORD},
        **addresses.variables(env),
        # Only `manage.py prepare` acts as the database's owner.
        "DATABASE_URL": "",
        "CUSTOS_INFERENCE_TOKEN": token,
        "PROMETHEUS_MULTIPROC_DIR": str(env.run_dir / "metrics"),
        "PYTHONUNBUFFERED": "1",
    }
    # Celery warns against root because of pickles; ours accepts JSON only.
    quiet = ("-W", "ignore:You're running the worker with superuser", "-m", "celery", "--quiet")
    celery = (sys.executable, *quiet, "-A", "console")
    # Threads: the worker stays one process, so that nothing of it is left when it is killed.
    worker = ("worker", "--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle")
    schedule = ("beat", "-S", "django_celery_beat.schedulers:DatabaseScheduler", "--pidfile=")
    return [
        Process(name="web", argv=_web(env), env=shared, essential=True),
        Process(name="beat", argv=(*celery, *schedule, "--loglevel", "WARNING"), env=shared),
        Process(name="worker", argv=(*celery, *worker, "--loglevel", "WARNING"), env=shared),
        # Beside the worker: whoever watches it must not stop with it.
        Process(name="monitor", argv=(sys.executable, "manage.py", "monitor"), env=shared),
        # It ends its own children, which are model servers, and waits for that.
        Process(
            name="deployments",
            argv=(sys.executable, "manage.py", "deployments", "run"),
            env=shared,
            stop_seconds=15.0,
        ),
        *([] if env.witness_url else [witness(env)]),
    ]


def witness(env: Environment) -> Process:
    """The witness of the audit's logs. It gets no database, no broker and no key but its own and the log's public one."""
    own = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TZ") if name in os.environ}
    return Process(
        name="witness",
        argv=(
            *(sys.executable, "-m", "audit.witness", "--state", str(env.var_dir / "witness")),
            *("--log-name", log_name(env.var_dir), "--log-key", log_public_key(env.var_dir)),
        ),
        env={**own, "PYTHONUNBUFFERED": "1"},
    )


def _web(env: Environment) -> tuple[str, ...]:
    # Forwarded addresses are believed only when an origin says that there is a proxy in front.
    proxy = "--proxy-headers" if env.trusted_origins else "--no-proxy-headers"
    return (
        *(sys.executable, "-m", "uvicorn", "console.asgi:application"),
        *("--host", env.host, "--port", str(env.port), proxy, "--no-server-header"),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
        *("--ws-max-size", str(WEBSOCKET_MESSAGE_BYTES)),
        *("--log-level", "warning", "--no-access-log", "--timeout-graceful-shutdown", "5"),
    )
