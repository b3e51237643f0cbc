"""Traffic from the initiator of a tunnel to its responder while one SA takes another's place."""

import asyncio
import time
from ipaddress import IPv4Address
from typing import Self

from warren_lab.namespace import Namespace
from warren_lab.ping import Ping
from warren_testkit.lab.gateways import Gateway

INTERVAL_SECONDS = 0.002
REPLY_LIMIT_SECONDS = 60.0


class Handover:
    """Pings from the initiator's network to the responder's, from `async with` to its end.

    The initiator changes to an SA that both ends hold, so that every request arrives. The responder may send under the new SA
    before the initiator holds it, and those replies are lost (RFC 7296, 2.8): how many depends on how fast the machine is. None is
    lost once the new SA has taken over. An old SA that is deleted before the new one is there loses requests.
    """

    def __init__(self, initiator: Gateway, responder: Gateway) -> None:
        self._responder = responder.namespace
        self._ping = Ping(
            initiator.namespace, IPv4Address(initiator.protected), IPv4Address(responder.protected), INTERVAL_SECONDS
        )
        self._before = 0
        self._done: float | None = None

    async def __aenter__(self) -> Self:
        self._before = echo_requests_received(self._responder)
        self._ping.start()
        await self._answered(0.0)
        return self

    async def done(self) -> None:
        """Both ends hold the new SA: from now on every reply counts. It returns when one has come."""
        self._done = time.time()
        await self._answered(self._done)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._ping.stop)

    def check(self) -> None:
        """After its end: no request was lost, and no reply since `done`.

        Raises:
            AssertionError: something was lost that must not be.
        """
        arrived, sent = echo_requests_received(self._responder) - self._before, self._ping.counts().sent
        assert arrived == sent, f"{sent - arrived} of {sent} requests did not arrive at the responder"
        done = self._done
        assert done is not None, "the handover was not done"
        lost = [echo.number for echo in self._ping.echoes() if echo.received is None and echo.sent >= done]
        assert not lost, f"replies to {lost} were lost after the handover"

    async def _answered(self, since: float) -> None:
        echo = await asyncio.to_thread(self._ping.wait_for_reply, REPLY_LIMIT_SECONDS, since)
        assert echo is not None, f"no reply within {REPLY_LIMIT_SECONDS:g} s"


def echo_requests_received(namespace: Namespace) -> int:
    """The ICMP echo requests that this namespace has received so far (icmpInEchos of RFC 1213)."""
    text = namespace.run("cat", "/proc/net/snmp")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
    return int(dict(zip(names, values, strict=True))["InEchos"])
