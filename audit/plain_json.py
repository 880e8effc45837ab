"""JSON that every reader takes. Python writes NaN and Infinity, which no other JSON knows; what people sent may hold them."""

import json
import math
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """As json.dumps; what is no number is null."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
