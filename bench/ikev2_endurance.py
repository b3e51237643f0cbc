"""`ike_flood` and `ike_rekey_growth`: what attacks and age do to an endpoint.

Two engines and a wire without latency in one process: what is measured is the computing of both sides, no socket.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address
from pathlib import Path as FilePath

from harness import Bench, Row, absolute

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.configuration import Limits
from warren_ikev2.constants import ExchangeType, HeaderFlag, KeGroup
from warren_ikev2.events import ChildSaRekeyed, IkeSaEstablished, IkeSaRekeyed
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_message
from warren_ikev2.wire.payloads import KePayload, NoncePayload, SaPayload
from warren_testkit.ikev2.pair import Pair, make_pair
from warren_testkit.ikev2.proposals import parse_ike_proposals

ATTACKS = 10_000
FLOOD_TARGET_MS = 100.0  # the bound for a handshake without an attack
RUNS = 5
REKEYS = 10_000
WARM_UP = 500  # rekeys until caches and the allocator's arenas have their size
GROWTH_TARGET_KB = 1024.0  # a tenth of a kB a rekey: less than one forgotten key with its object
SETTLE_SECONDS = 11.0  # of the wire's clock; a replaced IKE_SA lingers 10


def _attack(pair: Pair) -> None:
    """IKE_SA_INITs from as many addresses, which nobody follows up."""
    proposals = parse_ike_proposals("aes256gcm16-prfsha384-x25519")
    key = KePayload(KeGroup.X25519, b"\x09" + bytes(31))
    payloads: list[SaPayload | KePayload | NoncePayload] = [SaPayload(proposals), key, NoncePayload(bytes(32))]
    first = ip_address("10.0.0.1")
    for number in range(ATTACKS):
        header = Header(number.to_bytes(8, "big"), bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0)
        path = Path(pair.sun.address, SocketAddress(first + number, 500))
        pair.sun.endpoint.receive_datagram(build_message(header, payloads), path, pair.wire.now)


def _good_client() -> float:
    """Milliseconds of a handshake that waits behind the whole flood's answers."""
    pair = make_pair()
    _attack(pair)
    if pair.sun.endpoint.size != Limits().cookie_threshold:
        raise RuntimeError(f"{pair.sun.endpoint.size} IKE_SAs are half open: cookies did not hold the flood back")
    moon, sun = pair.moon.address.host, pair.sun.address.host
    pair.wire.fate = lambda datagram: (
        (0.0,) if {datagram.path.local.host, datagram.path.remote.host} == {moon, sun} else ()
    )
    begin = time.perf_counter()
    pair.start()
    pair.wire.run(1)
    took = time.perf_counter() - begin
    if not (pair.moon.all(IkeSaEstablished) and pair.sun.all(IkeSaEstablished) and pair.moon.children):
        raise RuntimeError("the good client did not get through the flood")
    return took * 1000


def measure_flood() -> Iterable[Row]:
    samples = [_good_client() for _ in range(RUNS)]
    note = f"both sides' computing, next to {ATTACKS:,} IKE_SA_INITs from as many addresses; asked for a cookie; PSK, X25519"
    yield absolute("ike_flood", samples, "ms", better="lower", target=FLOOD_TARGET_MS, note=note)


def _resident_kb() -> float:
    pages = int(FilePath("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def _rekey(pair: Pair, number: int) -> None:
    """IKE_SA and CHILD_SA in turns, by each side in turns; nothing that the wire or the hosts saw is kept."""
    host = (pair.moon, pair.sun)[number // 2 % 2]
    session = pair.moon_session if host is pair.moon else pair.sun_session
    old = {side.name: side.children[0].spi_in for side in (pair.moon, pair.sun)}
    if number % 2:
        host.endpoint.commands.rekey_ike(session, pair.wire.now)
    else:
        host.endpoint.commands.rekey_child(session, host.children[0].spi_in, pair.wire.now)
    pair.wire.run(SETTLE_SECONDS)
    kind = IkeSaRekeyed if number % 2 else ChildSaRekeyed
    for side in (pair.moon, pair.sun):
        if side.endpoint.size != 1 or not side.all(kind):
            raise RuntimeError(f"rekeying {number} left {side.endpoint.size} IKE_SAs at {side.name}")
        if (side.children[0].spi_in == old[side.name]) != bool(number % 2) or len(side.children) != 1:
            raise RuntimeError(f"rekeying {number} did not replace the CHILD_SA alone at {side.name}")
        newest = side.all(ChildSaRekeyed)[-1:]
        side.events[:] = [side.last(IkeSaEstablished), *newest]
    pair.wire.sent.clear()


def _growth(warm_up: int, rekeys: int) -> float:
    """kB; in a process of its own, where no earlier benchmark's freed memory can hide it."""
    pair = make_pair().establish()
    for number in range(warm_up):
        _rekey(pair, number)
    before = _resident_kb()
    for number in range(rekeys):
        _rekey(pair, number)
    return _resident_kb() - before


def measure_rekey_growth() -> Iterable[Row]:
    samples = []
    for _ in range(RUNS):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            samples.append(pool.submit(_growth, WARM_UP, REKEYS).result())
    note = f"resident memory of both sides over {REKEYS:,} rekeys, IKE_SA and CHILD_SA in turns, after {WARM_UP} to warm up"
    yield absolute("ike_rekey_growth", samples, "kB", better="lower", target=GROWTH_TARGET_KB, note=note)


BENCHES = (
    Bench(("ike_flood",), measure_flood, "a good client in a flood"),
    Bench(("ike_rekey_growth",), measure_rekey_growth, "memory over many rekeys"),
)
