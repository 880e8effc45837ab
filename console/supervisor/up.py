"""`manage.py up`: everything one machine needs, from the lock to an orderly stop.

What does not depend on something else starts at once: the model loads while the database comes up and the
browser's files are built; the application's processes follow when all of these are there.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from console import environment
from console.supervisor import assets, catalogues, processes, readiness
from console.supervisor.child import Child, run_step
from console.supervisor.errors import SupervisorError
from console.supervisor.keeper import ServerKeeper
from console.supervisor.lock import AlreadyRunning, FolderLock
from console.supervisor.logs import last_lines
from console.supervisor.output import Output
from console.supervisor.ports import free_port, port_is_free
from console.supervisor.postgres import PostgresServer
from console.supervisor.settings import DEMO_PASSWORD, Addresses, application_url, environment_file, publish
from console.supervisor.valkey import ValkeyServer

STOPPED, FAILED, ALREADY_RUNNING = 0, 1, 3
READY_SECONDS = 240.0
READY_POLL_SECONDS = 0.5
PORT_PATIENCE_SECONDS = 3.0

Result = TypeVar("Result")


def main() -> int:
    """Run until stopped. Returns 0 after an orderly stop, 1 after a failure, 3 when Custos runs here already."""
    output = Output()
    try:
        return asyncio.run(_run(output))
    except AlreadyRunning as error:
        output.say(str(error))
        return ALREADY_RUNNING
    except (SupervisorError, environment.InvalidSetting) as error:
        output.say(str(error))
        return FAILED
    finally:
        output.close()


async def _run(output: Output) -> int:
    env = environment.load()
    make_folders(env.var_dir)
    lock = FolderLock(env.run_dir)
    lock.acquire()
    # Left by a supervisor that was killed: its addresses lead nowhere now.
    environment_file(env).unlink(missing_ok=True)
    env = environment.load()
    lock.describe(address=address_of(env))
    supervisor = Supervisor(env, output)
    try:
        return await supervisor.run()
    finally:
        environment_file(env).unlink(missing_ok=True)
        lock.release()


def make_folders(var_dir: Path) -> None:
    """var/, var/run/ and var/log/. Raises SupervisorError when they cannot be written."""
    try:
        for folder in [*reversed(var_dir.parents), var_dir]:
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o755)  # our own new folder: the database's account has to pass through it
        for name in ("run", "log"):
            (var_dir / name).mkdir(mode=0o700, exist_ok=True)
        if not os.access(var_dir / "run", os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable", str(var_dir / "run"))
    except OSError as error:
        raise SupervisorError(
            f"Custos cannot write to {var_dir} ({error.strerror}). Start it as the user who started it first, "
            "or set CUSTOS_VAR_DIR to a folder of your own."
        ) from error


def address_of(env: environment.Environment) -> str:
    """Where a browser on this machine finds the web process."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(env.host, env.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{env.port}"


