"""Integration scenarios between our own client and server over real UDP sockets.

Four groups: handshake, data, lifecycle, recovery. A UDP relay between the two may drop, repeat, damage or record datagrams.
"""

import asyncio

import pytest
from scapy.layers.inet import IP, UDP

from warren_ikev2.configuration import IkeLifetime, Lifetime, Limits
from warren_ikev2.errors import AuthenticationError, NoProposalChosenError, SessionClosedError
from warren_ikev2.esp.drops import PacketDroppedError
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.proposals import names
from warren_testkit.ikev2.udp_relay import (
    LIMIT_SECONDS,
    client_builder,
    ends,
    exchange,
    is_ike,
    packet,
    server_builder,
    until,
)
from warren_testkit.waiting import eventually

# ---- handshake


@pytest.mark.parametrize("group", ["x25519", "ecp256", "ecp384", "modp2048", "x448", "x25519-ke1_mlkem768"])
async def test_handshake_with_each_group(group: str) -> None:
    ike, esp = f"aes256gcm16-prfsha384-{group}", f"aes256gcm16-{group}"
    proposals = [names(ike)], [names(esp)]
    async with ends(client_builder().with_proposals(*proposals), server_builder().with_proposals(*proposals)) as both:
        left, right = await both.connect()
        assert str(left.info.suite) == str(right.info.suite) == ike
        await left.rekey()
        assert [str(child.suite) for child in left.children.values()] == [esp]
        await exchange(left, right)


@pytest.mark.parametrize("cipher", ["aes128gcm16", "chacha20poly1305", "aes256-sha384", "aes256gcm16-esn"])
async def test_each_cipher_carries_packets(cipher: str) -> None:
    async with ends(
        client_builder().with_proposals(esp=[names(cipher)]), server_builder().with_proposals(esp=[names(cipher)])
    ) as both:
        left, right = await both.connect()
        for number in range(5):
            await exchange(left, right, number)


async def test_the_second_choice_is_agreed() -> None:
    client = client_builder().with_proposals([names("aes256gcm16-prfsha512-ecp521"), names("aes128-sha256-modp2048")])
    async with ends(client, server_builder().with_proposals([names("aes128-sha256-modp2048")])) as both:
        left, _ = await both.connect()
        assert str(left.info.suite) == "aes128-sha256-prfsha256-modp2048"


async def test_the_guessed_group_is_corrected() -> None:
    """INVALID_KE_PAYLOAD (RFC 7296, 1.3)."""
    client = client_builder().with_proposals([names("aes256gcm16-prfsha384-x25519-ecp384")])
    async with ends(client, server_builder().with_proposals([names("aes256gcm16-prfsha384-ecp384")])) as both:
        await both.connect()
        assert len(both.relay.init_requests()) == 2


async def test_cookies_are_returned() -> None:
    async with ends(server=server_builder().with_limits(Limits(cookie_threshold=0))) as both:
        left, right = await both.connect()
        await exchange(left, right)
        assert len(both.relay.init_requests()) == 2


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p384", "rsa-2048"])
async def test_certificates_in_fragments(kind: str) -> None:
    authority = Authority.make()
    keys = [make_key(kind), make_key(kind)]
    client = client_builder().with_certificate([authority.issue("left", keys[0])], keys[0]).with_fragment_size(576)
    server = server_builder().with_certificate([authority.issue("right", keys[1])], keys[1]).with_fragment_size(576)
    async with ends(
        client.with_authorities(authority.certificate), server.with_authorities(authority.certificate)
    ) as both:
        await both.connect()
        assert max(len(data) for _, data in both.relay.seen if is_ike(data)) <= 576


# ---- data


async def test_a_thousand_packets_arrive_in_order() -> None:
    async with ends() as both:
        left, right = await both.connect()
        for number in range(1000):
            left.send_nowait(packet(number))
            assert await asyncio.wait_for(right.recv_packet(), LIMIT_SECONDS) == packet(number)


async def test_repeated_packets_are_refused_and_counted() -> None:
    async with ends() as both:
        left, right = await both.connect()
        both.relay.transform = lambda data, _: [data] if is_ike(data) else [data, data, data]
        for number in range(3):
            await exchange(left, right, number)
        assert both.server.metrics.esp_packets_decrypted == 3
        assert both.server.metrics.esp_replay_detected >= 4


