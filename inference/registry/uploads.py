"""Uploads, in chunks that each name their place and digest, so that a broken connection costs no more than one of them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _

from inference.registry import store
from inference.registry.failures import ImportFailed
from inference.registry.imports import State, folder_of, import_by_id, refusal
from inference.registry.models import ModelImport
from inference.registry.operators import Operator, change, record
from tenants import clock
from tenants.errors import Refused

CHUNK_BYTES = 1 << 20  # Below what the web process takes as a body.
_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)
_SUFFIXES = frozenset({".safetensors", ".gguf", ".json", ".jinja", ".model", ".txt"})
_MOST_FILES = 500
# What no tokenizer and no configuration comes near.
_MOST_SMALL = 512 << 20


class WrongPlace(Exception):
    """The chunk does not begin where the file ends. received: where it does."""

    def __init__(self, received: int) -> None:
        super().__init__(received)
        self.received = received


def check_files(files: dict[str, int]) -> None:
    """Whether these files, {name: bytes}, can be a model's. Raises Refused."""
    if not files or len(files) > _MOST_FILES:
        raise Refused("files_missing", _("Choose the files of the model."), "files")
    for name, size in files.items():
        suffix = os.path.splitext(name)[1].lower()
        if suffix in store.PICKLES:
            raise refusal(ImportFailed("pickle", name), "files")
        if not _NAME.fullmatch(name) or (suffix not in _SUFFIXES and name != store.CARD):
            message = _(
                "“%(name)s” is no file of a model. Choose *.safetensors or a .gguf file, with config.json, "
                "the tokenizer’s files and README.md."
            )
            raise Refused("file_unknown", message % {"name": name[:100]}, "files")
        if suffix not in (".safetensors", ".gguf") and size > _MOST_SMALL:
            raise refusal(ImportFailed("too_large", name), "files")
        if size <= 0:
            raise Refused("file_empty", _("“%(name)s” is empty.") % {"name": name}, "files")
    names = {name.rpartition(".")[2] for name in files}
    if not names & {"safetensors", "gguf"}:
        raise refusal(ImportFailed("no_weights"), "files")
    total = sum(files.values())
    if total > settings.MODEL_UPLOAD_BYTES:
        message = _("The files are larger than %(most)d GB. Put them into the models’ folder of the server.")
        most = settings.MODEL_UPLOAD_BYTES // 1_000_000_000
        raise Refused("too_large", message % {"most": most}, "files")
    try:
        store.require_room(total)
    except ImportFailed as failure:
        raise refusal(failure, "files") from failure


@change
def announce(*, by: Operator, import_id: UUID, files: dict[str, int]) -> ModelImport:
    """Say which files an upload consists of, {name: bytes}; again to go on with it. Raises Refused.

    What is there of files that are announced no more, or with another size, is removed.
    """
    row = import_by_id(import_id)
    if row.state != State.RECEIVING:
        raise Refused("not_receiving", _("This upload takes no more files. Look at its page."))
    check_files(files)
    for name, size in received(row).items():
        if size > files.get(name, 0) or row.files[name] != files.get(name):
            (folder_of(row) / name).unlink(missing_ok=True)
    row.files, row.bytes_total = files, sum(files.values())
    row.bytes_done, row.touched = sum(received(row).values()), clock.now()
    row.save(update_fields=["files", "bytes_total", "bytes_done", "touched"])
    after = {"name": row.name, "files": files}
    record(by, "model.upload_announced", subject_id=row.pk, after=after)
    return row


def received(row: ModelImport) -> dict[str, int]:
    """How many bytes of each announced file are there."""
    folder = folder_of(row)
    return {name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in row.files}


def add_chunk(*, import_id: UUID, name: str, offset: int, content: bytes, sha256: str) -> int:
    """Write a chunk at the end of a file; how long the file is now. Raises Refused, and WrongPlace.

    Durable when it returns. Two that send at once do not mix: the second's place is wrong.
    """
    row = import_by_id(import_id)
    size = row.files.get(name)
    if row.state != State.RECEIVING or size is None:
        raise Refused("not_receiving", _("This upload takes no more of this file. Look at its page."))
    if not 0 < len(content) <= CHUNK_BYTES or hashlib.sha256(content).hexdigest() != sha256:
        raise Refused("chunk_damaged", _("A part of the file was damaged on its way. It is sent again."))
    folder = folder_of(row)
    folder.mkdir(parents=True, exist_ok=True)
    # Names were checked when they were announced: none leads out of the folder.
    with (folder / name).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        if end != offset or end + len(content) > size:
            raise WrongPlace(end)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        end += len(content)
    done = sum(received(row).values())
    ModelImport.objects.filter(pk=row.pk, state=State.RECEIVING).update(bytes_done=done, touched=clock.now())
    return end
