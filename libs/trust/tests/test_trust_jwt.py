"""Tokens of the authorization callout: what it writes, what it reads, and what it refuses."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.commands import Role
from warren_service import permissions
from warren_trust import jwt
from warren_trust.errors import InvalidTokenError
from warren_trust.keys import KeyKind, KeyPair

ISSUER = KeyPair(KeyKind.ACCOUNT, bytes(range(32)))
USER = KeyPair(KeyKind.USER, bytes(range(1, 33)))


def test_token_round_trips_and_names_its_issuer() -> None:
    claims = jwt.decode(jwt.encode(ISSUER, {"sub": "x"}, 1_700_000_000).encode(), "A")
    assert (claims["sub"], claims["iss"], claims["iat"]) == ("x", ISSUER.public, 1_700_000_000)
    assert len(claims["jti"]) == 52


def test_changed_token_is_refused() -> None:
    header, body, signature = jwt.encode(ISSUER, {"sub": "x"}, 1).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "y"}).encode()).rstrip(b"=").decode()
    with pytest.raises(InvalidTokenError):
        jwt.decode(f"{header}.{forged}.{signature}".encode(), "A")


def test_issuer_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidTokenError):
        jwt.decode(jwt.encode(ISSUER, {"sub": "x"}, 1).encode(), "N")


@given(
    raw=st.one_of(
        st.binary(max_size=200),
        st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}").map(str.encode),
    )
)
def test_hostile_tokens_are_refused_by_type(raw: bytes) -> None:
    with pytest.raises(InvalidTokenError):
        jwt.decode(raw)


def test_user_token_expires_never_and_grants_what_it_says() -> None:
    rights = permissions.agent("gw1", ("hub",))
    claims = jwt.decode(jwt.user_token(ISSUER, USER.public, "gw1", "AGENTS", rights.claims(), 5).encode(), "A")
    assert "exp" not in claims  # a client whose token expires is closed for good (c8)
    assert (claims["name"], claims["aud"], claims["sub"]) == ("gw1", "AGENTS", USER.public)
    assert claims["nats"]["pub"]["allow"] == list(rights.publish)
    assert claims["nats"]["sub"]["allow"] == list(rights.subscribe)


def test_user_token_ends_where_its_owner_does() -> None:
    rights = permissions.operator("ann", Role.VIEWER).claims()
    token = jwt.user_token(ISSUER, USER.public, "op.ann", "OPS", rights, 5, expires_at=65)
    assert jwt.decode(token.encode(), "A")["exp"] == 65


def test_refusal_carries_no_user() -> None:
    claims = jwt.decode(jwt.response_token(ISSUER, USER.public, "NSERVER", 5, error="unknown").encode(), "A")
    assert claims["nats"]["error"] == "unknown"
    assert "jwt" not in claims["nats"]


@pytest.mark.parametrize("encode", [base64.b64encode, lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")])
def test_nonce_is_accepted_in_both_encodings_that_clients_use(encode: object) -> None:
    assert callable(encode)
    for number in range(8):  # signatures with + and / among them
        nonce = f"nonce-{number}"
        jwt.verify_nonce(USER.public, nonce, encode(USER.sign(nonce.encode())).decode())


@pytest.mark.parametrize("signature", ["", "x", "A" * 86, "A" * 88, base64.b64encode(USER.sign(b"other")).decode()])
def test_nonce_without_a_right_signature_is_refused(signature: str) -> None:
    with pytest.raises(InvalidTokenError):
        jwt.verify_nonce(USER.public, "nonce", signature)


@pytest.mark.parametrize("nkey", ["", "U", ISSUER.public, USER.public[:-1] + "A"])
def test_nonce_of_what_is_no_user_is_refused(nkey: str) -> None:
    with pytest.raises(InvalidTokenError):
        jwt.verify_nonce(nkey, "nonce", base64.b64encode(USER.sign(b"nonce")).decode())
