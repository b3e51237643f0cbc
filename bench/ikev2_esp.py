"""`esp_scalar_<cipher>_<size>_<direction>`: CPU time of one packet through scalar ESP, in tunnel mode.

`encrypt` is from the inner IP packet to the ESP packet, with the choice of the SA by selectors; `decrypt` is the way back,
with the look-up of the SPI, the anti-replay window and the check of the inner packet against the selectors.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from harness import Bench, Row, absolute

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.children import ChildSa, EspKeys
from warren_ikev2.esp.table import SaPair, SaTable
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import esp_suite, parse_esp_proposal

CIPHERS = {"aes256gcm16": (32, 4, 0), "chacha20poly1305": (32, 4, 0), "aes256-sha256": (32, 0, 32)}
"""Keyword -> bytes of key, salt and integrity key."""
SIZES = (64, 1400, 1500)
DIRECTIONS = ("encrypt", "decrypt")
TARGET_US = 10.0  # seed 4's bound for a packet
AIM_US = 2.0  # at 1,400 bytes
PACKETS_A_RUN = 3_000
RUNS = 9

LEFT, RIGHT = (TrafficSelector.parse("10.1.0.0/16"),), (TrafficSelector.parse("10.2.0.0/16"),)
PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.2"), 4500))


def _tables(cipher: str) -> tuple[SaTable, SaTable]:
    keys = EspKeys(*(os.urandom(length) for length in CIPHERS[cipher]))
    suite = esp_suite(parse_esp_proposal(cipher))
    sender, receiver = SaTable(), SaTable()
    sender.install(SaPair.of(ChildSa("bench", 1, 2, suite, keys, keys, LEFT, RIGHT, PATH, True)))
    receiver.install(SaPair.of(ChildSa("bench", 2, 1, suite, keys, keys, RIGHT, LEFT, PATH, True)))
    return sender, receiver


def _packet(size: int) -> bytes:
    addresses = bytes((10, 1, 0, 1, 10, 2, 0, 1))
    return b"\x45\0" + size.to_bytes(2, "big") + bytes(8) + addresses + os.urandom(size - 20)


def _measure(cipher: str, size: int) -> tuple[list[float], list[float]]:
    """Microseconds a packet, encrypting and decrypting."""
    sender, receiver = _tables(cipher)
    packet = _packet(size)
    encrypt, decrypt = [], []
    for _ in range(RUNS):
        before = time.process_time()
        sealed = [sender.seal(packet) for _ in range(PACKETS_A_RUN)]
        between = time.process_time()
        for esp in sealed:
            receiver.open(esp)
        after = time.process_time()
        encrypt.append((between - before) / PACKETS_A_RUN * 1e6)
        decrypt.append((after - between) / PACKETS_A_RUN * 1e6)
    return encrypt, decrypt


def _row(cipher: str, size: int, direction: str, samples: Sequence[float]) -> Row:
    middle = sorted(samples)[len(samples) // 2]
    note = f"{size * 8 / middle / 1000:.2f} Gbit/s a core"
    target = AIM_US if size == 1400 else TARGET_US
    return absolute(_name(cipher, size, direction), samples, "µs", better="lower", target=target, note=note)


def _name(cipher: str, size: int, direction: str) -> str:
    return f"esp_scalar_{cipher}_{size}_{direction}"


def run() -> Iterable[Row]:
    for cipher in CIPHERS:
        for size in SIZES:
            for direction, samples in zip(DIRECTIONS, _measure(cipher, size), strict=True):
                yield _row(cipher, size, direction, samples)


BENCHES = [
    Bench(
        tuple(_name(*parts) for parts in ((c, s, d) for c in CIPHERS for s in SIZES for d in DIRECTIONS)),
        run,
        "one packet through scalar ESP",
    )
]
