"""EAP inside IKE_AUTH (RFC 3748; RFC 7296, 2.16): packets, and the client's side of a conversation.

The server always authenticates by a signature first, so a password is never sent to an unauthenticated peer. Methods that derive
no key (GTC) leave `msk` empty; AUTH then uses SK_pi and SK_pr. The server's side is in `eap_server`.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from warren_ikev2.auth.mschapv2 import MschapV2Peer
from warren_ikev2.credentials import EapGtcAuth, EapMschapv2Auth
from warren_ikev2.errors import AuthenticationError, MalformedMessageError
from warren_ikev2.wire.reader import ByteReader


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
            refused = packet.code == EapCode.FAILURE
            raise AuthenticationError("the server refuses the user's name or password", by_peer=refused)
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
