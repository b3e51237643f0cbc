"""EAP-MSCHAPv2 (RFC 2759; RFC 3079; draft-kamath-pppext-eap-mschapv2): the computations, the packets, and the client.

As client for gateways of others, as server for clients that have nothing better. The NT hash is MD4 of the password, without
salt: who has it can log in.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.crypto.legacy import des_encrypt, md4, sha1
from warren_ikev2.errors import AuthenticationError, MalformedMessageError
from warren_ikev2.wire.reader import ByteReader

CHALLENGE_SIZE = 16
_RESPONSE_SIZE = 49  # peer challenge 16, reserved 8, NT response 24, flags 1
_MAGIC_1 = b"Magic server to client signing constant"  # RFC 2759, 8.7
_MAGIC_2 = b"Pad to make it do more than one iteration"
_MASTER = b"This is the MPPE Master Key"  # RFC 3079, 3.4
_CLIENT_SENDS = b"On the client side, this is the send key; on the server side, it is the receive key."
_CLIENT_RECEIVES = b"On the client side, this is the receive key; on the server side, it is the send key."
_MSK_SIZE = 64


def challenge_hash(peer_challenge: bytes, server_challenge: bytes, user: str) -> bytes:
    """RFC 2759, 8.2."""
    return sha1(peer_challenge, server_challenge, user.encode())[:8]


def password_hash(password: str) -> bytes:
    """RFC 2759, 8.3."""
    return md4(password.encode("utf-16-le"))


def nt_response(server_challenge: bytes, peer_challenge: bytes, user: str, nt_hash: bytes) -> bytes:
    """RFC 2759, 8.1, from the password's hash."""
    challenge = challenge_hash(peer_challenge, server_challenge, user)
    padded = nt_hash + bytes(5)
    return b"".join(des_encrypt(padded[start : start + 7], challenge) for start in (0, 7, 14))


def authenticator_response(
    nt_hash: bytes, response: bytes, peer_challenge: bytes, server_challenge: bytes, user: str
) -> str:
    """Return the expected response of the server (RFC 2759, 8.7)."""
    digest = sha1(md4(nt_hash), response, _MAGIC_1)
    proof = sha1(digest, challenge_hash(peer_challenge, server_challenge, user), _MAGIC_2)
    return "S=" + proof.hex().upper()


def master_session_key(nt_hash: bytes, response: bytes) -> bytes:
    """The MSK: the client's send key (the server's receive key), its receive key, zeros (RFC 3079, 3.4)."""
    master = sha1(md4(nt_hash), response, _MASTER)[:16]
    send, receive = (sha1(master, bytes(40), magic, b"\xf2" * 40)[:16] for magic in (_CLIENT_SENDS, _CLIENT_RECEIVES))
    return (send + receive).ljust(_MSK_SIZE, b"\x00")


class MschapV2Code(IntEnum):
    """The codes of the packets (draft-kamath-pppext-eap-mschapv2, 2)."""

    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


@dataclass(frozen=True, slots=True)
class MschapV2Response:
    """The fields of a response."""

    identifier: int
    peer_challenge: bytes = field(repr=False)
    nt_response: bytes = field(repr=False)
    name: str


def parse_response(data: bytes) -> MschapV2Response:
    """Parse a client's response. MalformedMessageError: another code, or sizes that disagree."""
    reader = ByteReader(data)
    code, identifier, length, size = reader.number(1), reader.number(1), reader.number(2), reader.number(1)
    if code != MschapV2Code.RESPONSE or length != len(data) or size != _RESPONSE_SIZE:
        raise MalformedMessageError("not an MSCHAPv2 response")
    peer_challenge = reader.take(CHALLENGE_SIZE)
    reader.take(8)
    response = reader.take(24)
    reader.take(1)
    return MschapV2Response(identifier, peer_challenge, response, reader.rest().decode("utf-8", "replace"))


def build_challenge(identifier: int, challenge: bytes, name: str) -> bytes:
    """Build the server's challenge."""
    return _packet(MschapV2Code.CHALLENGE, identifier, bytes([len(challenge)]) + challenge + name.encode())


def build_success(identifier: int, message: str) -> bytes:
    """Build the server's proof: `message` as of `authenticator_response`."""
    return _packet(MschapV2Code.SUCCESS, identifier, f"{message} M=OK".encode())


def build_failure(identifier: int, challenge: bytes) -> bytes:
    """Build a failure without another attempt: 691 is ERROR_AUTHENTICATION_FAILURE (RFC 2759, 6)."""
    text = f"E=691 R=0 C={challenge.hex().upper()} V=3 M=invalid user name or password"
    return _packet(MschapV2Code.FAILURE, identifier, text.encode())


def _packet(code: MschapV2Code, identifier: int, body: bytes) -> bytes:
    return bytes([code, identifier]) + (len(body) + 4).to_bytes(2, "big") + body


class MschapV2Peer:
    """The client's three steps: challenge, response, authentication of the server."""

    def __init__(self, user: str, password: str, challenge: bytes) -> None:
        self._user = user
        self._nt_hash = password_hash(password)
        self._peer_challenge = challenge
        self._server_challenge = b""
        self._response = b""
        self.msk: bytes | None = None
        """Set once the server proved that it knows the password."""

    def handle(self, data: bytes) -> bytes:
        """The answer to a request. AuthenticationError: the server does not know the password."""
        reader = ByteReader(data)
        code, identifier = reader.number(1), reader.number(1)
        reader.take(2)
        if code == MschapV2Code.CHALLENGE:
            return self._answer_challenge(identifier, reader)
        if code == MschapV2Code.SUCCESS:
            return self._check_success(reader.rest())
        if code == MschapV2Code.FAILURE:
            return bytes([MschapV2Code.FAILURE])  # EAP Failure follows
        raise MalformedMessageError(f"MSCHAPv2 code {code}")

    def _answer_challenge(self, identifier: int, reader: ByteReader) -> bytes:
        if reader.number(1) != CHALLENGE_SIZE:
            raise MalformedMessageError("an MSCHAPv2 challenge is not 16 bytes long")
        self._server_challenge = reader.take(CHALLENGE_SIZE)
        name = self._user.rsplit("\\", 1)[-1]  # RFC 2759, 4: without the domain in the hash
        self._response = nt_response(self._server_challenge, self._peer_challenge, name, self._nt_hash)
        value = self._peer_challenge + bytes(8) + self._response + b"\x00"
        return _packet(MschapV2Code.RESPONSE, identifier, bytes([len(value)]) + value + self._user.encode())

    def _check_success(self, message: bytes) -> bytes:
        name = self._user.rsplit("\\", 1)[-1]
        expected = authenticator_response(
            self._nt_hash, self._response, self._peer_challenge, self._server_challenge, name
        )
        if not self._response or not bytes_eq(message[: len(expected)], expected.encode()):
            raise AuthenticationError("the server does not know the password")
        self.msk = master_session_key(self._nt_hash, self._response)
        return bytes([MschapV2Code.SUCCESS])
