"""The state of a handshake, which exists until the IKE_SA is established."""

from dataclasses import dataclass, field

from warren_ikev2.auth.eap import EapPeer
from warren_ikev2.auth.eap_server import EapAuthenticator
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import KeGroup, PayloadType, Prf
from warren_ikev2.crypto.groups import Exchange
from warren_ikev2.crypto.keys import IkeKeys, Nonces
from warren_ikev2.crypto.prf import prf
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.wire.header import HEADER_SIZE, Header, build_header
from warren_ikev2.wire.message import Payloads, build_chain, build_generic_header, parse_chain
from warren_ikev2.wire.payloads import CpPayload, IdPayload, NotifyPayload, SaPayload, TsPayload

_NEEDED_AFTER_EAP = (IdPayload, SaPayload, TsPayload, CpPayload, NotifyPayload)


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A request whose response waits for the caller's verdict."""

    message_id: int
    due: float
    """When it is refused without one."""


@dataclass(slots=True, eq=False)
class Handshake:
    """See the module. Messages are as sent, without the non-ESP marker."""

    candidates: tuple[ConnectionConfiguration, ...]
    """The connections that match so far; one as initiator."""
    nonces: Nonces = field(default_factory=lambda: Nonces(b"", b""))
    exchange: Exchange | None = field(default=None, repr=False)
    group: KeGroup = KeGroup.NONE
    cookie: bytes = b""
    attempts: int = 0
    """IKE_SA_INIT requests begun."""
    init_request: bytes = b""
    init_response: bytes = b""
    init_hint: tuple[int, str] | None = None
    """Notify code and reason of an unauthenticated error in the answer."""
    redirected_from: bytes = b""
    ppk: bool = False
    """Both sides announced USE_PPK (RFC 8784)."""
    int_auth_i: bytes = b""
    int_auth_r: bytes = b""
    pending_groups: list[KeGroup] = field(default_factory=list)
    """Pending additional key exchanges in IKE_INTERMEDIATE (RFC 9370)."""
    auth_message_id: int = 1
    id_i: bytes = b""
    """The IDi payload's body."""
    id_r: bytes = b""
    first_request: tuple[int, bytes] = (0, b"")
    """As responder with EAP: the first IKE_AUTH request, for its SA, TS and CP. As bytes, whose size is
    limited: parsed, the selectors of an unauthenticated peer would take 17 times as much."""
    eap_peer: EapPeer | None = None
    eap_authenticator: EapAuthenticator | None = None
    eap_rounds: int = 0
    login: PendingLogin | None = None
    peer_certificate: bytes | None = None
    peer_proof: str | None = None
    """How the peer has authenticated by key or certificate, once verified."""
    ppk_id: bytes | None = None
    """The PPK in use."""

    def store_first_request(self, payloads: Payloads, limit: int) -> None:
        """Store the part of the first IKE_AUTH request that is needed after EAP. AuthenticationError: more than `limit` bytes."""
        self.first_request = build_chain(payload for payload in payloads if isinstance(payload, _NEEDED_AFTER_EAP))
        if len(self.first_request[1]) > limit:
            raise AuthenticationError(
                f"the first IKE_AUTH request has {len(self.first_request[1])} bytes to store during EAP"
            )

    @property
    def first_payloads(self) -> Payloads:
        """The payloads of the stored request."""
        return parse_chain(*self.first_request)

    def add_intermediate(self, algorithm: Prf, keys: IkeKeys, header: Header, first: int, chain: bytes) -> None:
        """Fold an IKE_INTERMEDIATE message into IntAuth, as if it were never fragmented (RFC 9242, 3.3.2)."""
        message = build_header(header, PayloadType.SK, HEADER_SIZE + 4 + len(chain))
        message += build_generic_header(first, len(chain)) + chain
        if header.from_initiator:
            self.int_auth_i = prf(algorithm, keys.pi, self.int_auth_i + message)
        else:
            self.int_auth_r = prf(algorithm, keys.pr, self.int_auth_r + message)

    @property
    def int_auth(self) -> bytes:
        """What IKE_INTERMEDIATE adds to the signed octets; empty without it (RFC 9242, 3.3.1)."""
        if not self.int_auth_i:
            return b""
        return self.int_auth_i + self.int_auth_r + self.auth_message_id.to_bytes(4, "big")
