"""Imports: begun, cancelled and resumed by people, carried out by the worker; all that is known of one is its row.

A worker that dies leaves a row that nobody touches any more: another takes it up, and what is on the disk is not fetched
or uploaded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from inference.models.manifest import digest_of
from inference.models.source import served_name
from inference.registry import store, versions
from inference.registry.failures import ImportFailed, sentence
from inference.registry.hub import REPOSITORY, REVISION, Hub, RemoteFile
from inference.registry.models import ModelImport, ModelVersion
from inference.registry.operators import Operator, change, record
from tenants import clock
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.words import clean_name, clean_text

logger = logging.getLogger(__name__)

State = ModelImport.State
Source = ModelVersion.Source

# A running import that was not touched for so long has lost its worker; longer than anything takes that counts no bytes.
STALE = timedelta(minutes=3)
_EVERY_SECONDS = 0.5
_BLOCK = 4 << 20
_INSPECT_SECONDS = 90
_MOST_ANSWER = 2_000_000
_LOCK = 0x6D6F64656C73  # Any number, the same for all workers.
UNFINISHED = (State.RECEIVING, State.WAITING, State.RUNNING)
RESUMABLE = (State.FAILED, State.CANCELLED)


class Cancelled(Exception):
    """Somebody cancelled the import, or another worker took it up."""


@change
def begin(
    *,
    by: Operator,
    source_kind: str,
    source: str,
    name: str = "",
    title: str = "",
    revision: str = "",
    precision: str = "bfloat16",
    licence: str = "",
    files: dict[str, int] | None = None,
) -> ModelImport:
    """Begin an import; the worker takes it up, an upload once its files are there. Raises Refused.

    source: a folder's path beneath CUSTOS_MODELS_DIR, or a repository. files: {name: bytes} of an upload.
    """
    if precision not in versions.PRECISIONS:
        raise Refused("precision_unknown", _("Choose one of the precisions."), "precision")
    source, revision = source.strip(), revision.strip()
    if source_kind == Source.FOLDER:
        try:
            store.folder_beneath(source)
        except ImportFailed as failure:
            raise refusal(failure, "source") from failure
        suggested = source.rstrip("/").rpartition("/")[2]
    elif source_kind == Source.HUB:
        if not REPOSITORY.fullmatch(source) or ".." in source:
            raise Refused("hub_invalid", _("Write the repository as organisation/name."), "source")
        if not REVISION.fullmatch(revision) or ".." in revision:
            message = _("Name a revision: a commit, a tag or a branch.")
            raise Refused("revision_missing", message, "revision")
        suggested = source.rpartition("/")[2]
    elif source_kind == Source.UPLOAD:
        suggested = name
    else:
        raise Refused("source_unknown", _("Choose where the model comes from."), "source_kind")
    served = served_name(name or suggested)[:100]
    if not (name or suggested).strip() or served == "model":
        raise Refused("name_missing", _("Enter a name."), "name")
    row = ModelImport(
        name=served,
        title=clean_name(title, field="title", most=100) if title.strip() else "",
        source_kind=source_kind,
        source=source,
        revision=revision,
        precision=precision,
        licence=clean_text(licence, field="licence", most=100),
        files=files or {},
        bytes_total=sum((files or {}).values()),
        state=State.RECEIVING if source_kind == Source.UPLOAD else State.WAITING,
        by_id=by.user_id,
        by_label=by.label,
    )
    row.save(force_insert=True)
    after = {"name": row.name, "source": f"{row.source_kind}:{row.source}@{row.revision}"}
    record(by, "model.import_begun", subject_id=row.pk, after=after)
    return row


@change
def cancel(*, by: Operator, import_id: UUID) -> None:
    """End an import, within a second also where it is running; what is on the disk stays for a resumption."""
    _turn(by, import_id, UNFINISHED, State.CANCELLED, "model.import_cancelled")


@change
def resume(*, by: Operator, import_id: UUID) -> None:
    """Go on with one that failed or was cancelled, in the name of whoever resumes it."""
    row = import_by_id(import_id)
    is_short = row.source_kind == Source.UPLOAD and (not row.files or _missing(row))
    _turn(by, import_id, RESUMABLE, State.RECEIVING if is_short else State.WAITING, "model.import_resumed")
    ModelImport.objects.filter(pk=import_id).update(by_id=by.user_id, by_label=by.label)


@change
def discard(*, by: Operator, import_id: UUID) -> None:
    """Remove the files of one that was cancelled or failed for good."""
    row = import_by_id(import_id)
    _turn(by, import_id, RESUMABLE, State.CANCELLED, "model.import_discarded")
    transaction.on_commit(lambda: shutil.rmtree(folder_of(row), ignore_errors=True))


@change
def finish_upload(*, by: Operator, import_id: UUID) -> None:
    """All files are there: the worker verifies and registers them. Raises Refused where some are not."""
    row = import_by_id(import_id)
    if not row.files:
        raise Refused("files_missing", _("Choose the files of the model."), "files")
    if missing := _missing(row):
        raise refusal(ImportFailed("incomplete", missing[0]))
    _turn(by, import_id, (State.RECEIVING,), State.WAITING, "model.uploaded")


def import_by_id(import_id: UUID) -> ModelImport:
    """Raises NotVisible."""
    row = ModelImport.objects.select_related("version__model").filter(pk=import_id).first()
    if row is None:
        raise NotVisible(str(import_id))
    return row


def folder_of(row: ModelImport) -> Path:
    """Where an upload's or a download's files are gathered, and stay."""
    return store.store() / str(row.pk)


def refusal(failure: ImportFailed, field: str | None = None) -> Refused:
    return Refused(failure.code, sentence(failure.code, failure.detail), field)


def _missing(row: ModelImport) -> list[str]:
    """Announced files that are not there whole."""
    folder = folder_of(row)
    sizes = {path.name: path.stat().st_size for path in folder.glob("*")} if folder.is_dir() else {}
    return [name for name, size in sorted(row.files.items()) if sizes.get(name) != size]


def _turn(by: Operator, import_id: UUID, states: tuple[State, ...], to: State, kind: str) -> None:
    row = import_by_id(import_id)
    turned = ModelImport.objects.filter(pk=import_id, state__in=states).update(
        state=to, failure="", failure_detail="", touched=clock.now()
    )
    if not turned:
        message = _("The import is “%(state)s”, from which this is not possible.")
        raise Refused("wrong_state", message % {"state": row.get_state_display()})
    after = {"name": row.name, "state": str(to)}
    record(by, kind, subject_id=row.pk, before={"state": row.state}, after=after)


# --- What the worker does -----------------------------------------------------------------------------


def run_waiting() -> int:
    """Carry out what waits, one import after the other; how many it were. Another worker's is left to that."""
    done = 0
    while (row := _claim()) is not None:
        run(row)
        done += 1
    return done