async def test_reordered_packets_all_arrive() -> None:
    async with ends() as both:
        left, right = await both.connect()
        held: list[bytes] = []

        def reverse_ten(data: bytes, to_server: bool) -> list[bytes]:
            if is_ike(data):
                return [data]
            held.append(data)
            return [held.pop() for _ in range(10)] if len(held) == 10 else []

        both.relay.transform = reverse_ten
        for number in range(10):
            left.send_nowait(packet(number))
        received = [await asyncio.wait_for(right.recv_packet(), LIMIT_SECONDS) for _ in range(10)]
        assert received == [packet(number) for number in reversed(range(10))]


async def test_damaged_packets_are_dropped() -> None:
    async with ends() as both:
        left, right = await both.connect()
        both.relay.transform = lambda data, _: [data] if is_ike(data) else [data[:-1] + bytes([data[-1] ^ 1]), data]
        await exchange(left, right)
        assert both.server.metrics.snapshot()["esp_packets_dropped_integrity"] == 1


async def test_large_packets_are_fragmented() -> None:
    async with ends() as both:
        left, right = await both.connect()
        await left.send_packet(packet(7, 5000))
        pieces = [IP(await asyncio.wait_for(right.recv_packet(), LIMIT_SECONDS)) for _ in range(4)]
        assert sum(len(piece.payload) for piece in pieces) == 5008
        assert max(len(data) for _, data in both.relay.seen) <= 1472


async def test_packets_outside_the_selectors_are_not_sent() -> None:
    async with ends() as both:
        left, _ = await both.connect()
        with pytest.raises(PacketDroppedError):
            await left.send_packet(bytes(IP(src="10.1.0.1", dst="192.0.2.1") / UDP()))
        assert not [data for _, data in both.relay.seen if not is_ike(data)]


# ---- lifecycle


async def test_the_child_is_rekeyed_by_time_without_loss() -> None:
    lifetime = Lifetime(soft_seconds=0.3, hard_seconds=60.0, jitter=0.0)
    async with ends(client_builder().with_child_lifetime(lifetime)) as both:
        left, right = await both.connect()
        (first,) = left.children
        sent = 0
        async with asyncio.timeout(LIMIT_SECONDS):
            while first in left.children or len(left.children) != 1:
                await exchange(left, right, sent)
                sent += 1
        assert both.server.metrics.esp_packets_decrypted == sent


@pytest.mark.parametrize("limit", [{"soft_packets": 20}, {"soft_bytes": 2000}])
async def test_the_child_is_rekeyed_by_traffic(limit: dict[str, int]) -> None:
    lifetime = Lifetime(soft_seconds=None, hard_seconds=None, jitter=0.0, **limit)
    async with ends(client_builder().with_child_lifetime(lifetime)) as both:
        left, right = await both.connect()
        (first,) = left.children
        for number in range(40):
            await exchange(left, right, number)
        await until(left, lambda: first not in left.children)
        await exchange(left, right)


async def test_the_ike_sa_is_rekeyed_by_time() -> None:
    async with ends(client_builder().with_ike_lifetime(IkeLifetime(rekey_seconds=0.3, jitter=0.0))) as both:
        left, right = await both.connect()
        await until(left, lambda: left.ike_rekeys > 0)
        await exchange(left, right)


async def test_both_sides_rekey_at_once() -> None:
    async with ends() as both:
        left, right = await both.connect()
        before = set(left.children)
        async with asyncio.timeout(LIMIT_SECONDS):
            await asyncio.gather(
                *(side.rekey_child(next(iter(side.children))) for side in (left, right)), return_exceptions=True
            )
            while len(left.children) != 1 or len(right.children) != 1:
                await asyncio.wait(
                    [asyncio.ensure_future(left.changed()), asyncio.ensure_future(right.changed())],
                    return_when="FIRST_COMPLETED",
                )
        assert not before & set(left.children)
        await exchange(left, right)


