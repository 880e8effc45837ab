"""Writing the registry: what a fresh installation serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference.models.manifest import decisive_files
from inference.models.source import GgufSource, embedder_source, parse_source
from inference.registry.models import Deployment, Model, ModelVersion, Route, Stage, StageChange
from tenants.access import Level
from tenants.grants import open_to_everyone

DEFAULT_MODEL = "smollm2"  # As in `python -m inference.server --model`.
DEFAULT_EMBEDDER = "minilm"  # As in its `--embedder`.
_EMBEDDER = "embedded-embedder"


def ensure_default_registry() -> None:
    """The models that need no download, served by the service the supervisor starts. Idempotent.

    Raises inference.models.errors.ModelNotFound when a model's package is not installed.
    """
    source = parse_source(DEFAULT_MODEL)
    assert isinstance(source, GgufSource)
    _ensure(
        Deployment.EMBEDDED,
        name=source.name,
        title="SmolLM2 135M Instruct",
        origin=source.origin,
        sha256=source.expected_sha256 or "",
        precision="bfloat16",
        kind=ModelVersion.Kind.TEXT,
        licence=source.licence,
        architecture="LlamaForCausalLM",
        parameters=134_515_008,
        context_tokens=8192,
        location=DEFAULT_MODEL,
        files=_files(source.path.parent, {source.path.name: source.expected_sha256 or ""}),
        settings={"layers": 30, "width": 576, "heads": 9, "kv_heads": 3, "vocabulary": 49152},
    )
    embedder = embedder_source(DEFAULT_EMBEDDER)
    assert embedder is not None and embedder.listed is not None
    decisive = {path.name: embedder.listed.get(path.name, "") for path in decisive_files(embedder.path)}
    _ensure(
        _EMBEDDER,
        name=embedder.name,
        title="all-MiniLM-L6-v2",
        origin=embedder.origin,
        sha256=embedder.listed["model.safetensors"],
        precision="float32",
        kind=ModelVersion.Kind.EMBEDDING,
        licence=embedder.licence,
        architecture="BertModel",
        parameters=22_713_216,
        context_tokens=512,
        location=DEFAULT_EMBEDDER,
        files=_files(embedder.path, decisive),
        settings={"layers": 6, "width": 384, "heads": 12, "vocabulary": 30522},
    )


def ensure_default_route() -> Route:
    """The tenant in scope gets routes to the default models, for everyone; comes back the one to the model that chats.

    That one is the default if the tenant has none. Idempotent: a route that exists is granted as its tenant left it.
    """
    _route(_EMBEDDER, label="all-MiniLM-L6-v2", is_default=False)
    has_default = Route.objects.filter(is_default=True).exists()
    return _route(Deployment.EMBEDDED, label="SmolLM2 135M Instruct", is_default=not has_default)


def add_route(*, name: str, label: str, deployment: Deployment, is_default: bool = False) -> Route:
    """A new route of the tenant in scope, which everyone may use until somebody narrows it."""
    route = Route.objects.create(name=name, label=label, deployment=deployment, is_default=is_default)
    open_to_everyone(route, Level.VIEWER)
    return route


def _ensure(
    deployment: str, *, name: str, title: str, origin: str, sha256: str, precision: str, **facts: Any
) -> None:
    package, _, revision = origin.partition(":")[0].partition("==")
    model, _made = Model.objects.get_or_create(
        name=name, defaults={"title": title, "licence": facts["licence"]}
    )
    # Named by the digest of their weights, as audit records did before there were lists of files.
    version = model.versions.filter(
        revision=revision, digest=f"sha256:{sha256}", precision=precision, adapter=""
    ).first()
    if version is None:
        version = ModelVersion.objects.create(
            model=model,
            number=model.versions.count() + 1,
            source=package,
            revision=revision,
            digest=f"sha256:{sha256}",
            precision=precision,
            served_id=name,
            **facts,
        )
        StageChange.objects.create(version=version, number=1, stage=Stage.PRODUCTION, by_label="Custos")
    Deployment.objects.get_or_create(
        name=deployment,
        defaults={
            "version": version,
            "kind": Deployment.Kind.EMBEDDED,
            "base_url": Deployment.EMBEDDED,
        },
    )


def _files(folder: Path, digests: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": digest, "size": (folder / name).stat().st_size} for name, digest in digests.items()
    }


def _route(deployment_name: str, *, label: str, is_default: bool) -> Route:
    deployment = Deployment.objects.select_related("version__model").get(name=deployment_name)
    name = deployment.version.name
    existing = Route.objects.filter(name=name).first()
    return existing or add_route(name=name, label=label, deployment=deployment, is_default=is_default)