def _claim() -> ModelImport | None:
    """The next import, now running; None while one is running already, or when none waits.

    One at a time: they read and write whole disks, and the worker has other things to do.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        stale = Q(state=State.RUNNING, touched__lt=clock.now() - STALE)
        if ModelImport.objects.filter(state=State.RUNNING).exclude(stale).exists():
            return None
        row = ModelImport.objects.filter(Q(state=State.WAITING) | stale).order_by("pk").first()
        if row is not None:
            row.state, row.touched = State.RUNNING, clock.now()
            row.save(update_fields=["state", "touched"])
        return row


def run(row: ModelImport) -> None:
    """Carry out an import that is claimed; how it ended is in its row."""
    progress = Progress(row)
    try:
        version = _register(row, progress)
    except Cancelled:
        return
    except ImportFailed as failure:
        progress.end(State.FAILED, failure=failure.code, failure_detail=failure.detail)
    except NotVisible:
        progress.end(State.FAILED, failure="not_allowed")
    except Refused as refused:
        code = "exists" if refused.code == "exists" else "unexpected"
        progress.end(
            State.FAILED, failure=code, failure_detail=row.name if code == "exists" else refused.code
        )
    except Exception as error:
        logger.exception("the import %s failed", row.pk)
        progress.end(State.FAILED, failure="unexpected", failure_detail=type(error).__name__)
    else:
        progress.end(State.DONE, version=version)


@dataclass
class Progress:
    """Writes how far a running import is, a few times a second; raises Cancelled once it is not ours any more."""

    row: ModelImport
    done: int = 0
    total: int = 0
    step: str = ""
    _next: float = field(default=0.0, repr=False)

    def begin(self, step: str, total: int, done: int = 0) -> None:
        """A step of so many bytes."""
        self.total, self.done = total, done
        self.enter(step)

    def enter(self, step: str) -> None:
        """A step of which no bytes are counted; the figures stay."""
        self.step, self._next = step, 0.0
        self.add(0)

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() >= self._next:
            self._write(step=self.step, bytes_done=self.done, bytes_total=self.total)
            self._next = time.monotonic() + _EVERY_SECONDS

    def end(self, state: State, **facts: Any) -> None:
        try:
            self._write(state=state, bytes_done=self.done, bytes_total=self.total, **facts)
        except Cancelled:
            pass

    def _write(self, **facts: Any) -> None:
        running = ModelImport.objects.filter(pk=self.row.pk, state=State.RUNNING)
        if not running.update(touched=clock.now(), **facts):
            raise Cancelled


def _register(row: ModelImport, progress: Progress) -> ModelVersion:
    """Fetch what is not there, verify it, read it, and register it."""
    revision = row.revision
    if row.source_kind == Source.HUB:
        revision = _download(row, progress)
    if row.source_kind == Source.FOLDER:
        root = Path(settings.MODELS_DIR) if settings.MODELS_DIR else Path()
        folder, location = store.folder_beneath(row.source), row.source.strip("/")
    else:
        root = folder = folder_of(row)
        location = folder.name
    found = store.files_of(folder, root=root)
    files = hashed(found, progress)
    progress.enter("reading")
    facts = inspect(folder)
    kind = _kind(facts["architecture"])
    only = next(iter(files)) if len(files) == 1 else ""
    digest = (
        files[only]["sha256"] if only else digest_of({name: each["sha256"] for name, each in files.items()})
    )
    by = Operator(label=row.by_label, user_id=row.by_id)
    with transaction.atomic():
        progress.enter("registering")
        return versions.register(
            by=by,
            name=row.name,
            title=row.title,
            kind=kind,
            source_kind=row.source_kind,
            source=row.source or row.name,
            revision=revision or digest[:12],
            digest=f"sha256:{digest}",
            precision=row.precision if kind == ModelVersion.Kind.TEXT else "float32",
            served_id=row.name,
            context_tokens=facts["context_tokens"] or 2048,
            architecture=facts["architecture"],
            parameters=facts["parameters"],
            licence=row.licence or facts["licence"],
            files=files,
            settings={"weights": facts["dtype"], **facts["settings"]},
            card=facts["card"],
            location=f"{location}/{only}" if only else location,
        )


def hashed(paths: list[Path], progress: Progress) -> dict[str, dict[str, Any]]:
    """{name: {"sha256", "size"}} of the files."""
    progress.begin("hashing", sum(path.stat().st_size for path in paths))
    found = {}
    for path in paths:
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
                progress.add(len(block))
        found[path.name] = {"sha256": digest.hexdigest(), "size": size}
    return found


def inspect(folder: Path) -> dict[str, Any]:
    """What the files say, read in a process that can do nothing else. Raises ImportFailed."""
    command = [sys.executable, "-m", "inference.models.inspect", str(folder)]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HF_HUB_OFFLINE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HOME": "/nonexistent",
    }
    try:
        ended = subprocess.run(
            command,
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_INSPECT_SECONDS,
            check=False,
        )
        said = ended.stdout[:_MOST_ANSWER].decode(errors="replace").splitlines()
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace").splitlines()
    try:
        answer = json.loads(said[-1])
        if "facts" in answer:
            return answer["facts"]
        raise ImportFailed(answer["refused"], answer["detail"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise ImportFailed("template_limits" if said else "limits") from None


def _kind(architecture: str) -> ModelVersion.Kind:
    """What a model makes of a text. GGUF names families in small letters; Custos reads those that chat."""
    if architecture.endswith(("ForCausalLM", "ForConditionalGeneration")) or architecture.islower():
        return ModelVersion.Kind.TEXT
    if architecture.endswith("Model"):
        return ModelVersion.Kind.EMBEDDING
    raise ImportFailed("architecture", architecture)


# --- Downloads ----------------------------------------------------------------------------------------


def _download(row: ModelImport, progress: Progress) -> str:
    """Fetch what is missing into the import's folder; the commit that it is."""
    hub, folder = Hub(row.source, row.revision), folder_of(row)
    commit, files = hub.files()
    folder.mkdir(parents=True, exist_ok=True)
    here = sum(min(_size(folder, file), file.size) for file in files)
    total = sum(file.size for file in files)
    store.require_room(total - here)
    progress.begin("fetching", total, here)
    for file in files:
        target = folder / file.name
        if not (target.is_file() and target.stat().st_size == file.size):
            _fetch(hub, commit, file, target, progress)
    return commit


def _size(folder: Path, file: RemoteFile) -> int:
    places = (folder / file.name, _part(folder / file.name))
    return max((path.stat().st_size for path in places if path.is_file()), default=0)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _fetch(hub: Hub, commit: str, file: RemoteFile, target: Path, progress: Progress) -> None:
    part = _part(target)
    offset = part.stat().st_size if part.is_file() else 0
    if offset > file.size:
        part.unlink()
        offset = 0
    with part.open("ab") as opened:
        if offset < file.size:
            for chunk in hub.read(commit, file, offset):
                opened.write(chunk)
                progress.add(len(chunk))
                if opened.tell() > file.size:
                    break
    if part.stat().st_size < file.size:
        raise ImportFailed("offline", file.name)
    with part.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if part.stat().st_size != file.size or file.sha256 not in ("", digest):
        part.unlink()
        raise ImportFailed("digest", file.name)
    part.replace(target)
