"""What is read of an authorization request of the server."""

from typing import Any

import pytest

from warren_callout.domain.admission import CLOCK_TOLERANCE_S, AdmissionRefusedError, AuthRequest, parse_request

NONCE = "nonce-of-the-server"


def claims(**changes: Any) -> dict[str, Any]:
    nats = {
        "server_id": {"id": "NSERVER"}, "user_nkey": "UONETIME", "client_info": {"nonce": NONCE},
        "connect_opts": {"nkey": "UKEY", "sig": "SIG", "auth_token": "TOKEN"},
    }  # fmt: skip
    return {"iss": "NSERVER", "aud": "nats-authorization-request", "exp": 100, "nats": nats, **changes}


def test_a_request_of_the_server_is_parsed() -> None:
    for now in (99, 100 + CLOCK_TOLERANCE_S - 1, 100 - 10_000):  # the callout's clock is ahead, or behind
        assert parse_request(claims(), now) == AuthRequest("NSERVER", "UONETIME", "UKEY", "SIG", NONCE, "TOKEN")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 98 - CLOCK_TOLERANCE_S}, "expired 121 s ago: the clocks of nats-server's host and of this one differ"),
        ({"exp": "soon"}, "malformed"),
        ({"aud": "something"}, "not issued by the server"),
        ({"iss": "NOTHER"}, "not issued by the server"),
        ({"nats": {}}, "malformed"),
        ({"nats": []}, "malformed"),
    ],
)
def test_an_invalid_request_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(AdmissionRefusedError, match=reason):
        parse_request(claims(**changes), 99)


def test_a_field_that_is_too_long_or_not_text_is_refused() -> None:
    for odd in ("x" * 513, 5, None, ["x"]):
        request = claims()
        request["nats"]["connect_opts"]["nkey"] = odd
        with pytest.raises(AdmissionRefusedError, match="the field nkey is malformed"):
            parse_request(request, 99)


def test_no_token_shows_in_a_repr() -> None:
    assert "TOKEN" not in repr(parse_request(claims(), 99))
