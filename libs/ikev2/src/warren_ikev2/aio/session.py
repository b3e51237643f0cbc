"""One peer's session: IP packets in and out, for as long as the IKE_SA or a successor exists."""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from warren_ikev2.addresses import Path
from warren_ikev2.children import ChildSa, ChildUsage
from warren_ikev2.errors import IkeError, NotConnectedError, SessionClosedError
from warren_ikev2.esp import ecn, pmtu
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.table import SaPair, SaTable
from warren_ikev2.events import IkeSaEstablished, SessionId

QUEUE = 2048
"""Decrypted packets that wait for `recv_packet`; more are dropped, as a full interface queue does."""
EXHAUSTION = 1 << 30
"""Remaining sequence numbers below which a CHILD_SA is rekeyed: minutes at any rate that Python reaches."""


class Transport(Protocol):
    """What a session needs from its driver."""

    def send_esp(self, session: "Session", packet: bytes, tos: int) -> None:
        """Send an ESP packet to the session's peer."""

    def count_drop(self, reason: DropReason) -> None:
        """Count a dropped packet."""

    def rekey_session(self, session: "Session", spi_in: int | None) -> None:
        """Rekey the IKE_SA and its CHILD_SAs, or one CHILD_SA only."""

    def close_session(self, session: "Session") -> None:
        """Delete the IKE_SA."""

    def export_keys(self, session: "Session") -> str:
        """The line of Wireshark's table for the IKE_SA."""


