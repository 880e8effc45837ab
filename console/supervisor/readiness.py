"""Whether the product, and each of its parts, answers."""

import json
import urllib.error
import urllib.request
from typing import TypedDict

TIMEOUT_SECONDS = 5.0


class Part(TypedDict):
    ok: bool
    detail: str


def parts(address: str) -> dict[str, Part] | None:
    """What `/readyz` says of each part; None when the web process does not answer."""
    try:
        with _direct().open(f"{address}/readyz", timeout=TIMEOUT_SECONDS) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return None
    try:
        found: dict[str, Part] = json.loads(body)["parts"]
    except (ValueError, KeyError, TypeError):
        return None
    return found


def _direct() -> urllib.request.OpenerDirector:
    """An opener that no proxy variable leads astray."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
