"""NAT detection (RFC 7296, 2.23) and the float to port 4500."""

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.constants import NotifyType
from warren_ikev2.crypto.legacy import sha1
from warren_ikev2.events import NatSituation
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload

_HASH_SIZE = 20


def detection_hash(spi_i: bytes, spi_r: bytes, address: SocketAddress) -> bytes:
    """SHA-1 is the protocol's choice here; it protects nothing."""
    return sha1(spi_i, spi_r, address.host.packed, address.port.to_bytes(2, "big"))


def build_detection(
    spi_i: bytes, spi_r: bytes, path: Path, random_bytes: RandomBytes, *, fake_source: bool
) -> list[NotifyPayload]:
    """Both notifies; `fake_source` hashes no real source, so that the peer believes in a NAT and encapsulates."""
    source = random_bytes(_HASH_SIZE) if fake_source else detection_hash(spi_i, spi_r, path.local)
    return [
        NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        NotifyPayload(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_hash(spi_i, spi_r, path.remote)),
    ]


def detect(payloads: Payloads, spi_i: bytes, spi_r: bytes, path: Path) -> NatSituation | None:
    """Who is behind a NAT, from the peer's notifies; None: the peer sent none."""
    sources = {notify.data for notify in payloads.notifies(NotifyType.NAT_DETECTION_SOURCE_IP)}
    destinations = {notify.data for notify in payloads.notifies(NotifyType.NAT_DETECTION_DESTINATION_IP)}
    if not sources or not destinations:
        return None
    return NatSituation(
        local=detection_hash(spi_i, spi_r, path.local) not in destinations,
        remote=detection_hash(spi_i, spi_r, path.remote) not in sources,
    )


def floated(path: Path, configuration: EndpointConfiguration) -> Path:
    """The path on the ports for NAT traversal; unchanged if it is there already."""
    if path.local.port != configuration.ike_port:
        return path
    return Path(
        SocketAddress(path.local.host, configuration.natt_port),
        SocketAddress(path.remote.host, configuration.remote_natt_port),
    )