class Session:
    """A peer. Made by the driver; `Client` wraps one, `Server.accept` returns one.

    `info` is what the handshake found: identities, algorithms, virtual addresses, path.
    """

    def __init__(self, transport: Transport, session_id: SessionId, info: IkeSaEstablished, path_mtu: int) -> None:
        self.id = session_id
        self.info = info
        self.path: Path = info.path
        self.children: dict[int, ChildSa] = {}
        self.ike_rekeys = 0
        """How often the IKE_SA was replaced."""
        self.rekey_seconds: float | None = None
        """How long the last rekeying of an SA took; None: the peer began it, or there was none."""
        self.on_packet: Callable[[bytes], None] | None = None
        """Called with each packet, in the event loop, instead of `recv_packet`."""
        self.table = SaTable()
        self._transport = transport
        self._path_mtu = path_mtu
        self._packets: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._closed = asyncio.Event()
        self._reason: IkeError | None = None
        self._rekeyed: set[asyncio.Future[None]] = set()
        self._watchers: list[asyncio.Future[None]] = []

    # ---- the API of a session

    async def recv_packet(self) -> bytes:
        """The next IP packet from the peer. Raises `SessionClosedError` when the session is over and all are taken."""
        packet = None if self._reason is not None and self._packets.empty() else await self._packets.get()
        if packet is None:
            self._packets.put_nowait(None)  # wake the other callers
            raise self._reason or SessionClosedError()
        return packet

    async def send_packet(self, packet: bytes) -> None:
        """Send an IP packet.

        Raises `SessionClosedError`, or `PacketDroppedError` with the reason if no CHILD_SA may carry it. A packet beyond `mtu` is
        fragmented if allowed; otherwise an ICMP error for its sender is received here as a packet.
        """
        self.send_nowait(packet)
        await asyncio.sleep(0)

    def send_nowait(self, packet: bytes) -> None:
        """`send_packet` without giving way to other tasks."""
        if self._reason is not None:
            raise self._reason
        try:
            self._send(packet)
        except PacketDroppedError as dropped:
            self._transport.count_drop(dropped.reason)
            raise

    def _send(self, packet: bytes) -> None:
        sa = self.table.outbound_for(packet)
        mtu = pmtu.inner_mtu(self._path_mtu, sa.transform, self.path.remote.host.version)
        tos = ecn.outer_tos(packet)
        if len(packet) <= mtu:
            self._transport.send_esp(self, sa.seal(packet), tos)
        elif pmtu.may_fragment(packet):
            for fragment in pmtu.fragment_ipv4(packet, mtu):
                self._transport.send_esp(self, sa.seal(fragment), tos)
        else:
            self._transport.count_drop(DropReason.TOO_BIG)
            if pmtu.may_be_answered(packet):
                self.deliver(pmtu.build_too_big(packet, mtu))

    async def rekey(self, timeout: float = 30.0) -> None:
        """Replace the IKE_SA and then its CHILD_SAs; returns when all is new.

        Raises `TimeoutError`, `SessionClosedError`, or the error of a CHILD_SA that was not replaced.
        """
        await self._rekey(None, timeout)

    async def rekey_child(self, spi_in: int, timeout: float = 30.0) -> None:
        """Replace one CHILD_SA, named by our SPI; errors as `rekey`, and `CommandError` for an unknown SPI."""
        await self._rekey(spi_in, timeout)

    async def _rekey(self, spi_in: int | None, timeout: float) -> None:
        if self._reason is not None:
            raise self._reason
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rekeyed.add(done)
        try:
            self._transport.rekey_session(self, spi_in)
            async with asyncio.timeout(timeout):
                await done
        finally:
            self._rekeyed.discard(done)

    def export_keys(self) -> str:
        """The IKE_SA's keys as a line of Wireshark's `ikev2_decryption_table`, good until the next rekeying.

        With it the session's IKE messages can be decrypted; only the user calls this. Raises `SessionClosedError`.
        """
        if self._reason is not None:
            raise self._reason
        return self._transport.export_keys(self)

    async def close(self, timeout: float = 5.0) -> None:
        """Delete the IKE_SA and wait for the peer's answer, at most `timeout` seconds. May be called twice."""
        if self._reason is None:
            self._transport.close_session(self)
            try:
                async with asyncio.timeout(timeout):
                    await self._closed.wait()
            except TimeoutError:
                self.mark_closed(SessionClosedError("the peer did not confirm the deletion"))

    async def wait_closed(self) -> IkeError:
        """Wait until the session is over; returns the reason."""
        await self._closed.wait()
        return self._reason or SessionClosedError()

    async def changed(self) -> None:
        """Wait until an SA is created, changed or deleted, or the session ends."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(waiter)
        await waiter

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._reason is not None

    @property
    def mtu(self) -> int:
        """The longest IP packet, in bytes, that passes whole. Raises `NotConnectedError` without a CHILD_SA."""
        for pair in self.table:
            return pmtu.inner_mtu(self._path_mtu, pair.outbound.transform, self.path.remote.host.version)
        raise NotConnectedError("the session has no CHILD_SA")

    # ---- called by the driver

    def install(self, child: ChildSa, waits_for: int | None = None) -> None:
        """Add a new CHILD_SA."""
        self.table.install(SaPair.of(child, os.urandom, waits_for=waits_for))
        self.children[child.spi_in] = child
        self.path = child.path
        self._notify_watchers()

    def remove(self, child: ChildSa, now: float) -> None:
        """Remove a deleted CHILD_SA."""
        self.table.remove(child.spi_in, now)
        self.children.pop(child.spi_in, None)
        self._notify_watchers()

    def move(self, path: Path, children: tuple[ChildSa, ...]) -> None:
        """Change the path of the session and its CHILD_SAs."""
        self.path = path
        self.children.update({child.spi_in: child for child in children if child.spi_in in self.children})
        self._notify_watchers()

    def deliver(self, packet: bytes) -> None:
        """Queue a packet for `recv_packet`."""
        if self.on_packet is not None:
            self.on_packet(packet)
        elif self._packets.qsize() < QUEUE:
            self._packets.put_nowait(packet)

    def usage(self) -> dict[int, ChildUsage]:
        """Return the usage of each CHILD_SA, by inbound SPI."""
        return {
            pair.inbound.spi: ChildUsage(
                pair.inbound.octets, pair.inbound.packets, pair.outbound.octets, pair.outbound.sequence
            )
            for pair in self.table
        }

    def nearly_exhausted(self) -> list[int]:
        """Inbound SPIs of the CHILD_SAs whose sequence numbers run out."""
        return [pair.inbound.spi for pair in self.table if pair.outbound.remaining < EXHAUSTION]

    def record_ike_rekey(self, seconds: float | None) -> None:
        """Count a replacement of the IKE_SA."""
        self.ike_rekeys += 1
        self.rekey_seconds = seconds
        self._notify_watchers()

    def mark_rekeyed(self, failure: IkeError | None = None) -> None:
        """Finish `rekey`, with success or a failure."""
        for future in self._rekeyed:
            if not future.done() and failure is not None:
                future.set_exception(failure)
            elif not future.done():
                future.set_result(None)

    def mark_closed(self, reason: IkeError) -> None:
        """The session is over."""
        if self._reason is not None:
            return
        self._reason = reason
        self._packets.put_nowait(None)
        self._closed.set()
        self._notify_watchers()
        self.mark_rekeyed(reason)

    def adopt(self, session_id: SessionId, info: IkeSaEstablished) -> None:
        """Continue this session on a re-authenticated IKE_SA (RFC 7296, 2.8.3)."""
        self.id = session_id
        self.info = info
        self.path = info.path

    def _notify_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for waiter in watchers:
            if not waiter.done():
                waiter.set_result(None)
