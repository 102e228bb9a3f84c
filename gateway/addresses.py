"""Which addresses a gateway may fetch from: public unicast ones alone, whatever form they come in."""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv6 addresses that carry an IPv4 address in their last 32 bits: what they reach is what that one reaches.
_CARRIERS = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::ffff:0:0/96",  # mapped
        "::ffff:0:0:0/96",  # translated (SIIT)
        "64:ff9b::/96",  # NAT64
    )
)
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's metadata and health service: a public address that means this machine's host
        "64:ff9b:1::/48",  # NAT64 for local use
        "2002::/16",  # 6to4 and
        "2001::/32",  # Teredo: relays to an IPv4 address inside, and long out of use
        "::/96",  # IPv4-compatible, deprecated
        "fec0::/10",  # site-local, deprecated
    )
)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet: not private, loopback, link-local, multicast or metadata."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if any(address in carrier for carrier in _CARRIERS):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
