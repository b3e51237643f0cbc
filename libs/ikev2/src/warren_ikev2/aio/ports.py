"""The bound ports of one endpoint: one for each number and IP version, and replaced ones that are still read for a while."""

import asyncio
from collections.abc import Callable, Sequence

from warren_ikev2.addresses import SocketAddress
from warren_ikev2.aio.udp import UdpPort

LEFT_SECONDS = 2.0
"""Seconds that a replaced port is still read, for what the peer sent before it received the update."""


class Ports:
    """Make it within the event loop. `watch` has each open port read."""

    def __init__(self, ports: Sequence[UdpPort], watch: Callable[[UdpPort], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._watch = watch
        self._bound = {_key(port.address): port for port in ports}
        self._left: dict[SocketAddress, tuple[UdpPort, asyncio.TimerHandle]] = {}
        for port in ports:
            watch(port)

    @property
    def are_open(self) -> bool:
        """Whether there is one; False after `close`."""
        return bool(self._bound)

    def at(self, local: SocketAddress) -> UdpPort | None:
        """The port from which this local address sends."""
        return self._bound.get(_key(local))

    def address_of(self, number: int) -> SocketAddress:
        """The bound address of a port; StopIteration if there is none of this number."""
        return next(port.address for (_, bound), port in self._bound.items() if bound == number)

    def rebind(self, address: SocketAddress) -> None:
        """Send from this address, by the port of the same number and IP version in place of its old one.

        The old port is still read for a while. Raises `OSError` if the address is not ours.
        """
        old = self.at(address)
        if old is not None and (old.address.host.is_unspecified or old.address == address):
            return
        self._bound[_key(address)] = self._cancel_close(address) if address in self._left else self._open(address)
        if old is not None:
            closing = self._loop.call_later(LEFT_SECONDS, lambda: self._close(self._cancel_close(old.address)))
            self._left[old.address] = (old, closing)

    def close(self) -> None:
        """Close all at once. May be called twice."""
        for address in tuple(self._left):
            self._close(self._cancel_close(address))
        for port in self._bound.values():
            self._close(port)
        self._bound.clear()

    def _cancel_close(self, address: SocketAddress) -> UdpPort:
        port, closing = self._left.pop(address)
        closing.cancel()
        return port

    def _open(self, address: SocketAddress) -> UdpPort:
        port = UdpPort(address.host, address.port)
        self._watch(port)
        return port

    def _close(self, port: UdpPort) -> None:
        self._loop.remove_reader(port.fileno())
        port.close()


def _key(address: SocketAddress) -> tuple[int, int]:
    return address.host.version, address.port
