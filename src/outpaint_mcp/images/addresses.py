"""Which IP addresses a client's URL may lead to. Pure: resolves nothing and connects to nothing."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

# Cloud metadata services, which hand out credentials, and link-local neighbours. Never connected to.
_METADATA: Final = tuple(
    ip_network(net)
    for net in (
        "169.254.0.0/16",  # link-local; 169.254.169.254 on most clouds
        "fe80::/10",  # link-local
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::/32",  # Google
    )
)
_PRIVATE: Final = tuple(
    ip_network(net)
    for net in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)
# Besides what `is_global` excludes, which differs between versions of Python.
_SPECIAL: Final = tuple(
    ip_network(net)
    for net in (
        "0.0.0.0/8",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocols, Teredo among them
        "2001:db8::/32",
        "3fff::/20",
    )
)
_GLOBAL_IPV6: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")


def may_connect(address: str, *, allow_private: bool = False) -> bool:
    """Whether the IP address is a public one, or with `allow_private` a loopback or private one.

    Link-local and metadata addresses are never allowed, whatever form of IPv6 address embeds an IPv4 one.
    """
    try:
        checked = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(checked, IPv6Address):
        if checked.scope_id is not None:
            return False
        checked = _unwrapped(checked)
    if any(checked in net for net in _METADATA):
        return False
    if any(checked in net for net in _PRIVATE):
        return allow_private
    if any(checked in net for net in _SPECIAL):
        return False
    return checked.is_global if isinstance(checked, IPv4Address) else checked in _GLOBAL_IPV6


def is_private(address: str) -> bool:
    """Whether the IP address is a loopback or private one: of this machine or its network."""
    return may_connect(address, allow_private=True) and not may_connect(address)


def _unwrapped(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that this IPv6 address embeds, if it does."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or address


def is_address(host: str) -> bool:
    """Whether `host` is an IP address written in full, without the brackets of a URL."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
