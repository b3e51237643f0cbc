"""EAP inside IKE_AUTH (RFC 3748; RFC 7296, 2.16): the client's and the server's side of a conversation.

The server always authenticates by a signature first, so a password is never sent to an unauthenticated peer. Methods that derive
no key (GTC) leave `msk` empty; AUTH then uses SK_pi and SK_pr.
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from warren_ikev2.auth.mschapv2 import MschapV2Peer
from warren_ikev2.credentials import EapGtcAuth, EapGtcTrust, EapMschapv2Auth
from warren_ikev2.errors import AuthenticationError, MalformedMessageError
from warren_ikev2.wire.reader import ByteReader

MAX_FIELD = 1024  # bytes of a user's name or password


class EapCode(IntEnum):
    """RFC 3748, 4."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(IntEnum):
    """RFC 3748, 5; 26: draft-kamath-pppext-eap-mschapv2."""

    IDENTITY = 1
    NOTIFICATION = 2
    NAK = 3
    GTC = 6
    MSCHAPV2 = 26


@dataclass(frozen=True, slots=True)
class EapPacket:
    """One packet."""

    code: int
    identifier: int
    type: int | None = None
    """None in Success and Failure."""
    data: bytes = field(default=b"", repr=False)


def parse_eap(data: bytes) -> EapPacket:
    """MalformedMessageError: lengths disagree."""
    reader = ByteReader(data)
    code, identifier, length = reader.number(1), reader.number(1), reader.number(2)
    if length != len(data):
        raise MalformedMessageError("the length field of the EAP packet is invalid")
    if code in (EapCode.SUCCESS, EapCode.FAILURE):
        return EapPacket(code, identifier)
    return EapPacket(code, identifier, reader.number(1), reader.rest())


def build_eap(packet: EapPacket) -> bytes:
    """The packet's bytes."""
    body = b"" if packet.type is None else bytes([packet.type]) + packet.data
    return bytes([packet.code, packet.identifier]) + (len(body) + 4).to_bytes(2, "big") + body


class EapPeer:
    """The client. It answers requests until Success."""

    def __init__(self, auth: EapGtcAuth | EapMschapv2Auth, challenge: bytes) -> None:
        self._auth = auth
        self._mschap = MschapV2Peer(auth.user, auth.password, challenge) if isinstance(auth, EapMschapv2Auth) else None
        self.name = "eap-gtc" if self._mschap is None else "eap-mschapv2"
        self.succeeded = False

    @property
    def msk(self) -> bytes | None:
        """The method's key, if it derives one."""
        return self._mschap.msk if self._mschap is not None else None

    def handle(self, packet: EapPacket) -> EapPacket | None:
        """The response, or None after Success. AuthenticationError: the server refused, or violates the method."""
        if packet.code == EapCode.SUCCESS:
            if self._mschap is not None and self._mschap.msk is None:
                raise AuthenticationError("the server ends EAP before it has proved knowledge of the password")
            self.succeeded = True
            return None
        if packet.code != EapCode.REQUEST:
            raise AuthenticationError("the server refuses the user's name or password")
        kind, data = self._respond(packet)
        return EapPacket(EapCode.RESPONSE, packet.identifier, kind, data)

    def _respond(self, packet: EapPacket) -> tuple[EapType, bytes]:
        if packet.type == EapType.IDENTITY:
            return EapType.IDENTITY, self._auth.user.encode()
        if packet.type == EapType.NOTIFICATION:
            return EapType.NOTIFICATION, b""
        if packet.type == EapType.GTC and self._mschap is None:
            return EapType.GTC, self._auth.password.encode()
        if packet.type == EapType.MSCHAPV2 and self._mschap is not None:
            return EapType.MSCHAPV2, self._mschap.handle(packet.data)
        return EapType.NAK, bytes([EapType.GTC if self._mschap is None else EapType.MSCHAPV2])


class Round(Enum):
    """The state of the server's conversation."""

    IDENTITY = "identity"
    PASSWORD = "password"  # noqa: S105 - the name of a round
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class EapAuthenticator:
    """The server: identity, then EAP-GTC (RFC 3748, 5.6)."""

    name = "eap-gtc"

    def __init__(self, trust: EapGtcTrust, first_identifier: int) -> None:
        self._trust = trust
        self._identifier = first_identifier & 0xFF
        self._round = Round.IDENTITY
        self.user: str | None = None
        """Proven once `succeeded`."""

    @property
    def succeeded(self) -> bool:
        """Whether the user proved the password."""
        return self._round == Round.SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the conversation is over without success."""
        return self._round == Round.FAILED

    def start(self) -> EapPacket:
        """The first request."""
        return EapPacket(EapCode.REQUEST, self._identifier, EapType.IDENTITY)

    def handle(self, packet: EapPacket) -> EapPacket:
        """The next request, Success or Failure."""
        if packet.code != EapCode.RESPONSE or packet.identifier != self._identifier or len(packet.data) > MAX_FIELD:
            return self._fail()
        if self._round == Round.IDENTITY and packet.type == EapType.IDENTITY:
            self.user = packet.data.decode("utf-8", "replace")
            self._round = Round.PASSWORD
            self._identifier = (self._identifier + 1) & 0xFF
            return EapPacket(EapCode.REQUEST, self._identifier, EapType.GTC, b"Password: ")
        if self._round == Round.PASSWORD and packet.type == EapType.GTC and self._accepts(packet.data):
            self._round = Round.SUCCEEDED
            return EapPacket(EapCode.SUCCESS, self._identifier)
        return self._fail()

    def _accepts(self, data: bytes) -> bool:
        return self.user is not None and self._trust.verify(self.user, data.decode("utf-8", "replace")) is True

    def _fail(self) -> EapPacket:
        self._round = Round.FAILED
        return EapPacket(EapCode.FAILURE, self._identifier)
