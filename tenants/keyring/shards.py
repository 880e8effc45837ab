"""Shards: the part of each data key that lies outside the database, one file a tenant, purpose and day.

A wrapped data key opens only with its shard. So whoever restores an old backup of the database after a shard was
destroyed has rows that nothing opens. Files are 0600 in folders of 0700 below settings.KEY_SHARDS_DIR, appear whole or
not at all, and are on the disk before the row that needs them is committed.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import UUID

from django.conf import settings

from tenants.keyring.ciphers import KEY_BYTES
from tenants.keyring.errors import KeysUnavailable

_ENDING = ".shard"
_OF_TENANT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def path_of(tenant_id: UUID, purpose: str, day: date) -> Path:
    return _folder_of(tenant_id) / quote(purpose, safe="") / f"{day.isoformat()}{_ENDING}"


def read(tenant_id: UUID, purpose: str, day: date) -> bytes | None:
    """The shard; None when there is none. Raises KeysUnavailable when it cannot be read."""
    try:
        shard = path_of(tenant_id, purpose, day).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeysUnavailable(f"the shards of keys cannot be read: {error.strerror}") from error
    if len(shard) != KEY_BYTES or not any(shard):
        return None  # Being destroyed.
    return shard


def make(tenant_id: UUID, purpose: str, day: date) -> bytes:
    """The shard, made if there is none. Of several processes that make it at once all get the first one's."""
    if found := read(tenant_id, purpose, day):
        return found
    path = path_of(tenant_id, purpose, day)
    try:
        _make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(os.urandom(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
        # Also where another was first: its file must be on the disk before our row is.
        _sync(path.parent)
    except OSError as error:
        raise KeysUnavailable(f"the shard of a new key cannot be written: {error.strerror}") from error
    shard = read(tenant_id, purpose, day)
    if shard is None:
        raise KeysUnavailable("the shard of a new key was removed while it was made")
    return shard


def exists(path: Path) -> bool:
    return path.exists()


def remove(tenant_id: UUID, purpose: str, day: date) -> bool:
    """Overwrite and remove the shard, durably; whether there was one.

    On flash memory and copying file systems the old bytes may survive an overwriting: encrypt that disk.
    """
    return _remove(path_of(tenant_id, purpose, day))


def remove_all(tenant_id: UUID) -> int:
    """Remove every shard of the tenant; how many there were."""
    folder = _folder_of(tenant_id)
    count = sum(_remove(path) for path in sorted(folder.glob("*/*")))
    for purpose in folder.glob("*"):
        purpose.rmdir()
    if folder.exists():
        folder.rmdir()
        _sync(folder.parent)
    return count


def places(tenant_id: UUID) -> Iterator[tuple[str, date]]:
    """(purpose, day) of each shard of the tenant."""
    for path in sorted(_folder_of(tenant_id).glob(f"*/*{_ENDING}")):
        yield unquote(path.parent.name), date.fromisoformat(path.name.removesuffix(_ENDING))


def tenant_ids() -> list[UUID]:
    """Whose shards there are."""
    found = _root().iterdir() if _root().is_dir() else ()
    return [UUID(folder.name) for folder in found if _OF_TENANT.fullmatch(folder.name)]


def _remove(path: Path) -> bool:
    try:
        with path.open("r+b", buffering=0) as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        return False
    _sync(path.parent)
    return True


def _make_folder(folder: Path) -> None:
    """The folder and those above it, each closed to others and on the disk."""
    if folder.is_dir():
        return
    if folder != _root():
        _make_folder(folder.parent)
    folder.mkdir(mode=0o700, parents=folder == _root(), exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _folder_of(tenant_id: UUID) -> Path:
    return _root() / str(tenant_id)


def _root() -> Path:
    return Path(settings.KEY_SHARDS_DIR)
