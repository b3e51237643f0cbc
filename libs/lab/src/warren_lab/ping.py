"""A ping that records the time of every request and reply, so that a loss can be placed to 10 ms.

It uses ICMP sockets instead of iputils: the times are needed as numbers, for each request, while the ping still runs.
"""

import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from warren_lab.namespace import Namespace
from warren_lab.socket_thread import SocketThread

DEFAULT_INTERVAL_SECONDS = 0.01
LATE_REPLY_SECONDS = 10.0
"""After the last request, replies are awaited this long; later ones count as lost."""
MOST_IN_ONE_PAUSE = 100
"""Requests without a reply after which it sends fewer: a socket's default buffer of 212,992 bytes takes 277 of them (768 bytes
each, with what the kernel notes), and a process that carries them may be held up for seconds on a busy machine."""
HELD_UP_INTERVAL_SECONDS = 0.1
_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_HEADER = struct.Struct("!BBHHH")
_COUNTER = struct.Struct("!Q")


@dataclass(frozen=True)
class PingCounts:
    """Requests sent and distinct replies received."""

    sent: int
    received: int

    @property
    def lost(self) -> int:
        return self.sent - self.received


@dataclass(frozen=True)
class Echo:
    """One request. Times are Unix time in seconds; `received` is None while or where no reply came."""

    number: int
    sent: float
    received: float | None


def internet_checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def build_request(identifier: int, number: int) -> bytes:
    """An echo request (RFC 792) whose payload holds the whole number, since the sequence field wraps at 65,536."""
    payload = _COUNTER.pack(number)
    head = _HEADER.pack(_ECHO_REQUEST, 0, 0, identifier, number & 0xFFFF)
    return _HEADER.pack(_ECHO_REQUEST, 0, internet_checksum(head + payload), identifier, number & 0xFFFF) + payload


def parse_reply(packet: bytes, identifier: int) -> int | None:
    """The number of the request that this raw IPv4 packet answers, or None where it is not ours."""
    offset = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < offset + _HEADER.size + _COUNTER.size:
        return None
    kind, code, _, its_identifier, _ = _HEADER.unpack_from(packet, offset)
    if (kind, code, its_identifier) != (_ECHO_REPLY, 0, identifier):
        return None
    return int.from_bytes(packet[offset + _HEADER.size :][: _COUNTER.size], "big")


def ping_command(target: str, source: str, count: int = 3, *more: str) -> list[str]:
    """The arguments of ping(8) for `count` requests in one burst; `more` are further options.

    It ends with the last reply. Late replies are awaited for the interval of 5 s: with a short interval, ping(8) waits only for
    twice the longest round trip, which a busy machine exceeds. Without any reply it ends after 10 s, unless `more` has another -W. More
    than 3 requests need root.
    """
    return ["ping", "-n", "-c", str(count), "-l", str(count), "-i", "5", "-W", "10", *more, "-I", source, target]


class Ping:
    """Pings `destination` from `source` inside a namespace, from `start` (or `with`) to `stop`.

    A request that the kernel refuses (no route) counts as sent and lost: the caller asked for it at that time.
    `late_reply_seconds`: as LATE_REPLY_SECONDS; 0 where nobody asks what was lost: then it sends as many while nothing is answered.
    """

    def __init__(
        self,
        namespace: Namespace,
        source: IPv4Address,
        destination: IPv4Address,
        interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
        late_reply_seconds: float = LATE_REPLY_SECONDS,
    ) -> None:
        self._namespace = namespace
        self._source, self._destination = source, destination
        self._interval = interval_seconds
        self._late_reply_seconds = late_reply_seconds
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._condition = threading.Condition()
        self._sent: list[float] = []
        self._received: dict[int, float] = {}
        self._newest = -1  # of the requests that are answered
        self._thread = SocketThread()

    def start(self) -> None:
        """Begin to ping."""
        icmp = self._namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        try:
            icmp.bind((str(self._source), 0))
        except OSError:
            icmp.close()
            raise
        self._thread.start(f"ping-{self._destination}", self._run, icmp)

    def stop(self) -> PingCounts:
        """Send no more, await late replies, and return the counts."""
        self._thread.stop()
        return self.counts()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def counts(self) -> PingCounts:
        """So far; a request under way counts as sent."""
        with self._condition:
            return PingCounts(len(self._sent), len(self._received))

    def echoes(self) -> list[Echo]:
        """Every request so far, in order."""
        with self._condition:
            return [Echo(number, sent, self._received.get(number)) for number, sent in enumerate(self._sent)]

    def answered_from(self, number: int) -> int:
        """How many of the requests from this number on are answered; `counts().sent` is the number of the next one."""
        with self._condition:
            return sum(it >= number for it in self._received)

    def wait_for_reply(self, limit_seconds: float, since: float = 0.0) -> Echo | None:
        """The first request sent at or after `since` that was answered; None when the limit passes before."""
        found: list[Echo] = []

        def answered() -> bool:
            found.extend(
                Echo(number, self._sent[number], received)
                for number, received in self._received.items()
                if self._sent[number] >= since
            )
            return bool(found)

        with self._condition:
            self._condition.wait_for(answered, limit_seconds)
        return min(found, key=lambda echo: echo.received or 0.0, default=None)

    def _run(self, icmp: socket.socket) -> None:
        with icmp:
            due = time.monotonic()
            while not self._wait(icmp, due):
                self._send(icmp)
                # Never in a burst after a pause: a late request would measure its own queue.
                due = max(due + self._pause(), time.monotonic())
            end = time.monotonic() + self._late_reply_seconds
            while self.counts().lost and time.monotonic() < end:
                self._receive_until(icmp, end)

    def _pause(self) -> float:
        """Seconds to the next request."""
        is_held_up = len(self._sent) - self._newest > MOST_IN_ONE_PAUSE and self._late_reply_seconds > 0
        return max(self._interval, HELD_UP_INTERVAL_SECONDS) if is_held_up else self._interval

    def _wait(self, icmp: socket.socket, due: float) -> bool:
        """Take replies until the next request is due; True when asked to stop."""
        while True:
            pause = due - time.monotonic()
            readable, _, _ = select.select([icmp, self._thread.woken], [], [], max(pause, 0))
            if self._thread.woken in readable:
                return True
            if icmp in readable:
                self._receive(icmp)
            elif pause <= 0:
                return False

    def _receive_until(self, icmp: socket.socket, end: float) -> None:
        if select.select([icmp], [], [], max(end - time.monotonic(), 0))[0]:
            self._receive(icmp)

    def _send(self, icmp: socket.socket) -> None:
        with self._condition:
            number = len(self._sent)
            self._sent.append(time.time())
        try:
            icmp.sendto(build_request(self._identifier, number), (str(self._destination), 0))
        except OSError:  # no route or a full queue: this request is lost
            return

    def _receive(self, icmp: socket.socket) -> None:
        try:
            packet = icmp.recv(2048, socket.MSG_DONTWAIT)
        except OSError:  # an ICMP error for an earlier request; that request stays unanswered
            return
        number = parse_reply(packet, self._identifier)
        with self._condition:
            if number is not None and number < len(self._sent) and number not in self._received:
                self._received[number] = time.time()
                self._newest = max(self._newest, number)
                self._condition.notify_all()
