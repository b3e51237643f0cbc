"""Coverage-guided fuzzing with atheris: `make fuzz`, or `python fuzz_ike.py TARGET [libFuzzer options]`.

`message`          any datagram's bytes through the codec
`chain`            any payloads that were inside an encrypted message
`unauthenticated`  any datagrams to an engine that waits for peers
`peer`             any authentic payloads from an established peer

A finding is an exception other than the codec's own, or an invalid state. The test suite checks the same with hypothesis.
"""

from collections.abc import Callable

import atheris
from fuzz_target import run

with atheris.instrument_imports(include=["warren_ikev2"]):
    from warren_ikev2.addresses import Path
    from warren_ikev2.constants import HeaderFlag, PayloadType
    from warren_ikev2.errors import ProtocolError
    from warren_ikev2.events import ChildSaEstablished
    from warren_ikev2.fragments import seal
    from warren_ikev2.wire.header import HEADER_SIZE, Header
    from warren_ikev2.wire.message import build_chain, parse_chain, parse_message
    from warren_testkit.ikev2.pair import address, make_pair

EXCHANGES = (34, 35, 36, 37, 43, 44)
KINDS = [int(kind) for kind in PayloadType]


def fuzz_message(data: bytes) -> None:
    """The length field is corrected, so that the fuzzer gets past it."""
    if len(data) >= HEADER_SIZE:
        data = data[:24] + len(data).to_bytes(4, "big") + data[28:]
    try:
        message = parse_message(data)
    except ProtocolError:
        return
    build_chain(message.payloads)


def fuzz_chain(data: bytes) -> None:
    """Check that what is parsed can be built, and parses again."""
    if not data:
        return
    try:
        payloads = parse_chain(KINDS[data[0] % len(KINDS)], data[1:])
    except ProtocolError:
        return
    parse_chain(*build_chain(payloads))


def fuzz_unauthenticated(data: bytes) -> None:
    """Unauthenticated peers may open a half-open IKE_SA and nothing else."""
    pair = make_pair()
    path = Path(pair.sun.address, address("198.51.100.66"))
    if len(data) >= HEADER_SIZE:
        data = data[:24] + len(data).to_bytes(4, "big") + data[28:]
    pair.sun.endpoint.receive_datagram(data, path, 0.0)
    pair.wire.run(1)
    assert pair.sun.endpoint.size <= 1
    assert not pair.sun.all(ChildSaEstablished)


def fuzz_peer(data: bytes) -> None:
    """A faulty or malicious peer that holds the keys."""
    if len(data) < 2:
        return
    pair = make_pair().establish()
    moon = next(iter(pair.moon.endpoint.state.ike_sas.values()))
    sun = next(iter(pair.sun.endpoint.state.ike_sas.values()))
    assert moon._outbound is not None
    header = Header(
        moon.spi_i, moon.spi_r, EXCHANGES[data[0] % len(EXCHANGES)], HeaderFlag.INITIATOR, sun.receiving.lowest
    )
    path = Path(pair.sun.address, pair.moon.address)
    for message in seal(moon._outbound, header, KINDS[data[1] % len(KINDS)], data[2:], None):
        pair.sun.endpoint.receive_datagram(message, path, pair.wire.now)
    pair.wire.run(1)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": fuzz_message,
    "chain": fuzz_chain,
    "unauthenticated": fuzz_unauthenticated,
    "peer": fuzz_peer,
}


if __name__ == "__main__":
    run(TARGETS)
