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


NONCE = b"n" * 24
SEALED = b"xkv1" + bytes(servers_box().encrypt(b"request", NONCE))


@pytest.mark.parametrize(
    ("sealed", "server"),
    [
        pytest.param(b"eyJ0eXAi", SERVER_KEY, id="in clear"),
        pytest.param(b"", SERVER_KEY, id="empty"),
        pytest.param(b"xkv1", SERVER_KEY, id="nothing sealed"),
        pytest.param(
            b"xkv1" + bytes(servers_box(KeyPair(KeyKind.ACCOUNT, b"o" * 32)).encrypt(b"request", NONCE)), SERVER_KEY,
            id="for another callout",
        ),
        pytest.param(SEALED[:-1], SERVER_KEY, id="cut"),
        pytest.param(SEALED, "", id="of no server"),
        pytest.param(SEALED, KeyPair(KeyKind.USER, b"u" * 32).public, id="a key of another kind"),
    ],
)  # fmt: skip
def test_any_other_request_is_refused_by_type(sealed: bytes, server: str) -> None:
    with pytest.raises(InvalidTokenError):
        CalloutBox(ISSUER).open(sealed, server)
