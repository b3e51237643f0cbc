"""Admission of IKE_SA_INIT requests from unauthenticated peers (RFC 7296, 2.6 and 1.2).

A request is answered again, refused, answered with a cookie, or admitted as a half-open IKE_SA. A response exceeds its request
by a cookie at most, and a refused request leaves no state.
"""

from typing import Protocol

from warren_ikev2.addresses import Datagram, Path
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import IKE_VERSION, NON_ESP_MARKER, ExchangeType, HeaderFlag, NotifyType
from warren_ikev2.cookies import CookieGenerator
from warren_ikev2.errors import (
    IkeError,
    InvalidKePayloadError,
    NoProposalChosenError,
    ProtocolError,
    UnsupportedCriticalPayloadError,
)
from warren_ikev2.events import DatagramDropped, HandshakeFailed, SessionId, SessionRole
from warren_ikev2.exchanges import ike_sa_init
from warren_ikev2.exchanges.redirect import build_gateway
from warren_ikev2.half_open import HalfOpen
from warren_ikev2.handshake import Handshake
from warren_ikev2.ike_sa import IkeSa, IkeSaHost, IkeSession
from warren_ikev2.session import SessionState
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import Message, Payloads, build_message, parse_message
from warren_ikev2.wire.payloads import NoncePayload, NotifyPayload

NO_CONNECTION = "no connection is configured for this address"
_NO_SPI = bytes(8)
MAX_INIT = 8192  # bytes of an IKE_SA_INIT request; charon's largest have about 3,000
UNPROTECTED_PER_SECOND = 10  # notifies of an endpoint outside of any IKE_SA


class AdmissionHost(IkeSaHost, Protocol):
    """What admission needs from its host."""

    half_open: HalfOpen
    cookies: CookieGenerator

    @property
    def size(self) -> int:
        """The number of IKE_SAs."""

    def new_session_id(self) -> SessionId:
        """An unused id."""

    def open_session(self, session: IkeSession) -> None:
        """Register the session of an admitted peer."""


