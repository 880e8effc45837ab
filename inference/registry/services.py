"""Writing the registry: what a fresh installation serves."""

from __future__ import annotations

from inference.models.source import GgufSource, parse_source
from inference.registry.models import Deployment, ModelVersion, Route

DEFAULT_MODEL = "smollm2"  # As in `python -m inference.server --model`.
_CONTEXT_TOKENS = 8192
_PRECISION = "bfloat16"


def ensure_default_registry() -> Deployment:
    """The model that needs no download, served by the service the supervisor starts. Idempotent.

    Raises inference.models.errors.ModelNotFound when the model's package is not installed.
    """
    source = parse_source(DEFAULT_MODEL)
    assert isinstance(source, GgufSource)
    package, _, revision = source.origin.partition(":")[0].partition("==")
    version, _made = ModelVersion.objects.get_or_create(
        name=source.name,
        source=package,
        revision=revision,
        digest=f"sha256:{source.expected_sha256}",
        precision=_PRECISION,
        defaults={"served_id": source.name, "context_tokens": _CONTEXT_TOKENS},
    )
    deployment, _made = Deployment.objects.get_or_create(
        name=Deployment.EMBEDDED, defaults={"version": version, "base_url": Deployment.EMBEDDED}
    )
    return deployment


def ensure_default_route() -> Route:
    """The tenant in scope gets a route to the default model, and it is the default if it has none. Idempotent."""
    deployment = Deployment.objects.select_related("version").get(name=Deployment.EMBEDDED)
    name = deployment.version.name
    route, _made = Route.objects.get_or_create(
        name=name,
        defaults={
            "label": "SmolLM2 135M Instruct",
            "deployment": deployment,
            "is_default": not Route.objects.filter(is_default=True).exists(),
        },
    )
    return route
