"""A CHILD_SA as the data plane sees it (RFC 7296, 2.17; RFC 4301, 4.4.2)."""

from dataclasses import dataclass, field

from warren_ikev2.addresses import Path
from warren_ikev2.configuration import Mode
from warren_ikev2.selectors import Selectors
from warren_ikev2.suites import EspSuite


@dataclass(frozen=True, slots=True)
class EspKeys:
    """The keys of one direction. Never printed."""

    encryption: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    """4 bytes with AEAD ciphers, else empty."""
    integrity: bytes = field(repr=False)
    """Empty with AEAD ciphers."""


@dataclass(frozen=True, slots=True)
class ChildSa:
    """Everything that ESP needs to know; a new value replaces it when the peer's address changes."""

    name: str
    """Of its ChildConfiguration."""
    spi_in: int
    """Chosen by us; stands in the packets that we receive."""
    spi_out: int
    """Chosen by the peer; stands in the packets that we send."""
    suite: EspSuite
    keys_in: EspKeys
    keys_out: EspKeys
    local_ts: Selectors
    """What the inner source (outbound) or destination (inbound) must match."""
    remote_ts: Selectors
    path: Path
    """Outer addresses; the ports matter with UDP encapsulation only."""
    udp_encapsulation: bool
    """ESP in UDP (RFC 3948): a NAT is between, or encapsulation is forced."""
    mode: Mode = Mode.TUNNEL

    @property
    def esn(self) -> bool:
        """Whether sequence numbers have 64 bits."""
        return self.suite.esn


@dataclass(frozen=True, slots=True)
class ChildUsage:
    """What a CHILD_SA has carried since it was made, both directions; feeds lifetimes and liveness."""

    bytes_in: int = 0
    packets_in: int = 0
    """Authenticated packets only."""
    bytes_out: int = 0
    packets_out: int = 0
