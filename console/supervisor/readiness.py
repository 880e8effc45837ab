"""Whether the product, and each of its parts, answers."""

import json
import urllib.error
import urllib.request
from typing import Any, TypedDict

TIMEOUT_SECONDS = 5.0


class Part(TypedDict):
    ok: bool
    detail: str


def parts(address: str) -> dict[str, Part] | None:
    """What `/readyz` says of each part; None when the web process does not answer."""
    try:
        with open_directly(f"{address}/readyz") as answer:
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


def open_directly(url: str) -> Any:
    """Open a URL of this machine, led astray by no proxy variable. Raises as urllib does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=TIMEOUT_SECONDS)
