"""Which addresses a stranger's URL may lead to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outpaint_mcp.images.addresses import is_address, may_connect

PUBLIC = ("93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808", "::ffff:8.8.8.8")
PRIVATE = (
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::1",
    "2002:a00:1::",
)
NEVER = (
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::ffff:100.100.100.200",
    "0.0.0.0",  # noqa: S104 (not bound to)
    "0.1.2.3",
    "::",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b:1::7f00:1",
    "2001:0:7f00:1::1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "fec0::1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "4000::1",
    "example.org",
    "127.1",
    "",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_connected_to(address: str) -> None:
    assert may_connect(address)
    assert may_connect(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_needs_the_operators_word(address: str) -> None:
    assert not may_connect(address)
    assert may_connect(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_link_local_metadata_and_special_addresses_are_never_connected_to(address: str) -> None:
    assert not may_connect(address)
    assert not may_connect(address, allow_private=True)


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_in_ipv6_never_opens_it(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for wrapped in ((0xFFFF << 32) | number, (0x64FF9B << 96) | number, (0x2002 << 112) | number << 80 | 1):
        for allow_private in (False, True):
            assert may_connect(str(ipaddress.IPv6Address(wrapped)), allow_private=allow_private) == may_connect(
                str(address), allow_private=allow_private
            )


@given(st.ip_addresses())
def test_nothing_opens_that_python_does_not_call_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if may_connect(str(address)):
        assert address.is_global or str(address).startswith(("2002:", "::ffff:"))
        assert not any((address.is_loopback, address.is_link_local, address.is_multicast))


def test_only_full_addresses_count_as_addresses() -> None:
    assert is_address("127.0.0.1")
    assert is_address("::1")
    assert not is_address("127.1")
    assert not is_address("0x7f.0.0.1")
    assert not is_address("0177.0.0.1")
    assert not is_address("2130706433")
    assert not is_address("[::1]")
