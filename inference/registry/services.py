"""Writing the registry: what a fresh installation serves."""

from __future__ import annotations

from inference.models.source import GgufSource, embedder_source, parse_source
from inference.registry.models import Deployment, ModelVersion, Route
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
        kind=ModelVersion.Kind.TEXT,
        origin=source.origin,
        sha256=source.expected_sha256,
        precision="bfloat16",
        context_tokens=8192,
    )
    embedder = embedder_source(DEFAULT_EMBEDDER)
    assert embedder is not None and embedder.listed is not None
    _ensure(
        _EMBEDDER,
        name=embedder.name,
        kind=ModelVersion.Kind.EMBEDDING,
        origin=embedder.origin,
        sha256=embedder.listed["model.safetensors"],
        precision="float32",
        context_tokens=512,
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
    deployment: str,
    *,
    name: str,
    kind: ModelVersion.Kind,
    origin: str,
    sha256: str | None,
    precision: str,
    context_tokens: int,
) -> None:
    package, _, revision = origin.partition(":")[0].partition("==")
    version, _made = ModelVersion.objects.get_or_create(
        name=name,
        source=package,
        revision=revision,
        digest=f"sha256:{sha256}",
        precision=precision,
        defaults={"kind": kind, "served_id": name, "context_tokens": context_tokens},
    )
    Deployment.objects.get_or_create(
        name=deployment, defaults={"version": version, "base_url": Deployment.EMBEDDED}
    )


def _route(deployment_name: str, *, label: str, is_default: bool) -> Route:
    deployment = Deployment.objects.select_related("version").get(name=deployment_name)
    name = deployment.version.name
    existing = Route.objects.filter(name=name).first()
    return existing or add_route(name=name, label=label, deployment=deployment, is_default=is_default)