async def test_an_expired_ike_sa_ends() -> None:
    lifetime = IkeLifetime(rekey_seconds=None, reauth_seconds=None)
    hard = Lifetime(soft_seconds=None, hard_seconds=0.3)
    async with ends(client_builder().with_ike_lifetime(lifetime).with_child_lifetime(hard)) as both:
        left, right = await both.connect()
        await until(left, lambda: not left.children)
        with pytest.raises(PacketDroppedError):
            await left.send_packet(packet())
        await until(right, lambda: not right.children)


async def test_reauthentication_keeps_the_session() -> None:
    async with ends(client_builder().with_ike_lifetime(IkeLifetime(reauth_seconds=0.3, jitter=0.0))) as both:
        left, _ = await both.connect()
        first = left.id
        await until(left, lambda: left.id != first and bool(left.children))

        async def is_carried() -> bool:  # until the next re-authentication replaces it, too
            again = await both.server.accept()
            await asyncio.wait_for(exchange(left, again), 1.0)
            return True

        replaced = (AssertionError, TimeoutError, PacketDroppedError, SessionClosedError)
        await eventually(is_carried, LIMIT_SECONDS, "packets both ways", ignoring=replaced)


async def test_closing_ends_both_sides() -> None:
    async with ends() as both:
        left, right = await both.connect()
        await right.close()
        assert isinstance(await asyncio.wait_for(left.wait_closed(), LIMIT_SECONDS), SessionClosedError)
        assert both.server.sessions == ()


# ---- recovery


async def test_a_lossy_handshake_succeeds() -> None:
    async with ends() as both:
        count = iter(range(1_000_000))
        both.relay.transform = lambda data, _: [] if next(count) % 3 == 0 else [data]
        left, right = await both.connect()
        both.relay.transform = lambda data, _: [data]
        await exchange(left, right)


async def test_repeated_and_damaged_messages_change_nothing() -> None:
    async with ends() as both:
        both.relay.transform = lambda data, _: [data[:40], data, b"\0" * 60, data, data[:-1] + b"\0"]
        left, right = await both.connect()
        await left.rekey()
        both.relay.transform = lambda data, _: [data]
        await exchange(left, right)


async def test_a_failed_handshake_does_not_affect_the_next() -> None:
    async with ends() as both:
        port = both.relay.transport.get_extra_info("sockname")[1]  # type: ignore[union-attr]  # it is made
        for wrong, error in (
            (client_builder().with_psk(b"wrong"), AuthenticationError),
            (client_builder().with_proposals([names("aes128-sha512-modp4096")]), NoProposalChosenError),
        ):
            with pytest.raises(error):
                await wrong.with_remote_ports(port, port).build().connect("127.0.0.1")
        left, right = await both.connect()
        await exchange(left, right)


async def test_a_short_outage_loses_only_its_own_packets() -> None:
    """An outage shorter than the retransmission limit: only the packets sent during it are lost."""
    async with ends(client_builder().with_dpd(0.2)) as both:
        left, right = await both.connect()
        both.relay.transform = lambda data, _: []
        await left.send_packet(packet(1))
        seen = len(both.relay.seen)
        async with asyncio.timeout(LIMIT_SECONDS):
            while not [data for _, data in both.relay.seen[seen:] if is_ike(data)]:
                both.relay.passed.clear()
                await both.relay.passed.wait()
        both.relay.transform = lambda data, _: [data]
        await exchange(left, right, 2)


async def test_a_dead_peer_is_detected_and_a_new_session_established() -> None:
    async with ends(client_builder().with_dpd(0.2)) as both:
        left, _ = await both.connect()
        both.relay.transform = lambda data, _: []
        await asyncio.wait_for(left.wait_closed(), LIMIT_SECONDS)
        assert both.client.metrics.dpd_timeout == 1
        both.relay.transform = lambda data, _: [data]
        left, right = await both.connect()
        await exchange(left, right)


async def test_junk_from_unauthenticated_peers_is_ignored() -> None:
    async with ends() as both:
        left, right = await both.connect()
        assert both.relay.transport is not None
        for junk in (b"", b"\xff", bytes(4), bytes(40), b"\0\0\0\1" + bytes(80), bytes(4) + b"x" * 28):
            both.relay.transport.sendto(junk, both.relay.addresses[True])
        await exchange(left, right)
