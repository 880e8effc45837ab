"""Networks from which somebody may come: lists of CIDR blocks."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from django.utils.translation import gettext as _

from tenants.errors import Refused

MOST = 100


def parse(lines: Sequence[str], *, field: str = "networks") -> list[str]:
    """The networks in their usual writing, each once. Raises Refused, naming the first that is none."""
    found: dict[str, None] = {}
    for line in filter(None, (line.strip() for line in lines)):
        try:
            found[str(ip_network(line, strict=False))] = None
        except ValueError:
            message = _("“%(text)s” is no network. Write addresses such as 10.1.0.0/16 or 2001:db8::/32.")
            raise Refused("network_invalid", message % {"text": line[:60]}, field) from None
    if len(found) > MOST:
        raise Refused("too_many_networks", _("Name at most %(most)d networks.") % {"most": MOST}, field)
    return list(found)


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
