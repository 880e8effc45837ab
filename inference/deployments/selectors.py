"""Reading deployments: where a request can go. Rows only, no network."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.client import InferenceClient
from inference.registry.models import Deployment
from inference.registry.selectors import client_of


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that answers for a deployment. load: running and waiting over capacity, 0.0 when it is not known."""

    instance: int
    client: InferenceClient = field(repr=False)
    is_ready: bool
    load: float


def endpoints_of(deployment: Deployment) -> list[Endpoint]:
    """All places that answer for it, those that are ready first, of them the least loaded first."""
    return [Endpoint(instance=1, client=client_of(deployment), is_ready=deployment.enabled, load=0.0)]
