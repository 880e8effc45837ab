"""Requests to an issuer of a tenant's choosing: https, no redirects, bounded in time and size.

Where people come to Custos by plain http, on the machine itself or for a trial, an issuer on the same machine may be
plain http as well.
"""

import socket
import time
from contextlib import suppress
from ipaddress import ip_address
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

import requests
from django.conf import settings
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
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(max_retries=0))

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


class _Adapter(HTTPAdapter):
    """Its connections end after TOTAL_S, whatever the other side still sends: waits are bounded one by one only."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ends: list[_End] = []

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        connection, ends = type(pool).ConnectionCls, self._ends

        class Bounded(connection):  # type: ignore[misc, valid-type]
            def _new_conn(self) -> socket.socket:
                found: socket.socket = super()._new_conn()
                ends.append(_End(found))
                return found

        pool.ConnectionCls = Bounded
        return pool

    def close(self) -> None:
        super().close()
        for end in self._ends:
            end.forget()


class _End:
    """The end of a connection in TOTAL_S. A TLS handshake takes the socket itself over; its twin stays ours."""

    def __init__(self, connected: socket.socket) -> None:
        self._twin = connected.dup()
        self._timer = Timer(TOTAL_S, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        with suppress(OSError):  # the other side was quicker
            self._twin.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        self._timer.cancel()
        self._twin.close()


def check_address(url: str) -> None:
    """Raises Unsafe for what is not https, nor plain http on this machine where that is enough."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port_is_sound = parts.port != 0
    except ValueError:
        raise Unsafe("this is no address") from None
    if not host or not port_is_sound or parts.username is not None or parts.password is not None:
        raise Unsafe("this is no address")
    is_near = parts.scheme == "http" and is_loopback(host) and not settings.BEHIND_TLS
    if parts.scheme != "https" and not is_near:
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
        if time.monotonic() > deadline:
            raise Unsafe("the answer takes too long")
        if part is None:
            return bytes(content)
        content += part
        if len(content) > MOST_BYTES:
            raise Unsafe("the answer is too large")
