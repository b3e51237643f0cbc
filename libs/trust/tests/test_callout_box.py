"""The sealed requests of the auth callout."""

import pytest
from nacl.public import Box, PrivateKey, PublicKey

from warren_trust.callout_box import CalloutBox
from warren_trust.errors import InvalidTokenError
from warren_trust.keys import KeyKind, KeyPair, box_seed, encode_public

ISSUER = KeyPair(KeyKind.ACCOUNT, b"i" * 32)
SERVER = PrivateKey(b"s" * 32)
SERVER_KEY = encode_public(KeyKind.CURVE, bytes(SERVER.public_key))


def servers_box(issuer: KeyPair = ISSUER) -> Box:
    return Box(SERVER, PublicKey(bytes(PrivateKey(box_seed(issuer)).public_key)))


def test_a_request_is_opened_and_its_response_is_for_the_server_only() -> None:
    box = CalloutBox(ISSUER)
    assert box.open(b"xkv1" + bytes(servers_box().encrypt(b"request")), SERVER_KEY) == b"request"
    sealed = box.seal(b"response", SERVER_KEY)
    assert b"response" not in sealed
    assert servers_box().decrypt(sealed.removeprefix(b"xkv1")) == b"response"


@pytest.mark.parametrize(
    ("sealed", "server"),
    [
        (b"eyJ0eXAi", SERVER_KEY),  # in clear
        (b"", SERVER_KEY),
        (b"xkv1", SERVER_KEY),
        (b"xkv1" + bytes(servers_box(KeyPair(KeyKind.ACCOUNT, b"o" * 32)).encrypt(b"request")), SERVER_KEY),
        (b"xkv1" + bytes(servers_box().encrypt(b"request"))[:-1], SERVER_KEY),
        (b"xkv1" + bytes(servers_box().encrypt(b"request")), ""),
        (b"xkv1" + bytes(servers_box().encrypt(b"request")), KeyPair(KeyKind.USER, b"u" * 32).public),
    ],
)
def test_any_other_request_is_refused_by_type(sealed: bytes, server: str) -> None:
    with pytest.raises(InvalidTokenError):
        CalloutBox(ISSUER).open(sealed, server)
