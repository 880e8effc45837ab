"""Folders that the database's account can enter: pytest's own, and perhaps the clone, are closed to other accounts."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from open_folder()


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    yield from open_folder()


def open_folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="custos-supervisor-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
