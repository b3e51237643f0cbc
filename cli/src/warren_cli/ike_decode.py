"""`warren ike decode`: the messages of a capture in words."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from warren_ikev2.decode import Decoder, MessageView
from warren_ikev2.keylog import parse_lines
from warren_ikev2.pcap import read_capture


@dataclass(frozen=True)
class Captured:
    """A message, and when and between whom it passed."""

    time: datetime
    source: str
    destination: str
    message: MessageView


def decode_file(data: bytes, key_lines: str = "") -> Iterator[Captured]:
    """Every IKE message of a capture file, in order. Raises `IkeError` for a broken capture or key file."""
    decoder = Decoder(parse_lines(key_lines))
    for datagram in read_capture(data):
        message = decoder.decode(datagram.data, datagram.path)
        if message is not None:
            when = datetime.fromtimestamp(datagram.time, UTC)
            yield Captured(when, str(datagram.path.local), str(datagram.path.remote), message)


def as_json_line(captured: Captured) -> str:
    """One JSON object."""
    return json.dumps(asdict(captured) | {"time": captured.time.isoformat()})


def render_message(captured: Captured) -> str:
    """A head line and a line for each payload."""
    message = captured.message
    kind = "response" if message.response else "request"
    head = (
        f"{captured.time:%H:%M:%S.%f} {captured.source} > {captured.destination} {message.exchange} {kind} "
        f"{message.message_id}, {message.length} bytes, SPIs {message.spi_i} {message.spi_r}, {message.protection}"
    )
    return "\n".join([head, *(f"    {payload.type:<8} {payload.text}" for payload in message.payloads)])
