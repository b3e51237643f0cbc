"""`tunnel_path_*` and `tunnel_check_*`: CPU time of the batched path without system calls, and the share of each of its checks.

Trains of 45 TCP segments of 1,400 bytes are sealed once and opened by several receivers in turns. One has all checks; each
other one lacks one of them, which is replaced from here, since no setting turns it off. The integrity check cannot be taken out of
AES-GCM. Milliseconds of CPU a gigabit of TCP payload, one end, one direction.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness import Bench, Row, absolute

from warren_ikev2.dataplane import runs
from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.inbound import Arrival, Inbound
from warren_ikev2.dataplane.links import Links
from warren_ikev2.dataplane.open import TrainOpener
from warren_ikev2.dataplane.outbound import FRAME_OFFSET, Outbound
from warren_ikev2.esp.replay import ReplayWindow
from warren_ikev2.esp.selectors import SelectorCheck
from warren_testkit.ikev2.dataplane import FakePort, child, tcp_packet, tso_header

SEGMENTS, MSS = 45, 1348
TRAINS = 40
"""Of one chunk, which takes some milliseconds."""
CHUNKS, GROUPS = 20, 7
"""Each group gives one sample: the median of its chunks."""
OPTIONS = b"\1\1\x08\x0a" + bytes(8)
GIGABITS = TRAINS * SEGMENTS * MSS * 8 / 1e9

Replacement = tuple[object, str, Any]


def _always(*_: object) -> bool:
    return True


def _first_number(_: object, rows: Any) -> int:
    return int(rows.sequence[0])


def _nothing(*_: object) -> None:
    return None


def _one_run(rows: Any) -> tuple[list[int], bool]:
    return [0, rows.count], True


def _no_sum(*_: object) -> bytes:
    return b""


CHECKS: dict[str, tuple[str, tuple[Replacement, ...]]] = {
    "selectors": ("the inner addresses are in the SA's selectors", ((SelectorCheck, "allows", _always),)),
    "replay": (
        "the sequence numbers are new and consecutive, and are recorded",
        ((TrainOpener, "_first_sequence", staticmethod(_first_number)), (ReplayWindow, "update_run", _nothing)),
    ),
    "checksums": (
        "TCP and IPv4 header checksums",
        (
            (runs.RunRows, "sums", _no_sum), (runs.RunLayout, "expected_sum", _no_sum),
            (runs, "ipv4_header_is_valid", _always),
        ),
    ),
    "ecn": ("DF, and the outer congestion mark changes nothing inside", ((runs, "may_be_run", _always),)),
    "headers": ("all headers are those of one run, in sequence", ((runs.RunRows, "breaks", _one_run),)),
    "trailers": ("all packets have the padding and next header of the first", ((runs.RunRows, "have_their_endings", _always),)),
}  # fmt: skip


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """One check less; `all`: none less."""
    replacements = CHECKS[name][1] if name in CHECKS else ()
    before = [vars(owner)[attribute] for owner, attribute, _ in replacements]
    for owner, attribute, value in replacements:
        setattr(owner, attribute, value)
    try:
        yield
    finally:
        for (owner, attribute, _), value in zip(replacements, before, strict=True):
            setattr(owner, attribute, value)


@dataclass
class Sender:
    """Seals TSO packets of one flow."""

    vectorised: bool = True
    sent: list[bytes] = field(default_factory=list)
    stride: int = 0

    def __post_init__(self) -> None:
        links = Links(os.urandom, 1500)
        links.install(child(), FakePort([]))
        write = Collector()
        self._outbound = Outbound(links, Counters(), self._send, _nothing, write, vectorised=self.vectorised)
        payload = os.urandom(SEGMENTS * MSS)
        self._packet = tcp_packet(payload, options=OPTIONS)
        self._frame = tso_header(self._packet, MSS).build() + self._packet

    def _send(self, link: Any, parts: Any, stride: int, packets: int, tos: int) -> None:
        assert packets == SEGMENTS
        self.stride = stride
        self.sent.append(b"".join(parts))

    def run(self) -> float:
        """Seal a chunk of trains; seconds."""
        self.sent.clear()
        outbound, frame, spent = self._outbound, self._frame, 0.0
        for _ in range(TRAINS):
            outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(frame)] = frame
            since = time.thread_time()
            outbound.take_frame(len(frame))
            spent += time.thread_time() - since
        return spent


class Collector:
    """Takes what is for the TUN device."""

    def __init__(self) -> None:
        self.writes = 0

    def __call__(self, parts: Any) -> None:
        self.writes += 1


class Receiver:
    """Opens what a sender has sealed."""

    def __init__(self, *, vectorised: bool = True) -> None:
        links = Links(os.urandom, 1500)
        links.install(child(sender=False), FakePort([]))
        self._write = Collector()
        self._inbound = Inbound(links, Counters(), self._write, _nothing, _always, vectorised=vectorised)

    def run(self, sender: Sender) -> float:
        """Open a chunk of trains; seconds."""
        inbound, spent = self._inbound, 0.0
        before = self._write.writes
        for data in sender.sent:
            inbound.packets[: len(data)] = data
            arrival = Arrival(len(data), sender.stride, 0, "peer")
            since = time.thread_time()
            inbound.take(None, arrival)
            spent += time.thread_time() - since
        assert self._write.writes - before == TRAINS, "a train was not one write"
        return spent


def _grouped(samples: list[float]) -> list[float]:
    """The median of each group, in milliseconds a gigabit."""
    size = len(samples) // GROUPS
    return [statistics.median(samples[at : at + size]) * 1000 / GIGABITS for at in range(0, size * GROUPS, size)]


def measure() -> Iterable[Row]:
    """All rows."""
    sender, plain_sender = Sender(), Sender(vectorised=False)
    receivers: dict[str, Receiver] = {name: Receiver() for name in ("all", *CHECKS)}
    plain = Receiver(vectorised=False)
    sealing: list[float] = []
    plainly: list[float] = []
    sealing_plainly: list[float] = []
    opening: dict[str, list[float]] = {name: [] for name in receivers}
    for _ in range(GROUPS * CHUNKS):
        sealing.append(sender.run())
        sealing_plainly.append(plain_sender.run())
        plainly.append(plain.run(sender))
        for name, receiver in receivers.items():
            with _without(name):
                opening[name].append(receiver.run(sender))
    note = "45 segments of 1,400 bytes a train; AES-256-GCM"
    yield _row("tunnel_path_send", sealing, f"segment, checksum, seal; {note}")
    yield _row("tunnel_path_send_without_numpy", sealing_plainly, f"segment, checksum, seal; {note}")
    yield _row("tunnel_path_receive", opening["all"], f"open, check, merge; {note}")
    yield _row("tunnel_path_receive_without_numpy", plainly, f"open, check, merge; {note}")
    for name, (about, _) in CHECKS.items():
        differences = [full - less for full, less in zip(opening["all"], opening[name], strict=True)]
        yield _row(f"tunnel_check_{name}", differences, f"of `tunnel_path_receive`: {about}")


def _row(name: str, samples: list[float], note: str) -> Row:
    return absolute(name, _grouped(samples), "ms/Gbit", better="lower", target=None, note=note)


NAMES: tuple[str, ...] = (
    "tunnel_path_send", "tunnel_path_send_without_numpy", "tunnel_path_receive", "tunnel_path_receive_without_numpy",
    *(f"tunnel_check_{name}" for name in CHECKS),
)  # fmt: skip
BENCHES: tuple[Bench, ...] = (Bench(NAMES, measure, "the cost of each check of the batched path"),)
