"""EAP-MSCHAPv2 as client, for gateways of others (RFC 2759; RFC 3079; draft-kamath-pppext-eap-mschapv2)."""

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.crypto.legacy import des_encrypt, md4, sha1
from warren_ikev2.errors import AuthenticationError, MalformedMessageError
from warren_ikev2.wire.reader import ByteReader

_CHALLENGE, _RESPONSE, _SUCCESS, _FAILURE = 1, 2, 3, 4
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


def nt_response(server_challenge: bytes, peer_challenge: bytes, user: str, password: str) -> bytes:
    """RFC 2759, 8.1."""
    challenge = challenge_hash(peer_challenge, server_challenge, user)
    padded = password_hash(password) + bytes(5)
    return b"".join(des_encrypt(padded[start : start + 7], challenge) for start in (0, 7, 14))


def authenticator_response(
    password: str, response: bytes, peer_challenge: bytes, server_challenge: bytes, user: str
) -> str:
    """Return the expected response of the server (RFC 2759, 8.7)."""
    digest = sha1(md4(password_hash(password)), response, _MAGIC_1)
    proof = sha1(digest, challenge_hash(peer_challenge, server_challenge, user), _MAGIC_2)
    return "S=" + proof.hex().upper()


def master_session_key(password: str, response: bytes) -> bytes:
    """The MSK: the client's send key (the server's receive key), its receive key, zeros (RFC 3079, 3.4)."""
    master = sha1(md4(password_hash(password)), response, _MASTER)[:16]
    send, receive = (sha1(master, bytes(40), magic, b"\xf2" * 40)[:16] for magic in (_CLIENT_SENDS, _CLIENT_RECEIVES))
    return (send + receive).ljust(_MSK_SIZE, b"\x00")


class MschapV2Peer:
    """The client's three steps: challenge, response, authentication of the server."""

    def __init__(self, user: str, password: str, challenge: bytes) -> None:
        self._user = user
        self._password = password
        self._peer_challenge = challenge
        self._server_challenge = b""
        self._response = b""
        self.msk: bytes | None = None
        """Set once the server proved that it knows the password."""

    def handle(self, data: bytes) -> bytes:
        """The answer to a request. AuthenticationError: refused, or the server does not know the password."""
        reader = ByteReader(data)
        code, identifier = reader.number(1), reader.number(1)
        reader.take(2)
        if code == _CHALLENGE:
            return self._answer_challenge(identifier, reader)
        if code == _SUCCESS:
            return self._check_success(reader.rest())
        if code == _FAILURE:
            raise AuthenticationError("the server refuses the user's name or password")
        raise MalformedMessageError(f"MSCHAPv2 code {code}")

    def _answer_challenge(self, identifier: int, reader: ByteReader) -> bytes:
        if reader.number(1) != 16:
            raise MalformedMessageError("an MSCHAPv2 challenge is not 16 bytes long")
        self._server_challenge = reader.take(16)
        name = self._user.rsplit("\\", 1)[-1]  # RFC 2759, 4: without the domain in the hash
        self._response = nt_response(self._server_challenge, self._peer_challenge, name, self._password)
        value = self._peer_challenge + bytes(8) + self._response + b"\x00"
        body = bytes([len(value)]) + value + self._user.encode()
        return bytes([_RESPONSE, identifier]) + (len(body) + 4).to_bytes(2, "big") + body

    def _check_success(self, message: bytes) -> bytes:
        name = self._user.rsplit("\\", 1)[-1]
        expected = authenticator_response(
            self._password, self._response, self._peer_challenge, self._server_challenge, name
        )
        if not self._response or not bytes_eq(message[: len(expected)], expected.encode()):
            raise AuthenticationError("the server does not know the password")
        self.msk = master_session_key(self._password, self._response)
        return bytes([_SUCCESS])
