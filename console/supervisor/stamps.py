"""Whether inputs have changed since a step last succeeded: their digest, kept in a stamp file."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest(base: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents; folders count with everything in them."""
    total = hashlib.sha256()
    files: set[Path] = set()
    for path in paths:
        files.update(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else files.add(path)
    for file in sorted(files):
        content = file.read_bytes() if file.exists() else b""
        total.update(f"{file.relative_to(base)}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def is_current(stamp: Path, value: str) -> bool:
    return stamp.exists() and stamp.read_text().strip() == value


def renew(stamp: Path, value: str) -> None:
    stamp.write_text(value + "\n")
