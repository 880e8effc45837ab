"""Where files of models are: in the folder of this server's operators, or in our own store. No path leads out of either."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings

from inference.models.manifest import decisive_files
from inference.registry.failures import ImportFailed

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
CARD = "README.md"


def store() -> Path:
    """What was uploaded or downloaded."""
    return Path(settings.VAR_DIR) / "models" / "store"


def folder_beneath(text: str) -> Path:
    """A folder of CUSTOS_MODELS_DIR by its path in there. Raises ImportFailed."""
    if settings.MODELS_DIR is None:
        raise ImportFailed("no_models_dir")
    root = Path(settings.MODELS_DIR).resolve()
    if "\x00" in text or not text.strip("/. "):
        raise ImportFailed("folder", text.replace("\x00", ""))
    wanted = root / text
    found = wanted.resolve()
    # Before anything else is said: outside, nobody learns what there is.
    if not found.is_relative_to(root) or ".." in wanted.parts:
        raise ImportFailed("outside", text)
    if not found.is_dir():
        raise ImportFailed("folder", text)
    return found


def is_there() -> bool:
    """Whether this server has a folder for models."""
    return settings.MODELS_DIR is not None and Path(settings.MODELS_DIR).is_dir()


def folders() -> list[str]:
    """Those of CUSTOS_MODELS_DIR that look like models, two levels deep at most, by path."""
    if settings.MODELS_DIR is None or not is_there():
        return []
    root = Path(settings.MODELS_DIR).resolve()
    found = [path for pattern in ("*/", "*/*/") for path in root.glob(pattern) if path.is_dir()]
    names = (path.relative_to(root).as_posix() for path in found if _has_weights(path))
    return sorted(name for name in names if not name.startswith("."))[:500]


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.gguf"))


def files_of(folder: Path, *, root: Path) -> list[Path]:
    """All that decides a model's answers: what the inference process loads and verifies. Raises ImportFailed."""
    if any(folder.glob("*.safetensors")):
        for required in ("config.json", "tokenizer.json"):
            if not (folder / required).is_file():
                raise ImportFailed("missing", required)
        found = decisive_files(folder)
    else:
        found = sorted(folder.glob("*.gguf"))
        if len(found) != 1:
            pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
            raise ImportFailed("pickle", pickles[0]) if pickles else ImportFailed("no_weights")
    for path in found:
        if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
            raise ImportFailed("outside", path.name)
    return found


def require_room(needed: int) -> None:
    """Raises ImportFailed when the store's disk has less than this and a little more."""
    store().mkdir(parents=True, exist_ok=True)
    missing = needed + (1 << 30) - shutil.disk_usage(store()).free
    if missing > 0:
        raise ImportFailed("space", f"{missing / 1e9:.1f} GB")
