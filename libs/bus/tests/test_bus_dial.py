"""Waits between attempts: jittered, growing, bounded, and steadier for a client that was refused."""

import asyncio
from collections import Counter
from random import Random
from urllib.parse import urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client, Srv

from warren_bus.client import PatchedClient
from warren_bus.connect_backoff import FIRST_WAIT, REFUSED_LIMIT, RETURN_SPREAD, UNREACHABLE_LIMIT, ConnectBackoff


def waits(backoff: ConnectBackoff, tries: int = 40) -> list[float]:
    return [backoff.next() for _ in range(tries)]


@given(seed=st.integers())
def test_waits_grow_to_a_limit_and_never_beyond(seed: int) -> None:
    found = waits(ConnectBackoff(Random(seed)))
    assert found[0] <= FIRST_WAIT
    assert max(found) <= UNREACHABLE_LIMIT
    assert min(found[10:]) >= UNREACHABLE_LIMIT / 4


REFUSAL = RuntimeError("nats: 'Authorization Violation'")


def test_a_refused_client_is_back_within_fifteen_seconds_of_being_admitted_again() -> None:
    backoff = ConnectBackoff(Random(1))
    for _ in range(1_000):
        backoff.failed(REFUSAL)
        assert backoff.next() <= 15.0
    backoff.failed(REFUSAL)
    assert REFUSED_LIMIT / 2 <= backoff.next() <= REFUSED_LIMIT
    backoff.failed(ConnectionRefusedError())
    assert max(waits(backoff)) <= UNREACHABLE_LIMIT


def test_a_refused_fleet_of_ten_thousand_retries_evenly() -> None:
    attempts: Counter[int] = Counter()
    for number in range(10_000):
        backoff, moment = ConnectBackoff(Random(number)), 0.0
        while moment < 120.0:
            backoff.failed(REFUSAL)
            moment += backoff.next()
            attempts[int(moment)] += 1
    busiest = max(attempts[second] for second in range(60, 120))  # everybody began in the same moment, a minute ago
    assert busiest < 1_200


def test_success_resets_the_wait() -> None:
    backoff = ConnectBackoff(Random(1))
    waits(backoff)
    backoff.succeeded()
    assert backoff.next() <= FIRST_WAIT


def test_a_fleet_whose_first_attempts_failed_is_spread_over_seconds() -> None:
    seconds = []
    for number in range(1_000):
        backoff = ConnectBackoff(Random(number), return_spread_s=RETURN_SPREAD)
        assert backoff.next() <= FIRST_WAIT
        backoff.failed(ConnectionRefusedError())
        seconds.append(int(backoff.next()))
    assert max(seconds) < RETURN_SPREAD
    assert all(150 < seconds.count(second) < 250 for second in range(int(RETURN_SPREAD)))


def test_a_fleet_does_not_return_as_one_wave() -> None:
    fleet = [ConnectBackoff(Random(number)) for number in range(1_000)]
    for backoff in fleet:
        waits(backoff, 10)
    moments = sorted(backoff.next() for backoff in fleet)
    busiest = max(
        sum(1 for moment in moments if start <= moment < start + 0.5) for start in range(int(UNREACHABLE_LIMIT))
    )
    assert busiest < 150  # of 1,000 in any half second; a fixed wait would bring all


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed meanwhile"])
async def test_a_client_leaves_no_socket_behind(closed: bool) -> None:
    """Each try closes the socket of the one before it, and a client that was closed meanwhile its own."""
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.put_nowait(rest)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client, target = PatchedClient(), Srv(urlparse(f"nats://127.0.0.1:{port}"))
        client.options["connect_timeout"] = 60
        await client._connect_to_server(target)
        if closed:
            client._status = Client.CLOSED
            with pytest.raises(asyncio.CancelledError):
                await client._connect_to_server(target)
            assert await asyncio.wait_for(ended.get(), 60) == b""  # and no further one was opened
        else:
            await client._connect_to_server(target)
            assert await asyncio.wait_for(ended.get(), 60) == b""
            client._close_socket()
            assert await asyncio.wait_for(ended.get(), 60) == b""


async def test_a_flush_returns_after_what_was_sent_before_it() -> None:
    sent: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n')
        while line := await reader.readline():
            sent.append(line.decode().split(" ")[0].strip())
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = PatchedClient()
    async with server:
        await client.connect(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", connect_timeout=60)
        sent.clear()
        await client.subscribe("a")
        await client.flush()
        assert sent == ["SUB", "PING"]
        await client.close()
