"""How fast this machine reads memory: what bounds a single stream, whose every token reads all weights once."""

from __future__ import annotations

import os
import time

# Well beyond any cache.
_BYTES = 1 << 29
_TRIES = 15


def read_bandwidth() -> float:
    """Gigabytes (10⁹) a second with a thread on every core, the best of several passes over half a gigabyte."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    values = torch.ones(_BYTES // 4)
    best = 0.0
    for _ in range(_TRIES):
        began = time.perf_counter()
        values.sum()
        best = max(best, _BYTES / (time.perf_counter() - began))
    return round(best / 1e9, 2)
