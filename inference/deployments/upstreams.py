"""Addresses of upstreams: which may be asked at all.

A platform administrator types them, and a server in the same network is the usual case, so private addresses are allowed.
Those of a cloud's metadata service are not: what they answer are credentials.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit, urlunsplit

from django.utils.translation import gettext as _

from tenants.errors import Refused

# Those that are not link-local: Amazon's by IPv6, Alibaba's.
_METADATA = {ip_address("fd00:ec2::254"), ip_address("100.100.100.200")}


def cleaned(text: str) -> str:
    """The address as it is kept: without /v1, which is asked for anyway. Raises Refused, by its text alone."""
    wrong = Refused("address", _("Give an address such as http://10.0.0.5:8000."), "base_url")
    text = text.strip()
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 — raises for what is none
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError):
        raise wrong from None
    is_plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= 400
    if parts.scheme not in ("http", "https") or not host or not is_plain or parts.query or parts.fragment:
        raise wrong
    if parts.username is not None or parts.password is not None:
        message = _("Leave name and password out of the address; a key has a field of its own.")
        raise Refused("credentials", message, "base_url")
    return urlunsplit(
        (parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/v1").rstrip("/"), "", "")
    )


def check(base_url: str) -> None:
    """Look its name up. Raises Refused when it is not known, or leads where nobody may ask."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        message = _("The name %(host)s is not known to this server.")
        raise Refused("unknown_host", message % {"host": parts.hostname}, "base_url") from None
    if any(_is_forbidden(ip_address(str(entry[4][0]).partition("%")[0])) for entry in found):
        message = _(
            "This address belongs to the network itself, where a cloud keeps credentials. It is not asked."
        )
        raise Refused("forbidden_address", message, "base_url")


def _is_forbidden(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    is_no_host = address.is_link_local or address.is_multicast or address.is_unspecified
    return is_no_host or address in _METADATA
