"""The models of telemetry with the limits that a regular agent never reaches, so that they are checked while a message is decoded.

The contracts leave these limits to readers: here a compromised agent must not be able to fill memory, or to report NaN.
"""

from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from warren_contracts.addresses import IPAddress
from warren_contracts.selectors import Selector
from warren_contracts.status import ChildSaStatus, Evidence, HostFacts, IpsecStatus, TrafficStats, TunnelStatus
from warren_contracts.telemetry import Applied, AttemptFailure, Presence, Report, TunnelChange

MAX_TUNNELS = 2_000  # in one message: a report of more comes in parts
MAX_SAS = 64  # of one tunnel: rekeying overlaps two or three
MAX_VIPS = 16  # virtual addresses of one end
MAX_PARTS = 128  # of one report: 100 kB each
MAX_SELECTORS = 256  # of one SA, on either side: agents have 64
MAX_TEXT = 256  # characters of a cipher or an address (a host name has 253)
MAX_COUNTER = 2**63 - 1  # of bytes, packets and other counters: a float in Prometheus

Counter = Annotated[int, Field(ge=0, le=MAX_COUNTER)]
Number = Annotated[int, Field(ge=-MAX_COUNTER, le=MAX_COUNTER)]
Measure = Annotated[float, Field(ge=0, le=MAX_COUNTER, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Selectors = Annotated[tuple[Selector, ...], Field(max_length=MAX_SELECTORS)]
Addresses = Annotated[tuple[IPAddress, ...], Field(max_length=MAX_VIPS)]


class BoundedTraffic(TrafficStats):
    """TrafficStats within bounds."""

    bytes_in: Counter = 0
    bytes_out: Counter = 0
    packets_in: Counter = 0
    packets_out: Counter = 0


class BoundedSa(ChildSaStatus):
    """ChildSaStatus within bounds."""

    cipher: Text
    key_exchange: Text = ""
    established_at: AwareDatetime | None = None
    rekey_in: Number | None = None
    expires_in: Number | None = None
    local_ts: Selectors = ()
    remote_ts: Selectors = ()
    traffic: BoundedTraffic = BoundedTraffic()


class BoundedLink(IpsecStatus):
    """IpsecStatus within bounds."""

    ike_cipher: Text = ""
    ike_established_at: AwareDatetime | None = None
    local_address: Text = ""
    remote_address: Text = ""
    local_vips: Addresses = ()
    remote_vips: Addresses = ()
    children: Annotated[tuple[BoundedSa, ...], Field(max_length=MAX_SAS)] = ()


class BoundedEvidence(Evidence):
    """Evidence within bounds."""

    at: AwareDatetime | None = None


class BoundedTunnel(TunnelStatus):
    """TunnelStatus within bounds."""

    link: BoundedLink = BoundedLink()
    traffic: BoundedTraffic = BoundedTraffic()
    since: AwareDatetime | None = None
    rekeys: Counter = 0
    rekey_seconds: Measure | None = None
    restarts: Counter = 0
    evidence: BoundedEvidence = BoundedEvidence()


class BoundedReport(Report):
    """Report within bounds."""

    at: AwareDatetime
    part: Annotated[int, Field(ge=0, lt=MAX_PARTS)] = 0
    parts: Annotated[int, Field(ge=1, le=MAX_PARTS)] = 1
    tunnels: Annotated[tuple[BoundedTunnel, ...], Field(max_length=MAX_TUNNELS)]
    policy_sync_errors: Counter = 0
    dpd_failures: Counter = 0


class BoundedChange(TunnelChange):
    """TunnelChange within bounds."""

    at: AwareDatetime
    first_packet_at: AwareDatetime | None = None
    status: BoundedTunnel


class BoundedApplied(Applied):
    """Applied within bounds."""

    at: AwareDatetime
    epoch: Number
    revision: Number
    duration_ms: Measure
    delivered_at: AwareDatetime
    unchanged: Counter = 0


class BoundedFailure(AttemptFailure):
    """AttemptFailure within bounds."""

    at: AwareDatetime


class BoundedHost(HostFacts):
    """HostFacts within bounds."""

    intent_unconfirmed_s: Measure | None = None


class BoundedPresence(Presence):
    """Presence within bounds."""

    at: AwareDatetime
    started_at: AwareDatetime
    resident_bytes: Counter = 0
    cpu_seconds: Measure = 0.0
    queued: Counter = 0
    queued_bytes: Counter = 0
    dropped: Counter = 0
    host: BoundedHost | None = None
