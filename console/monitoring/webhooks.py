"""Requests to addresses that an administrator typed: the only way by which monitoring leaves the house.

https, no redirects, no proxy, bounded in time and size, and only to public addresses: those of this machine, of the
networks around it and of a cloud's metadata service are refused unless CUSTOS_WEBHOOK_NETWORKS names their network,
which then may also be spoken to by plain http. A name is looked up once, every address it has is checked, and the
connection goes to the address that was checked.

Signed as `Custos-Signature: v1=<hex>`: HMAC-SHA256 under the channel's secret over the timestamp, a dot and the body.
"""

import base64
import hmac
import http.client
import json
import socket
import ssl
import time
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings

CONNECT_S, TOTAL_S = 3.0, 10.0
LONGEST = 1000
_NAT64 = ip_network("64:ff9b::/96")


class NotSent(Exception):
    """It was not taken; the message says why, in English and without what the other side answered."""


class Unsafe(NotSent):
    """The address is not one that may be asked."""


def secret_of(channel_id: UUID) -> str:
    """The secret that the receiver checks signatures with. Derived, so it is stored nowhere."""
    derived = hmac.digest(base64.b64decode(settings.WEBHOOK_KEY), channel_id.bytes, "sha256")
    return "whsec_" + base64.urlsafe_b64encode(derived).decode().rstrip("=")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, sha256).hexdigest()


def post(url: str, *, secret: str, notice_id: UUID, body: dict[str, Any]) -> None:
    """Send it once. Raises NotSent."""
    scheme, host, port, path = taken_apart(url)
    raw, timestamp = json.dumps(body, ensure_ascii=False).encode(), str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Custos",
        "Custos-Notice": str(notice_id),
        "Custos-Timestamp": timestamp,
        "Custos-Signature": signature(secret, timestamp, raw),
    }
    connection = _Checked(host, port, address=_address(scheme, host, port), is_tls=scheme == "https")
    try:
        connection.request("POST", path, raw, headers)
        # Nothing of the answer is read but its status line and headers, which http.client bounds.
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotSent(f"not reachable ({type(error).__name__})") from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise NotSent(f"answered {status}")


def taken_apart(url: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, path with query). Raises Unsafe for what may not be asked, as far as the text tells."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError):
        raise Unsafe("this is no address") from None
    has_spaces = any(character.isspace() or ord(character) < 32 for character in url)
    if not host or has_spaces or parts.username is not None or parts.password is not None:
        raise Unsafe("this is no address")
    if parts.scheme not in ("http", "https"):
        raise Unsafe("the address must begin with https://")
    if parts.scheme == "http" and not settings.WEBHOOK_NETWORKS:
        raise Unsafe("the address must begin with https://")
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        _check(parts.scheme, host)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise Unsafe("this is no address")
    return parts.scheme, host, port, path


def _address(scheme: str, host: str, port: int) -> str:
    """The address to connect to. Raises NotSent, and Unsafe when any that the name has is not open to us."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotSent("the name is not known") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        _check(scheme, address)
    return addresses[0]


def _check(scheme: str, text: str) -> None:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    is_ours = any(address in ip_network(network) for network in settings.WEBHOOK_NETWORKS)
    if not is_ours and scheme != "https":
        raise Unsafe("the address must begin with https://")
    is_tunnel = isinstance(address, IPv6Address) and bool(
        address.sixtofour or address.teredo or address in _NAT64
    )
    if not is_ours and (not address.is_global or address.is_multicast or is_tunnel):
        raise Unsafe("the address is not a public one, and CUSTOS_WEBHOOK_NETWORKS does not name its network")


class _Checked(http.client.HTTPConnection):
    """Connects to an address that was checked; the name is only what the other side is called."""

    def __init__(self, host: str, port: int, *, address: str, is_tls: bool) -> None:
        super().__init__(host, port, timeout=TOTAL_S)
        self._address, self._is_tls = address, is_tls

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), timeout=CONNECT_S)
        self.sock.settimeout(TOTAL_S)
        if self._is_tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
