"""The master key in a file of mode 0600: `var/secrets/master.key`, base64 of 32 bytes.

While it is rotated, `master.key.next` lies beside it: keys are wrapped under that one, and both open. When every tenant's
key is wrapped anew the next one takes its place, and the one before stays as `master.key.previous` until
`manage.py keys retire` finds that nothing needs it.
"""

import base64
import hashlib
import os
import tempfile
from pathlib import Path
from uuid import UUID

from django.utils.translation import gettext as _

from tenants.errors import Refused
from tenants.keyring.ciphers import KEY_BYTES, decrypt, encrypt
from tenants.keyring.errors import KeysUnavailable, Tampered


class LocalFileProvider:
    """Wraps under a master key that is read from its file whenever it is needed."""

    name = "local"

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._next = self._path.with_name(f"{self._path.name}.next")
        self.previous = self._path.with_name(f"{self._path.name}.previous")

    @property
    def is_rotating(self) -> bool:
        return self._next.exists()

    def key_id(self) -> str:
        return _fingerprint(self.keys()[0])

    def wrap(self, tenant_id: UUID, key: bytes) -> bytes:
        return encrypt(self.keys()[0], key, _aad(tenant_id))

    def unwrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        for master in self.keys():
            try:
                return decrypt(master, wrapped, _aad(tenant_id))
            except Tampered:
                continue
        raise Tampered("the master key does not open this tenant's key")

    def unwrap_by_newest(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        """As unwrap, but not with a master key of before."""
        return decrypt(self.keys()[0], wrapped, _aad(tenant_id))

    def rewrap(self, tenant_id: UUID, wrapped: bytes) -> bytes:
        return self.wrap(tenant_id, self.unwrap(tenant_id, wrapped))

    def rotate(self) -> None:
        if self.is_rotating:
            return  # One that was begun goes on.
        if self.previous.exists():
            message = _("What the last rotation left behind is still there: run manage.py keys retire first.")
            raise Refused("retire_first", message)
        handle, temporary = tempfile.mkstemp(dir=self._path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(base64.b64encode(os.urandom(KEY_BYTES)).decode())
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, self._next)
            self._sync()
        except FileExistsError:
            pass
        except OSError as error:
            raise KeysUnavailable(f"the next master key cannot be written: {error.strerror}") from error
        finally:
            os.unlink(temporary)

    def finish_rotation(self) -> None:
        if not self.is_rotating:
            return
        if not self.previous.exists():
            os.link(self._path, self.previous)
            self._sync()
        elif self._read(self.previous) != self._read(self._path):
            # Put there by hand: going on would lose the key under which something may still be wrapped.
            raise KeysUnavailable(f"{self.previous.name} is not the master key that is being replaced")
        os.replace(self._next, self._path)
        self._sync()

    def drop_previous(self) -> None:
        """Remove the master key of before the last rotation."""
        self.previous.unlink(missing_ok=True)
        self._sync()

    def keys(self) -> list[bytes]:
        """The master keys there are, the one to wrap with first. Raises KeysUnavailable."""
        found = [self._read(path) for path in (self._next, self._path, self.previous)]
        if not (present := [key for key in found if key is not None]):
            raise KeysUnavailable(f"there is no master key in {self._path.parent.name}/{self._path.name}")
        return list(dict.fromkeys(present))

    def _read(self, path: Path) -> bytes | None:
        try:
            key = base64.b64decode(path.read_text().strip())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise KeysUnavailable(f"{path.name} cannot be read") from error
        if len(key) != KEY_BYTES:
            raise KeysUnavailable(f"{path.name} must hold 32 bytes in base64")
        return key

    def _sync(self) -> None:
        handle = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _aad(tenant_id: UUID) -> bytes:
    return f"tenant-key:{tenant_id}".encode()


def _fingerprint(key: bytes) -> str:
    """Tells keys apart and says nothing of them: they are random."""
    return hashlib.sha256(b"custos master key" + key).hexdigest()[:16]
