"""NAT detection (RFC 7296, 2.23) and the change to port 4500."""

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
    """Hash an address; the protocol prescribes SHA-1, which protects nothing here."""
    return sha1(spi_i, spi_r, address.host.packed, address.port.to_bytes(2, "big"))


def build_detection(
    spi_i: bytes, spi_r: bytes, path: Path, random_bytes: RandomBytes, *, fake_source: bool
) -> list[NotifyPayload]:
    """Both notifies; `fake_source` hashes a random source, so that the peer detects a NAT and encapsulates."""
    source = random_bytes(_HASH_SIZE) if fake_source else detection_hash(spi_i, spi_r, path.local)
    return [
        NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        NotifyPayload(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_hash(spi_i, spi_r, path.remote)),
    ]


def detect(payloads: Payloads, spi_i: bytes, spi_r: bytes, path: Path) -> NatSituation | None:
    """Return which side is behind a NAT; None: the peer sent no NAT detection."""
    sources = {notify.data for notify in payloads.notifies(NotifyType.NAT_DETECTION_SOURCE_IP)}
    destinations = {notify.data for notify in payloads.notifies(NotifyType.NAT_DETECTION_DESTINATION_IP)}
    if not sources or not destinations:
        return None
    return NatSituation(
        local=detection_hash(spi_i, spi_r, path.local) not in destinations,
        remote=detection_hash(spi_i, spi_r, path.remote) not in sources,
    )


def floated(path: Path, configuration: EndpointConfiguration) -> Path:
    """Return the path on the ports for NAT traversal; unchanged if it uses them already."""
    if path.local.port != configuration.ike_port:
        return path
    return Path(
        SocketAddress(path.local.host, configuration.natt_port),
        SocketAddress(path.remote.host, configuration.remote_natt_port),
    )
