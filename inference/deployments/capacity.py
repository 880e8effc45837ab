"""How much memory deployed models may take on this machine, and how much one will take: estimated, before it is started."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

from inference.registry.models import Deployment, ModelVersion

# Python, torch, the kernels and the packaged embedder, measured of an idle instance and rounded up.
OVERHEAD_MB = 800
SHARE = 0.6
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.05}  # A parameter, with int8's scales.
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def budget_mb() -> int:
    """For all instances together: CUSTOS_INFERENCE_MEMORY_MB, or a share of what the machine or its container has."""
    return settings.INFERENCE_MEMORY_MB or int(_machine_mb() * SHARE)


def needed_mb(deployment: Deployment) -> int:
    """What one instance takes when it is full."""
    return weights_mb(deployment.version) + deployment.kv_memory_mb + OVERHEAD_MB


def weights_mb(version: ModelVersion) -> int:
    """By the number of parameters where it is known, else by the size of files that are taken for bfloat16."""
    a_parameter = _BYTES.get(version.precision, 4.0)
    size = version.parameters * a_parameter if version.parameters else version.file_bytes * a_parameter / 2.0
    return int(size / 1e6) + 1


def _machine_mb() -> int:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _CGROUP.read_text().strip()
    except OSError:
        limit = "max"
    return min(whole, int(limit) if limit.isdecimal() else whole) // 1_000_000
