"""`warren ike decode`: the messages of a capture in words."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from warren_ikev2.decode import Decoder, MessageView
from warren_ikev2.keylog import parse_lines
from warren_ikev2.pcap import Missed, read_capture


@dataclass(frozen=True)
class Captured:
    """A message, and when and between whom it passed."""

    time: datetime | None
    """None where the file's is none that a calendar has."""
    source: str
    destination: str
    message: MessageView


@dataclass
class CaptureSummary:
    """What went by while a capture was listed."""

    datagrams: int = 0
    messages: int = 0
    missed: Missed = field(default_factory=Missed)
    keys: tuple[str, ...] = ()

    def remarks(self) -> Iterator[str]:
        """What is not in the list, in words."""
        yield from self.keys
        for link, packets in self.missed.links.items():
            name = "further link types are" if link < 0 else f"link type {link} is"
            yield f"{name} not known: {packets} packet(s) were not read"
        for ethertype, packets in self.missed.ethertypes.items():
            yield f"{packets} frame(s) {_numbered('of ethertype', ethertype, '#06x')} were not read"
        for protocol, packets in self.missed.protocols.items():
            yield f"{packets} packet(s) {_numbered('of IP protocol', protocol, 'd')} are no UDP"
        if self.missed.fragments:
            yield f"{self.missed.fragments} IP fragment(s) were not put together"
        if self.missed.cut:
            yield f"{self.missed.cut} datagram(s) are cut off in the capture: write it with tcpdump -s 0"
        if not self.messages:
            yield f"no IKE message among {self.datagrams} UDP datagram(s)"


def _numbered(kind: str, number: int, form: str) -> str:
    return f"{kind} {number:{form}}" if number >= 0 else f"{kind}s of further numbers"


def decode_file(file: BinaryIO, key_lines: str = "", seen: CaptureSummary | None = None) -> Iterator[Captured]:
    """Every IKE message of a capture file, in order. Raises `IkeError` for a broken capture or key file."""
    table = parse_lines(key_lines)
    decoder = Decoder(table.keys, os.urandom)
    seen = CaptureSummary() if seen is None else seen
    seen.keys = table.remarks
    for datagram in read_capture(file, seen.missed):
        seen.datagrams += 1
        message = decoder.decode(datagram.data, datagram.path)
        if message is not None:
            seen.messages += 1
            yield Captured(_when(datagram.time), str(datagram.path.local), str(datagram.path.remote), message)


def _when(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def as_json_line(captured: Captured) -> str:
    """One JSON object."""
    return json.dumps(asdict(captured) | {"time": captured.time.isoformat() if captured.time else None})


def render_message(captured: Captured) -> str:
    """A head line and a line for each payload."""
    message = captured.message
    when = f"{captured.time:%H:%M:%S.%f}" if captured.time else "at an unknown time"
    kind = "response" if message.response else "request"
    said = [f"{message.exchange} {kind} {message.message_id}"] if message.exchange else []
    said += [message.problem] if message.problem else []
    said += [f"{message.length} bytes", f"SPIs {message.spi_i} {message.spi_r}"]
    said += [message.protection] if not message.problem else []
    head = f"{when} {captured.source} > {captured.destination} {', '.join(said)}"
    return "\n".join([head, *(f"    {payload.type:<8} {payload.text}" for payload in message.payloads)])
