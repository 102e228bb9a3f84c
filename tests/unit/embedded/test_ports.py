"""Addresses and ports: each wrong one is named, before anything starts."""

import socket

import pytest

from tritonclip_server.embedded.errors import AddressProblem, PortInUse
from tritonclip_server.embedded.ports import LOOPBACK, Ports, check_distinct, find_port, find_ports, reachable, resolve

ANY = Ports(0, 0, 0)


def test_zeros_become_different_free_ports() -> None:
    found = find_ports(LOOPBACK, ANY)
    assert len({found.http, found.grpc, found.metrics, 0}) == 4


@pytest.mark.parametrize("port", [-1, 65536, 99999, 2**40])
def test_numbers_that_are_no_ports_are_refused(port: int) -> None:
    with pytest.raises(AddressProblem, match=f"{port} is no port"):
        find_ports(LOOPBACK, Ports(0, port, 0))
    with pytest.raises(AddressProblem, match=f"{port} is no port"):
        find_port(LOOPBACK, port)


def test_a_port_in_use_is_told_from_an_address_that_is_not_ours() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port} \(Address already in use\).*--gateway-port"):
            find_ports(LOOPBACK, Ports(0, 0, port))
    with pytest.raises(AddressProblem, match=r"192\.0\.2\.1:0 \(Cannot assign.*--address") as caught:
        find_port("192.0.2.1", 0)  # of documentation alone, so nobody's
    assert not isinstance(caught.value, PortInUse)


def test_the_same_port_twice_is_refused() -> None:
    with pytest.raises(AddressProblem, match="grpc and metrics cannot both listen on port 9000"):
        find_ports(LOOPBACK, Ports(0, 9000, 9000))
    with pytest.raises(AddressProblem, match="http and gateway cannot both listen on port 9000"):
        check_distinct(Ports(9000, 0, 0), 9000)
    assert check_distinct(ANY, 0) == ANY


@pytest.mark.parametrize("address", ["", "no such host", "::1", "1.2.3", "300.1.1.1", "x" * 300, "http://a", "a..b"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """An incomplete one such as 1.2.3 is an address for the resolver, though none of this machine."""
    with pytest.raises(AddressProblem):
        find_port(resolve(address), 0)


def test_names_and_the_open_address_are_reached_as_this_machine() -> None:
    assert resolve("localhost") == LOOPBACK
    assert reachable(resolve("0.0.0.0")) == LOOPBACK
    assert reachable("10.0.0.1") == "10.0.0.1"
