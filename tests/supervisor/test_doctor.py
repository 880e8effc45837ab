"""The doctor on a machine where the product is stopped or damaged."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.product import Product
from tests.support.services import REPOSITORY


def doctor(
    var_dir: Path, *, python: list[str] | None = None, **environment: str
) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status, and findings by name."""
    run = subprocess.run(
        [*(python or [sys.executable]), "manage.py", "doctor", "--json"],
        cwd=REPOSITORY,
        env={**Product(var_dir).environment, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.startswith("["), run.stderr
    return run.returncode, {finding["name"]: finding for finding in json.loads(run.stdout)}


def test_stopped_it_says_what_does_not_run_and_how_to_start_it(folder: Path) -> None:
    status, findings = doctor(folder)
    assert status == 0
    for name in ("product", "database", "valkey", "inference"):
        assert findings[name]["state"] == "warn"
        assert "make run" in findings[name]["mend"]
    assert findings["python"]["state"] == findings["folder"]["state"] == "ok"
    assert list(folder.iterdir()) == []  # it changes nothing


def test_a_secret_open_to_others_fails_with_the_command_that_closes_it(folder: Path) -> None:
    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700)
    key = secrets / "master.key"
    key.touch(mode=0o600)
    assert doctor(folder)[1]["secrets"]["state"] == "ok"
    key.chmod(0o644)
    status, findings = doctor(folder)
    assert status == 1
    assert findings["secrets"]["state"] == "fail"
    subprocess.run(findings["secrets"]["mend"], shell=True, check=True)
    assert doctor(folder)[1]["secrets"]["state"] == "ok"


def test_a_port_of_another_program_fails(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        status, findings = doctor(folder, CUSTOS_PORT=str(busy.getsockname()[1]))
    assert status == 1
    assert findings["port"]["state"] == "fail" and "CUSTOS_PORT=" in findings["port"]["mend"]


def test_a_database_that_is_gone_fails_without_its_password(folder: Path) -> None:
    url = "postgresql://custos:hidden-word@127.0.0.1:9/custos"
    status, findings = doctor(folder, DATABASE_URL=url, CUSTOS_APP_DATABASE_URL=url)
    assert status == 1
    assert findings["database"]["state"] == findings["database role"]["state"] == "fail"
    assert "hidden-word" not in json.dumps(findings)


def test_an_application_role_above_row_level_security_fails(folder: Path) -> None:
    status, findings = doctor(folder, CUSTOS_APP_DATABASE_URL=os.environ["DATABASE_URL"])
    assert status == 1
    assert "is a superuser" in findings["database role"]["detail"]
    status, findings = doctor(folder, CUSTOS_APP_DATABASE_URL=os.environ["CUSTOS_APP_DATABASE_URL"])
    assert findings["database role"]["state"] in {"ok", "fail"}
    assert "superuser" not in findings["database role"]["detail"]


def test_a_setting_that_cannot_be_used_is_named(folder: Path) -> None:
    status, findings = doctor(folder, CUSTOS_PORT="eighty")
    assert status == 1
    assert "CUSTOS_PORT" in findings["settings"]["detail"]


def test_it_speaks_where_nothing_is_installed(folder: Path) -> None:
    """A Python without any package, in a clone without .venv."""
    clone = folder / "clone"
    shutil.copytree(REPOSITORY / "console" / "supervisor", clone / "console" / "supervisor")
    for name in (
        "manage.py",
        "requirements.txt",
        "requirements-models.txt",
        "package.json",
        "package-lock.json",
    ):
        shutil.copy(REPOSITORY / name, clone / name)
    for name in ("__init__.py", "environment.py"):
        shutil.copy(REPOSITORY / "console" / name, clone / "console" / name)
    run = subprocess.run(
        [sys.executable, "-S", "manage.py", "doctor", "--json"],
        cwd=clone,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    findings = {finding["name"]: finding for finding in json.loads(run.stdout)}
    assert run.returncode == 1
    assert findings["packages"]["state"] == "fail"
    assert "Django" in findings["packages"]["detail"]
    assert findings["packages"]["mend"] == "Install what requirements.txt names: make run"
    assert findings["memory"]["state"] in {"ok", "warn"}


def test_commands_say_how_to_install_where_nothing_is(folder: Path) -> None:
    shutil.copy(REPOSITORY / "manage.py", folder / "manage.py")
    run = subprocess.run(
        [sys.executable, "-S", "manage.py", "migrate"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "make run" in run.stderr


@pytest.mark.parametrize("command", ["up", "doctor"])
def test_it_is_listed_among_the_commands(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "manage.py", "help", command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0
    assert "usage: manage.py" in run.stdout
