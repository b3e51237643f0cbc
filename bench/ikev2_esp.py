"""`esp_scalar_<cipher>_<size>_<direction>`: CPU time of one packet through scalar ESP, in tunnel mode.

`encrypt` is from the inner IP packet to the ESP packet, with the choice of the SA by selectors; `decrypt` is the way back,
with the look-up of the SPI, the anti-replay window and the check of the inner packet against the selectors.
"""

from __future__ import annotations

import hmac
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from itertools import product

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from harness import Bench, Rival, Row, absolute, compared

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.children import ChildSa, EspKeys
from warren_ikev2.esp.table import SaPair, SaTable
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import esp_suite
from warren_testkit.ikev2.proposals import parse_esp_proposal

CIPHERS = {"aes256gcm16": (32, 4, 0), "chacha20poly1305": (32, 4, 0), "aes256-sha256": (32, 0, 32)}
"""Keyword -> bytes of key, salt and integrity key."""
SIZES = (64, 1400, 1500)
DIRECTIONS = ("encrypt", "decrypt")
TARGET_US = 10.0  # the bound for one packet
AIM_US, AIM_SIZE = 2.0, 1400
NEXT_TO = "_next_to_primitive"
BATCH = range(64)  # packets at a time, as a batched socket hands them over; keeping thousands measures page faults too
BATCHES_A_RUN = 50
RUNS = 9

LEFT, RIGHT = (TrafficSelector.parse("10.1.0.0/16"),), (TrafficSelector.parse("10.2.0.0/16"),)
PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.2"), 4500))


def _tables(cipher: str) -> tuple[SaTable, SaTable]:
    keys = EspKeys(*(os.urandom(length) for length in CIPHERS[cipher]))
    suite = esp_suite(parse_esp_proposal(cipher))
    sender, receiver = SaTable(), SaTable()
    sender.install(SaPair.of(ChildSa("bench", 1, 2, suite, keys, keys, LEFT, RIGHT, PATH, True), os.urandom))
    receiver.install(SaPair.of(ChildSa("bench", 2, 1, suite, keys, keys, RIGHT, LEFT, PATH, True), os.urandom))
    return sender, receiver


def _packet(size: int) -> bytes:
    addresses = bytes((10, 1, 0, 1, 10, 2, 0, 1))
    return b"\x45\0" + size.to_bytes(2, "big") + bytes(8) + addresses + os.urandom(size - 20)


@dataclass(frozen=True, slots=True)
class Primitives:
    """cryptography's calls for one packet and nothing else: every argument stands ready, no packet is put together.

    For AES-CBC with HMAC they are the cheapest that the library has, as our transform uses them: a running cipher and
    a copy of a keyed MAC. Our random IVs are not among them.
    """

    encrypt: Callable[[], object]
    decrypt: Callable[[], object]


def _primitives(cipher: str, size: int) -> Primitives:
    key = os.urandom(32)
    if cipher == "aes256-sha256":
        text = os.urandom(16 + -(-(size + 2) // 16) * 16)
        running = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
        encrypt, decrypt, mac = (
            running.encryptor().update,
            running.decryptor().update,
            hmac.new(key, digestmod="sha256"),
        )
        packet = bytes(8) + text

        def authenticated(crypt: Callable[[bytes], bytes]) -> Callable[[], object]:
            def both() -> None:
                crypt(text)
                copy = mac.copy()
                copy.update(packet)
                copy.digest()

            return both

        return Primitives(authenticated(encrypt), authenticated(decrypt))
    aead = AESGCM(key) if cipher == "aes256gcm16" else ChaCha20Poly1305(key)
    nonce, associated, plain = os.urandom(12), os.urandom(8), os.urandom(-(-(size + 2) // 4) * 4)
    sealed = aead.encrypt(nonce, plain, associated)
    return Primitives(partial(aead.encrypt, nonce, plain, associated), partial(aead.decrypt, nonce, sealed, associated))


@dataclass(frozen=True, slots=True)
class Samples:
    """Microseconds a packet, a sample for each run."""

    ours: dict[str, list[float]] = field(default_factory=lambda: {direction: [] for direction in DIRECTIONS})
    primitives: dict[str, list[float]] = field(default_factory=lambda: {direction: [] for direction in DIRECTIONS})


def _measure(cipher: str, size: int) -> Samples:
    """Ours and the primitives take turns, a batch each."""
    sender, receiver = _tables(cipher)
    packet, primitives = _packet(size), _primitives(cipher, size)
    samples = Samples()
    clock = time.process_time
    for _ in range(RUNS):
        spent = [0.0] * 4
        for _ in range(BATCHES_A_RUN):
            marks = [clock()]
            sealed = [sender.seal(packet) for _ in BATCH]
            marks.append(clock())
            for esp in sealed:
                receiver.open(esp)
            marks.append(clock())
            kept = [primitives.encrypt() for _ in BATCH]
            marks.append(clock())
            for _ in kept:
                primitives.decrypt()
            marks.append(clock())
            spent = [total + after - before for total, before, after in zip(spent, marks, marks[1:], strict=False)]
        times = [total / BATCHES_A_RUN / len(BATCH) * 1e6 for total in spent]
        for kind, pair in ((samples.ours, times[:2]), (samples.primitives, times[2:])):
            for direction, value in zip(DIRECTIONS, pair, strict=True):
                kind[direction].append(value)
    return samples


def _rows(cipher: str, size: int, direction: str, samples: Samples) -> Iterable[Row]:
    ours, name = samples.ours[direction], _name(cipher, size, direction)
    note = f"{size * 8 / statistics.median(ours) / 1000:.2f} Gbit/s a core"
    yield absolute(name, ours, "µs", better="lower", target=AIM_US if size == AIM_SIZE else TARGET_US, note=note)
    if size == AIM_SIZE:
        yield compared(
            name + NEXT_TO, ours, Rival("cryptography's primitive alone", samples.primitives[direction]), "µs",
            better="lower", target=None, note="the rest is the packet's handling in Python",
        )  # fmt: skip


def _name(cipher: str, size: int, direction: str) -> str:
    return f"esp_scalar_{cipher}_{size}_{direction}"


def _names() -> Iterable[str]:
    for cipher, size, direction in product(CIPHERS, SIZES, DIRECTIONS):
        yield _name(cipher, size, direction)
        if size == AIM_SIZE:
            yield _name(cipher, size, direction) + NEXT_TO


def run() -> Iterable[Row]:
    for cipher, size in product(CIPHERS, SIZES):
        samples = _measure(cipher, size)
        for direction in DIRECTIONS:
            yield from _rows(cipher, size, direction, samples)


BENCHES = [Bench(tuple(_names()), run, "one packet through scalar ESP")]
