"""CHILD_SA payloads (SA, TSi, TSr) in IKE_AUTH and CREATE_CHILD_SA, from both sides (RFC 7296, 2.9 and 2.17)."""

from collections.abc import Sequence
from dataclasses import dataclass

from warren_ikev2.addresses import IPAddress
from warren_ikev2.children import ChildSa
from warren_ikev2.configuration import ChildConfiguration, Lifetime, Mode
from warren_ikev2.constants import NotifyType, PayloadType, Protocol
from warren_ikev2.crypto.keys import Nonces, derive_child_keys
from warren_ikev2.errors import (
    MalformedMessageError,
    NegotiationError,
    NoAdditionalSasError,
    NoProposalChosenError,
    TsUnacceptableError,
)
from warren_ikev2.exchanges.negotiation import confirm, number, select, without_key_exchange
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.selectors import Selectors, TrafficSelector, all_within, narrow
from warren_ikev2.session import Child
from warren_ikev2.suites import EspSuite, Proposal, esp_suite
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload, Payload, SaPayload, TsPayload

_EVERYTHING = {4: TrafficSelector.parse("0.0.0.0/0"), 6: TrafficSelector.parse("::/0")}
_ESP_SPI_SIZE = 4


@dataclass(frozen=True, slots=True)
class ChildOffer:
    """Our offer, against which the response is checked."""

    configuration: ChildConfiguration
    spi: int
    proposals: tuple[Proposal, ...]
    local_ts: Selectors
    remote_ts: Selectors
    mode: Mode

    @property
    def payloads(self) -> list[Payload]:
        """SA, TSi, TSr and what belongs to them."""
        mode: list[Payload] = [NotifyPayload(NotifyType.USE_TRANSPORT_MODE)] if self.mode == Mode.TRANSPORT else []
        return [
            *mode,
            SaPayload(self.proposals),
            TsPayload(PayloadType.TSI, self.local_ts),
            TsPayload(PayloadType.TSR, self.remote_ts),
        ]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides agreed on, before keys."""

    configuration: ChildConfiguration
    suite: EspSuite
    proposal: Proposal
    """The chosen one, with the peer's SPI."""
    spi_in: int
    spi_out: int
    local_ts: Selectors
    remote_ts: Selectors
    mode: Mode


@dataclass(frozen=True, slots=True)
class _Request:
    """The peer's offer, and what bounds our answer to it."""

    proposals: Sequence[Proposal]
    own_ts: Selectors
    peer_ts: Selectors
    transport: bool
    first: bool
    """In IKE_AUTH: the CHILD_SA has no key exchange of its own."""
    old: ChildSa | None
    """The CHILD_SA to be rekeyed, whose selectors are not to be exceeded."""


def build_offer(sa: IkeSa, configuration: ChildConfiguration, *, first: bool, old: ChildSa | None = None) -> ChildOffer:
    """Build the offer for a new CHILD_SA; when rekeying, with the selectors of the old one (2.9.2)."""
    spi = sa.host.new_child_spi(sa.session)
    proposals = configuration.esp_proposals
    if first:
        proposals = without_key_exchange(proposals)
    if old is not None:
        local_ts, remote_ts, mode = old.local_ts, old.remote_ts, old.mode
    else:
        local_ts, remote_ts = _own_selectors(sa, configuration), _peer_selectors(sa, configuration)
        mode = configuration.mode
    spi_bytes = spi.to_bytes(_ESP_SPI_SIZE, "big")
    return ChildOffer(configuration, spi, number(proposals, spi_bytes), local_ts, remote_ts, mode)


def check_answer(offer: ChildOffer, payloads: Payloads) -> Agreement:
    """Check that the response is within our offer.

    NoProposalChosenError, TsUnacceptableError: it does not. ProtocolError: payloads are missing.
    """
    chosen = confirm(payloads.require(SaPayload).proposals, offer.proposals)
    local_ts = payloads.require(TsPayload, PayloadType.TSI).selectors
    remote_ts = payloads.require(TsPayload, PayloadType.TSR).selectors
    if not (local_ts and remote_ts and all_within(local_ts, offer.local_ts) and all_within(remote_ts, offer.remote_ts)):
        raise TsUnacceptableError("the peer's traffic selectors are wider than ours")
    transport = offer.mode == Mode.TRANSPORT and payloads.notify(NotifyType.USE_TRANSPORT_MODE) is not None
    return Agreement(
        offer.configuration,
        esp_suite(chosen),
        chosen,
        offer.spi,
        _spi_of(chosen),
        local_ts,
        remote_ts,
        Mode.TRANSPORT if transport else Mode.TUNNEL,
    )


def answer_offer(
    sa: IkeSa,
    payloads: Payloads,
    configurations: Sequence[ChildConfiguration],
    *,
    first: bool,
    old: ChildSa | None = None,
) -> Agreement:
    """Choose the first configuration that matches the peer's offer; when rekeying, never wider than the old one (2.9.2).

    NoProposalChosenError, TsUnacceptableError, NoAdditionalSasError, MalformedMessageError.
    """
    request = _Request(
        proposals=payloads.require(SaPayload).proposals,
        peer_ts=payloads.require(TsPayload, PayloadType.TSI).selectors,
        own_ts=payloads.require(TsPayload, PayloadType.TSR).selectors,
        transport=payloads.notify(NotifyType.USE_TRANSPORT_MODE) is not None,
        first=first,
        old=old,
    )
    if len(sa.session.children) >= sa.host.configuration.limits.children:
        raise NoAdditionalSasError
    reason: NegotiationError = TsUnacceptableError("no CHILD_SA is configured for this connection")
    for configuration in configurations:
        try:
            return _agree(sa, configuration, request)
        except (NoProposalChosenError, TsUnacceptableError) as error:
            reason = error
    raise reason