class Supervisor:
    """One run of the product."""

    def __init__(self, env: environment.Environment, output: Output) -> None:
        self._env = env
        self._output = output
        self._log_dir = env.var_dir / "log"
        self._address = address_of(env)
        self._began = time.monotonic()
        self._stop_asked = asyncio.Event()
        self._servers: list[ServerKeeper] = []
        self._children: list[Child] = []  # in the order in which they stop
        self._untold_password: str | None = None
        self._keepers: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Start everything, wait to be stopped, stop everything. Raises SupervisorError after stopping."""
        self._listen_to_signals()
        starting = asyncio.create_task(self._start())
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await _first_of(starting, stop_asked, self._failed)
            await _first_of(stop_asked, self._failed)
            return STOPPED
        finally:
            stop_asked.cancel()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._stop()
            if self._untold_password:
                self._output.say(
                    f"Password of the demonstration accounts: {_password_line(self._untold_password)}"
                )

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what keeps a part running; its failure is the product's."""

        def on_end(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) and not self._failed.done():
                self._failed.set_exception(error)

        task = asyncio.create_task(work)
        task.add_done_callback(on_end)
        self._keepers.add(task)

    # Starting

    async def _start(self) -> None:
        await self._check_port()
        self._output.say(f"Custos starts in {self._env.var_dir}")
        token = environment.inference_token(self._env.var_dir)
        try:
            async with asyncio.TaskGroup() as together:
                inference_url = self._start_inference(token)
                building = together.create_task(self._build_assets())
                addresses = await self._start_servers(inference_url)
                publish(environment_file(self._env), addresses.variables(self._env))
                prepared = await self._timed("database prepared", self._prepare(addresses))
                await building
        except BaseExceptionGroup as group:
            raise _first_error(group) from None
        self._start_application(addresses, token)
        ready = await self._wait_until_ready()
        self._announce(prepared, ready)

    async def _check_port(self) -> None:
        """The web port must be free; a process that was just killed gets a moment to let it go."""
        env = self._env
        deadline = time.monotonic() + PORT_PATIENCE_SECONDS
        try:
            while not port_is_free(env.host, env.port):
                if time.monotonic() > deadline:
                    raise SupervisorError(
                        f"Port {env.port} on {env.host} is in use by another program (or reserved). "
                        f"Choose another with CUSTOS_PORT, for example: CUSTOS_PORT={env.port + 1} make run"
                    )
                await asyncio.sleep(0.2)
        except OSError as error:
            raise SupervisorError(
                f"CUSTOS_HOST is {env.host}, which is no address of this machine ({error.strerror}). "
                "Use 127.0.0.1 for this machine only, or 0.0.0.0 for all its addresses."
            ) from error

    def _start_inference(self, token: str) -> str:
        """Start loading the model. Returns the URL; nothing is started when one is set."""
        if self._env.inference_url:
            return self._env.inference_url
        port = free_port()
        self._keep(processes.inference(self._env, port=port, token=token))
        return f"http://127.0.0.1:{port}"

    async def _start_servers(self, inference_url: str) -> Addresses:
        owner_url, redis_url = await asyncio.gather(self._start_database(), self._start_valkey())
        app_url = self._env.app_database_url or application_url(
            owner_url, self._secret("app_database_password")
        )
        return Addresses(
            owner_database_url=owner_url,
            app_database_url=app_url,
            redis_url=redis_url,
            inference_url=inference_url,
        )

    async def _start_database(self) -> str:
        if url := self._env.owner_database_url:
            await self._timed("database answers (DATABASE_URL)", asyncio.to_thread(_reach_database, url))
            return url
        server = PostgresServer(self._env.var_dir / "postgres", self._secret("owner_database_password"))
        await self._timed("database", self._start_server("database", server))
        return server.url

    async def _start_valkey(self) -> str:
        if url := self._env.redis_url:
            await self._timed("Valkey answers (REDIS_URL)", asyncio.to_thread(_reach_valkey, url))
            return url
        server = ValkeyServer(self._env.var_dir / "valkey", self._secret("valkey_password"))
        await self._timed("Valkey", self._start_server("Valkey", server))
        return server.url

    async def _start_server(self, name: str, server: PostgresServer | ValkeyServer) -> None:
        keeper = ServerKeeper(name, server, self._output)
        self._servers.append(keeper)
        await keeper.start()
        self._watch(keeper.keep_running())

    async def _build_assets(self) -> None:
        base = self._env.base_dir

        async def build() -> None:
            await assets.build(base, log_dir=self._log_dir, output=self._output)
            await asyncio.to_thread(catalogues.compile_all, base)

        await self._timed("browser files and messages", build())

    async def _prepare(self, addresses: Addresses) -> dict[str, Any]:
        """`manage.py prepare`: role, tables, isolation, demonstration data. Returns its answer."""
        answer = await run_step(
            "prepare",
            [sys.executable, "manage.py", "prepare", "--verbosity", "0"],
            cwd=self._env.base_dir,
            env={**os.environ, **addresses.variables(self._env)},
            log_dir=self._log_dir,
            output=self._output,
            keep_output=True,
        )
        prepared: dict[str, Any] = json.loads(answer.splitlines()[-1])
        self._untold_password = prepared.get("demo_password")
        return prepared

    def _start_application(self, addresses: Addresses, token: str) -> None:
        metrics = self._env.run_dir / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir(mode=0o700)
        for process in processes.application(self._env, addresses, token=token):
            self._keep(process)

    def _keep(self, process: processes.Process) -> None:
        child = Child(process, base_dir=self._env.base_dir, log_dir=self._log_dir, output=self._output)
        self._children.append(child)
        self._watch(child.keep_running())

    async def _wait_until_ready(self) -> bool:
        """Wait until every part works. Returns False when some part still does not after READY_SECONDS.

        Raises SupervisorError when the web process itself does not answer.
        """
        deadline = time.monotonic() + READY_SECONDS
        seen: set[str] = set()
        while True:
            parts = await asyncio.to_thread(readiness.parts, self._address)
            for name, part in (parts or {}).items():
                if part["ok"] and name not in seen:
                    seen.add(name)
                    self._progress(f"{name} ready", time.monotonic() - self._began)
            if parts and all(part["ok"] for part in parts.values()):
                return True
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(READY_POLL_SECONDS)
        if parts is None:
            raise SupervisorError(
                f"web did not answer in {READY_SECONDS:.0f} s; the end of its log:\n{self._tail('web')}"
            )
        for name, part in parts.items():
            if not part["ok"]:
                self._output.say(f"{name} is not ready: {part['detail']}\n{self._tail(name)}")
        return False

    def _announce(self, prepared: dict[str, Any], ready: bool) -> None:
        seconds = time.monotonic() - self._began
        state = f"ready in {seconds:.0f} s" if ready else "running, but not all of it: see above"
        lines = [f"Custos is {state}", "", f"Address   {self._address}/"]
        if accounts := prepared.get("accounts"):
            lines += [f"Accounts  {accounts[0]}", *(f"          {account}" for account in accounts[1:])]
            lines += [f"Password  {_password_line(prepared.get('demo_password'))}"]
        self._untold_password = None
        self._output.frame([*lines, "", "Ctrl-C stops everything."])

    # Stopping

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: stay when the terminal closes
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._stop_asked.is_set():
            self._end_at_once()
        self._output.say("stopping; once more to stop without waiting")
        self._stop_asked.set()

    def _end_at_once(self) -> None:
        """Die here and now: the kernel then ends every child (see tether)."""
        environment_file(self._env).unlink(missing_ok=True)
        os._exit(FAILED)

    async def _stop(self) -> None:
        """Web first, so that answers under way are closed while the rest still works; the database last."""
        children = {child.name: child for child in self._children}
        for group in (("web", "beat", "monitor"), ("worker", "inference", "deployments"), ("witness",)):
            await asyncio.gather(*(children[name].stop() for name in group if name in children))
        for server in sorted(self._servers, key=lambda server: server.name == "database"):
            await server.stop()
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        self._output.say("stopped")

    # Small things

    def _secret(self, name: str) -> str:
        return environment.secret(self._env.var_dir, name)

    def _tail(self, name: str) -> str:
        return last_lines(self._log_dir / f"{name}.log")

    def _progress(self, what: str, seconds: float) -> None:
        self._output.say(f"✓ {what} ({seconds:.1f} s)")

    async def _timed(self, what: str, work: Awaitable[Result]) -> Result:
        began = time.monotonic()
        result = await work
        self._progress(what, time.monotonic() - began)
        return result


async def _first_of(*waiting: asyncio.Future[Any]) -> None:
    """Wait for one of them to end; what it raised is raised."""
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for ended in done:
        ended.result()


def _password_line(fresh: str | None) -> str:
    if fresh:
        return f"{fresh}   (for all of them; shown this once)"
    if environment.demo_password():
        return f"as set by {DEMO_PASSWORD}"
    return f"as shown at the first start; {DEMO_PASSWORD} sets a new one"


def _first_error(group: BaseExceptionGroup) -> BaseException:
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first


def _reach_database(url: str) -> None:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.Error as error:
        raise SupervisorError(
            f"The database at DATABASE_URL does not answer: {str(error).strip()}"
        ) from error


def _reach_valkey(url: str) -> None:
    import redis

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=10) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise SupervisorError(f"The server at REDIS_URL does not answer: {error}") from error
