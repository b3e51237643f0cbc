"""The host's network as netlink reports it: addresses and routes that come and go, and the end of the TUN device."""

import asyncio
from collections.abc import Callable
from typing import Any

from pyroute2 import AsyncIPRoute

from warren_vpn.host.changes import MAIN_TABLE

SETTLING_S = 0.2
"""A change of network arrives as several messages: old address gone, link up, new address, IPv6 a little later."""
REOPEN_S = 1.0
_ADDRESS_EVENTS = frozenset({"RTM_NEWADDR", "RTM_DELADDR"})
_ROUTE_EVENTS = frozenset({"RTM_NEWROUTE", "RTM_DELROUTE"})


class NetworkMonitor:
    """Calls `on_change` after changes have settled, and `on_removed` when the watched device is gone."""

    def __init__(self, on_change: Callable[[], None], on_removed: Callable[[], None]) -> None:
        self._on_change = on_change
        self._on_removed = on_removed
        self._settling: asyncio.TimerHandle | None = None
        self.device: int | None = None
        """The index of the watched device."""

    async def run(self) -> None:
        """Read until cancelled. After an error of netlink, such as a queue that overflowed, anything may have changed."""
        while True:
            try:
                async with AsyncIPRoute() as netlink:
                    await netlink.bind()
                    while True:
                        async for message in netlink.get():
                            self._take(message)
            except OSError:
                self._on_change()
                await asyncio.sleep(REOPEN_S)

    def _take(self, message: Any) -> None:
        event = message.get("event")
        if event == "RTM_DELLINK" and message["index"] == self.device:
            self.device = None
            self._on_removed()
        elif (event in _ADDRESS_EVENTS and message["index"] != self.device) or (
            event in _ROUTE_EVENTS and message["table"] == MAIN_TABLE
        ):
            if self._settling is not None:
                self._settling.cancel()
            self._settling = asyncio.get_running_loop().call_later(SETTLING_S, self._on_change)

    def close(self) -> None:
        """Call nothing from now on."""
        if self._settling is not None:
            self._settling.cancel()
