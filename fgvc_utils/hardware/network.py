"""This machine's place in the network that the machines of a run share.

Counts in no digest.
"""

import socket
import time

import psutil

from fgvc_utils.hardware.plan import Hardware


def check_rendezvous(hardware: Hardware) -> None:
    """Check that node 0, which this is, can be reached where `rendezvous` says.

    Raises
    ------
    ValueError
        The host is unknown, is the loopback, or is no address of this machine.
    """
    if hardware.nodes == 1:
        return
    host, _ = hardware.endpoint()
    address = _address(host)
    if address.startswith("127."):
        raise ValueError(
            f"rendezvous: {host!r} is the loopback address {address}, which no other node "
            "reaches; give the address of node 0 in the network that the nodes share"
        )
    if _interface(address) is None:
        raise ValueError(
            f"rendezvous: {host!r} ({address}) is no address of this machine; "
            "node 0, which runs the notebook, gives one of its own addresses"
        )


def await_name(host: str, seconds: float) -> None:
    """Return when a host's name is known; an operator may give it before the network knows it.

    Raises
    ------
    ValueError
        It is not known after so long.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            _address(host)
            return
        except ValueError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


def interface_towards(host: str) -> str | None:
    """The network interface over which this machine reaches a host, itself perhaps.

    None where it cannot be told; then the libraries choose.

    Raises
    ------
    ValueError
        The host is unknown, or there is no route to it.
    """
    address = _address(host)
    if name := _interface(address):
        return name
    # No packet is sent: connecting a datagram socket only asks for the route.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect((address, 9))
        except OSError as error:
            raise ValueError(f"rendezvous: no route to {host!r} ({error})") from None
        return _interface(route.getsockname()[0])


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise ValueError(f"rendezvous: the host {host!r} is not known here ({error})") from None


def _interface(address: str) -> str | None:
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None
