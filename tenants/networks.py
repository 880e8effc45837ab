"""Networks from which somebody may come: lists of CIDR blocks."""

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network

from django.utils.translation import gettext as _

from tenants.errors import Refused

MOST = 100


def parse(lines: Sequence[str], *, field: str = "networks") -> list[str]:
    """The networks in their usual writing, each once. Raises Refused, naming the first that is none."""
    if len(lines) > MOST:
        raise Refused("too_many_networks", _("Name at most %(most)d networks.") % {"most": MOST}, field)
    return list(dict.fromkeys(_network(line.strip(), field) for line in lines if line.strip()))


def _network(text: str, field: str) -> str:
    try:
        found = ip_network(text, strict=False)
        if isinstance(found, IPv6Network) and (
            found.network_address.scope_id or found.network_address.ipv4_mapped
        ):
            raise ValueError("such an address never arrives")
    except ValueError:
        message = _("“%(text)s” is no network. Write addresses such as 10.1.0.0/16 or 2001:db8::/32.")
        raise Refused("network_invalid", message % {"text": text[:60]}, field) from None
    return str(found)


def admit(address: str, networks: Sequence[str]) -> bool:
    """Whether the address lies in one of the networks; none at all admit everybody, but an unknown address nobody."""
    if not networks:
        return True
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in ip_network(network) for network in networks)