class Admission:
    """The decision on each message that names no IKE_SA of ours."""

    def __init__(self, host: AdmissionHost) -> None:
        self._host = host
        self._counting_since, self._unprotected_sent = float("-inf"), 0

    def handle(self, raw: bytes, header: Header, path: Path, now: float) -> None:
        """Decide on a message that names no SPI of ours. One of an older version of IKE gets no answer (RFC 7296, 2.5)."""
        if header.version >> 4 != IKE_VERSION >> 4:
            self._drop(path, "other-version")
            if header.version > IKE_VERSION and not header.is_response:
                self._send_unprotected(NotifyType.INVALID_MAJOR_VERSION, header, path, now)
        elif header.exchange != ExchangeType.IKE_SA_INIT or header.is_response or header.message_id:
            self._drop(path, "unknown-spi")
            if not header.is_response:
                # so that the peer soon detects that its IKE_SA is gone here (RFC 7296, 2.21.4)
                self._send_unprotected(NotifyType.INVALID_IKE_SPI, header, path, now)
        elif len(raw) > MAX_INIT:
            self._drop(path, "too-long")
        elif not header.from_initiator or header.spi_r != _NO_SPI or header.spi_i == _NO_SPI:
            self._drop(path, "malformed")
        elif (sa := self._host.half_open.find(path.remote, header.spi_i)) is not None:
            self._repeat(sa, raw, path, now)
        else:
            self._examine(raw, header, path, now)

    def _drop(self, path: Path, reason: str) -> None:
        self._host.emit(DatagramDropped(path, reason))

    def _send_unprotected(self, notify: NotifyType, header: Header, path: Path, now: float) -> None:
        """Answer outside of any IKE_SA, with the SPIs, message id and exchange of the request (RFC 7296, 1.5); rate limited."""
        if now - self._counting_since >= 1:
            self._counting_since, self._unprotected_sent = now, 0
        if self._unprotected_sent < UNPROTECTED_PER_SECOND:
            self._unprotected_sent += 1
            flags = HeaderFlag.RESPONSE | (0 if header.from_initiator else HeaderFlag.INITIATOR)
            answer = Header(header.spi_i, header.spi_r, header.exchange, flags, header.message_id)
            self._send(build_message(answer, (NotifyPayload(notify),)), path)

    def _repeat(self, sa: IkeSa, raw: bytes, path: Path, now: float) -> None:
        if sa.handshake is not None and sa.receiving.lowest == 1 and raw == sa.handshake.init_request:
            sa.repeat_response(0, path, now)
        else:
            self._drop(path, "unexpected")

    def _examine(self, raw: bytes, header: Header, path: Path, now: float) -> None:
        try:
            message = parse_message(raw)
            if message.encrypted is not None:
                raise ProtocolError("IKE_SA_INIT is not encrypted")
            self._admit(message, raw, path, now)
        except UnsupportedCriticalPayloadError as error:
            self._refuse(header, path, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, error.data)
        except InvalidKePayloadError as error:
            self._refuse(header, path, NotifyType.INVALID_KE_PAYLOAD, error.group.to_bytes(2, "big"))
        except NoProposalChosenError as error:
            self._report(path, error)
            self._refuse(header, path, NotifyType.NO_PROPOSAL_CHOSEN)
        except IkeError:
            self._drop(path, "malformed")

    def _admit(self, message: Message, raw: bytes, path: Path, now: float) -> None:
        host, header, payloads = self._host, message.header, message.payloads
        nonce = payloads.require(NoncePayload).data
        if host.half_open.demands_cookie(path.remote.host) and not self._has_cookie(payloads, nonce, header, path):
            cookie = host.cookies.generate(nonce, path.remote, header.spi_i, now)
            self._refuse(header, path, NotifyType.COOKIE, cookie)
            return
        if not host.half_open.admits(path.remote.host) or host.size >= host.configuration.limits.ike_sas:
            self._drop(path, "half-open-limit")
            return
        candidates = self._candidates(path)
        if not candidates:
            raise NoProposalChosenError(NO_CONNECTION)
        if not self._redirect(candidates[0], payloads, header, nonce, path):
            self._open(candidates, message, raw, path, now)

    def _has_cookie(self, payloads: Payloads, nonce: bytes, header: Header, path: Path) -> bool:
        cookie = payloads.notify(NotifyType.COOKIE)
        return cookie is not None and self._host.cookies.accepts(cookie.data, nonce, path.remote, header.spi_i)

    def _candidates(self, path: Path) -> tuple[ConnectionConfiguration, ...]:
        remote = path.remote.host
        return tuple(
            connection
            for connection in self._host.configuration.connections
            if not connection.remote_addresses or any(remote in network for network in connection.remote_addresses)
        )

    def _redirect(
        self, connection: ConnectionConfiguration, payloads: Payloads, header: Header, nonce: bytes, path: Path
    ) -> bool:
        """Redirect the peer during IKE_SA_INIT, if configured (RFC 5685, 3)."""
        if connection.redirect_to is None or payloads.notify(NotifyType.REDIRECT_SUPPORTED) is None:
            return False
        self._refuse(header, path, NotifyType.REDIRECT, build_gateway(str(connection.redirect_to), nonce))
        return True

    def _open(
        self, candidates: tuple[ConnectionConfiguration, ...], message: Message, raw: bytes, path: Path, now: float
    ) -> None:
        host = self._host
        session: IkeSession = SessionState(host.new_session_id(), SessionRole.RESPONDER, path, candidates[0])
        sa = IkeSa(host, session, initiator=False, spi_i=message.header.spi_i, spi_r=host.new_ike_spi())
        session.ike_sa = sa
        ike_sa_init.respond(sa, Handshake(candidates), message, raw, now)
        host.open_session(session)
        host.half_open.add(sa)
        host.add(sa)

    def _report(self, path: Path, error: IkeError) -> None:
        session = self._host.new_session_id()
        code = None if error.notify is None else int(error.notify)
        self._host.emit(HandshakeFailed(session, None, path, code, str(error)))

    def _refuse(self, header: Header, path: Path, notify: NotifyType, data: bytes = b"") -> None:
        answer = Header(header.spi_i, _NO_SPI, ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0)
        self._send(build_message(answer, (NotifyPayload(notify, data),)), path)

    def _send(self, message: bytes, path: Path) -> None:
        marker = b"" if path.local.port == self._host.configuration.ike_port else NON_ESP_MARKER
        self._host.send(Datagram(marker + message, path))