def answer_payloads(agreement: Agreement) -> list[Payload]:
    """Build our response as responder."""
    spi = agreement.spi_in.to_bytes(_ESP_SPI_SIZE, "big")
    transport = agreement.mode == Mode.TRANSPORT
    mode: list[Payload] = [NotifyPayload(NotifyType.USE_TRANSPORT_MODE)] if transport else []
    return [
        *mode,
        SaPayload((agreement.proposal.with_spi(spi),)),
        TsPayload(PayloadType.TSI, agreement.remote_ts),
        TsPayload(PayloadType.TSR, agreement.local_ts),
    ]


def install(
    sa: IkeSa, agreement: Agreement, nonces: Nonces, shared: Sequence[bytes], now: float, *, initiated: bool
) -> Child:
    """Create the CHILD_SA of an agreement, with keys and lifetime, in the session. The caller reports it."""
    suite, keys = sa.protection.suite_and_keys()
    outward, inward = derive_child_keys(suite.prf, keys.d, agreement.suite, nonces, shared)
    if not initiated:
        outward, inward = inward, outward
    session = sa.session
    child_sa = ChildSa(
        name=agreement.configuration.name,
        spi_in=agreement.spi_in,
        spi_out=agreement.spi_out,
        suite=agreement.suite,
        keys_in=inward,
        keys_out=outward,
        local_ts=agreement.local_ts,
        remote_ts=agreement.remote_ts,
        path=session.esp_path,
        udp_encapsulation=session.udp_encapsulation,
        mode=agreement.mode,
    )
    child = _with_lifetime(sa, child_sa, agreement.configuration, now)
    session.children[agreement.spi_in] = child
    return child


def shortened(sa: IkeSa, value: float | None, jitter: float) -> float | None:
    """Shorten a soft limit by a random fraction of up to `jitter` (2.8)."""
    if value is None:
        return None
    fraction = int.from_bytes(sa.host.random_bytes(4), "big") / 2**32
    return value * (1 - jitter * fraction)


def _with_lifetime(sa: IkeSa, child_sa: ChildSa, configuration: ChildConfiguration, now: float) -> Child:
    lifetime: Lifetime = configuration.lifetime
    soft = shortened(sa, lifetime.soft_seconds, lifetime.jitter)
    soft_bytes = shortened(sa, lifetime.soft_bytes, lifetime.jitter)
    soft_packets = shortened(sa, lifetime.soft_packets, lifetime.jitter)
    return Child(
        child_sa,
        configuration,
        soft_at=None if soft is None else now + soft,
        hard_at=None if lifetime.hard_seconds is None else now + lifetime.hard_seconds,
        soft_bytes=None if soft_bytes is None else int(soft_bytes),
        soft_packets=None if soft_packets is None else int(soft_packets),
    )


def _agree(sa: IkeSa, configuration: ChildConfiguration, request: _Request) -> Agreement:
    own_limits = _own_selectors(sa, configuration) if request.old is None else request.old.local_ts
    peer_limits = _peer_selectors(sa, configuration) if request.old is None else request.old.remote_ts
    local_ts, remote_ts = narrow(request.own_ts, own_limits), narrow(request.peer_ts, peer_limits)
    if not local_ts or not remote_ts:
        raise TsUnacceptableError(_explain(request.own_ts, request.peer_ts, own_limits, peer_limits))
    offered, configured = request.proposals, configuration.esp_proposals
    if request.first:
        offered, configured = without_key_exchange(offered), without_key_exchange(configured)
    chosen = select(offered, configured, Protocol.ESP)
    mode = Mode.TRANSPORT if request.transport and configuration.mode == Mode.TRANSPORT else Mode.TUNNEL
    return Agreement(
        configuration,
        esp_suite(chosen),
        chosen,
        sa.host.new_child_spi(sa.session),
        _spi_of(chosen),
        local_ts,
        remote_ts,
        mode,
    )


def _explain(own: Selectors, peer: Selectors, own_limits: Selectors, peer_limits: Selectors) -> str:
    def text(selectors: Selectors) -> str:
        return ", ".join(str(selector) for selector in selectors[:8]) or "nothing"

    return f"the peer offers {text(peer)} to {text(own)}; configured is {text(peer_limits)} to {text(own_limits)}"


def _spi_of(proposal: Proposal) -> int:
    if len(proposal.spi) != _ESP_SPI_SIZE or not any(proposal.spi):
        raise MalformedMessageError("an ESP SPI must have 4 bytes and not be zero")
    return int.from_bytes(proposal.spi, "big")


def _own_selectors(sa: IkeSa, configuration: ChildConfiguration) -> Selectors:
    if configuration.local_ts:
        return configuration.local_ts
    session = sa.session
    if sa.session.connection.request_addresses and sa.handshake is not None and sa.initiator:
        return tuple(_EVERYTHING[version] for version in session.connection.request_addresses)
    return _hosts(session.network.addresses if session.connection.request_addresses else (), session.path.local.host)


def _peer_selectors(sa: IkeSa, configuration: ChildConfiguration) -> Selectors:
    if configuration.remote_ts:
        return configuration.remote_ts
    session = sa.session
    lent = session.network.addresses if session.connection.address_pool is not None else ()
    return _hosts(lent, session.path.remote.host)


def _hosts(virtual: Sequence[IPAddress], outer: IPAddress) -> Selectors:
    return tuple(TrafficSelector.from_host(host) for host in (virtual or (outer,)))
