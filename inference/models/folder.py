"""Make a verified folder of safetensors out of a source; the expensive part happens once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from inference.models.errors import DigestMismatch, ModelError, ModelNotFound, UnsafeWeights
from inference.models.manifest import MANIFEST_NAME, Manifest, describe, sha256_of
from inference.models.source import FolderSource, GgufSource, HubSource, Source

logger = logging.getLogger("custos.inference.models")

# Raise when the conversion below changes, so that folders made by the old one are made afresh.
_CONVERSION = 1
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder whose bytes match `manifest`."""

    path: Path
    manifest: Manifest


def prepare(source: Source, models_dir: Path, *, digest: str = "") -> ModelFolder:
    """The verified folder for `source`, made under `models_dir` if need be. Raises ModelError.

    digest: as the registry has it, sha256:<hex> of a GGUF file or of a folder's manifest; other files are refused.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    wanted = digest.removeprefix("sha256:")
    if isinstance(source, GgufSource):
        return _prepare_gguf(replace(source, expected_sha256=wanted) if wanted else source, models_dir)
    if isinstance(source, HubSource):
        source = _download(source, models_dir)
    found = _pin_folder(source, models_dir)
    if wanted not in ("", found.manifest.digest):
        raise DigestMismatch(f"{source.path} does not hold the files that are registered; import them again.")
    return found


# --- GGUF: de-quantise once ----------------------------------------------------------------------


def _prepare_gguf(source: GgufSource, models_dir: Path) -> ModelFolder:
    found = sha256_of(source.path)
    if source.expected_sha256 not in (None, found):
        raise DigestMismatch(
            f"{source.path} is not the file its package lists, or that is registered; reinstall or import it again."
        )
    identity = hashlib.sha256(f"{_CONVERSION} {found}".encode()).hexdigest()[:12]
    folder = models_dir / f"{source.name}-{identity}"
    with FileLock(models_dir / ".lock"):  # Released by the kernel should this process die.
        if folder.exists():
            try:
                return _verified(folder)
            except DigestMismatch as problem:
                logger.error("%s Making the folder again from %s.", problem, source.origin)
                shutil.rmtree(folder)
        _convert(source, folder)
        return _verified(folder)


def _verified(folder: Path) -> ModelFolder:
    manifest = Manifest.read(folder / MANIFEST_NAME)
    manifest.verify(folder)
    return ModelFolder(folder, manifest)


def _convert(source: GgufSource, folder: Path) -> None:
    """De-quantise to bf16 safetensors in a temporary folder, then rename it into place."""
    for leftover in folder.parent.glob(".converting-*"):  # From a process killed midway; we hold the lock.
        shutil.rmtree(leftover)
    logger.info("De-quantising %s to %s (once).", source.origin, folder)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder.parent) as temporary:
        target = Path(temporary) / "model"
        _dequantise(source, target)
        manifest = describe(
            target, name=source.name, source=source.origin, dtype="bfloat16", licence=source.licence
        )
        manifest.write(target / MANIFEST_NAME)
        os.replace(target, folder)


def _dequantise(source: GgufSource, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    place, file = str(source.path.parent), source.path.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            place,
            gguf_file=file,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{source.path} cannot be read as a GGUF model: {error}") from error
    if source.temperature is not None:
        model.generation_config.update(do_sample=True, temperature=source.temperature, top_p=source.top_p)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


# --- Folders: trust on first use, then hold to it -------------------------------------------------


def _pin_folder(source: FolderSource, models_dir: Path) -> ModelFolder:
    """Record the folder's digest the first time, and refuse different bytes ever after.

    A model version is immutable: the audit names it by digest, so a folder that changes under us
    must be registered again rather than served silently.
    """
    _check_layout(source.path)
    identity = hashlib.sha256(source.origin.encode()).hexdigest()[:12]
    pin = models_dir / f"{source.name}-{identity}.pin.json"
    with FileLock(models_dir / ".lock"):
        if pin.exists():
            manifest = Manifest.read(pin)
            try:
                manifest.verify(source.path)
            except DigestMismatch as problem:
                raise DigestMismatch(f"{problem} If the change is meant, delete {pin}.") from None
        else:
            manifest = describe(
                source.path,
                name=source.name,
                source=source.origin,
                dtype=str(_config(source.path).get("dtype") or "unknown"),
                licence=source.licence,
            )
            _check_listed(source, manifest)
            manifest.write(pin)
    return ModelFolder(source.path, manifest)


def _check_listed(source: FolderSource, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        if source.listed is not None and source.listed.get(name) != digest:
            raise DigestMismatch(
                f"{source.path / name} is not the file its package lists; reinstall the package."
            )


def _check_layout(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        if pickles:
            raise UnsafeWeights(
                f"{folder} holds only pickled weights ({pickles[0]}), which can run code when opened. "
                "Convert them to safetensors on a machine you can lose, then point at the result."
            )
        raise ModelNotFound(f"{folder} holds no *.safetensors weights.")
    for required in ("config.json", "tokenizer.json"):
        if not (folder / required).is_file():
            raise ModelNotFound(f"{folder} holds no {required}.")


def _config(folder: Path) -> dict[str, object]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder}/config.json is not valid JSON: {error}") from error
    return config if isinstance(config, dict) else {}


# --- Hub -----------------------------------------------------------------------------------------


def _download(source: HubSource, models_dir: Path) -> FolderSource:
    """Fetch the safe files of one revision; a revision already here needs no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            source.repository,
            revision=source.revision,
            cache_dir=models_dir / "hub",
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(f"Cannot fetch {source.repository}@{source.revision}: {error}") from error
    return FolderSource(source.name, Path(path), f"hub:{source.repository}@{Path(path).name}")
