"""The heads a witness has signed, one small file a log. Each is on disk, whole, before anybody is told of it."""

import hashlib
import os
import tempfile
from pathlib import Path

from audit.tree.notes import Checkpoint, Note


class Heads:
    """The last head of every log, under a folder. Not for two processes at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def last(self, origin: str) -> Checkpoint | None:
        """The last head of a log; None when there was none yet. Raises BadNote for a file that was damaged."""
        note = self.note(log_id(origin))
        return None if note is None else Checkpoint.parse(Note.parse(note).text)

    def note(self, log: str) -> str | None:
        """The last head as a signed note, by `log_id`."""
        try:
            return (self._folder / log).read_text()
        except FileNotFoundError:
            return None

    def keep(self, origin: str, note: str) -> None:
        """From now on, whatever happens to the power, this is the log's last head."""
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._folder / log_id(origin))
        except BaseException:
            os.unlink(temporary)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def log_id(origin: str) -> str:
    """A log's name in file names and addresses."""
    return hashlib.sha256(origin.encode()).hexdigest()
