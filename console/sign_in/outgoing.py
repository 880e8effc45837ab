"""Requests to an issuer of a tenant's choosing: https except on this machine, no redirects, bounded in time and size."""

import time
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

CONNECT_S, READ_S, TOTAL_S = 3.0, 5.0, 10.0
MOST_BYTES = 1024 * 1024


class Unsafe(requests.RequestException):
    """The address is not one that may be asked, or the answer is not one that may be read."""


class IssuerSession(requests.Session):
    """A requests session for one conversation with an issuer. Raises Unsafe, a RequestException."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no credentials of ~/.netrc for an address that a tenant chose
        self.mount("https://", HTTPAdapter(max_retries=0))

    def request(self, method: Any, url: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        check_address(str(url))
        deadline = time.monotonic() + TOTAL_S
        kwargs.setdefault("proxies", requests.utils.get_environ_proxies(str(url)))
        kwargs |= {"timeout": (CONNECT_S, READ_S), "allow_redirects": False, "stream": True}
        response = super().request(method, url, **kwargs)
        with response:
            response._content = _read(response, deadline)
        if response.is_redirect:
            raise Unsafe("the issuer redirects, which is not followed")
        return response


def check_address(url: str) -> None:
    """Raises Unsafe for what is neither https nor on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port_is_sound = parts.port != 0
    except ValueError:
        raise Unsafe("this is no address") from None
    if not host or not port_is_sound or parts.username is not None or parts.password is not None:
        raise Unsafe("this is no address")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise Unsafe("the address must begin with https://")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read(response: requests.Response, deadline: float) -> bytes:
    content = bytearray()
    parts = response.iter_content(64 * 1024)
    while True:
        try:
            part = next(parts, None)
        except requests.ConnectionError:  # which requests also makes of a body that stops coming
            raise Unsafe("the answer does not come to its end") from None
        if part is None:
            return bytes(content)
        content += part
        if len(content) > MOST_BYTES:
            raise Unsafe("the answer is too large")
        if time.monotonic() > deadline:
            raise Unsafe("the answer takes too long")
