"""Health probes of the API server: connections of a kind of their own."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from warren_bus.probe_token import build_probe_token
from warren_callout.authorizer import Authorizer
from warren_callout.domain.admission import OPS, AdmissionRefusedError, AuthRequest
from warren_callout.domain.credential_cache import CredentialCache
from warren_trust.keys import KeyKind, KeyPair, call_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONCE = "nonce-of-the-server"
API = call_key(KeyPair.generate(KeyKind.USER))


class NoRows:
    """A probe needs no row: it is answered while PostgreSQL is unavailable, too."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} was read")


@pytest.fixture
def key() -> KeyPair:
    return KeyPair.generate(KeyKind.USER)


def authorizer(prober: str = API.public_base64) -> Authorizer:
    rows: Any = NoRows()
    return Authorizer(rows, CredentialCache(), prober=prober)


def request_of(key: KeyPair, token: str) -> AuthRequest:
    signature = base64.b64encode(key.sign(NONCE.encode())).decode()
    return AuthRequest("N", "U", nkey=key.public, signature=signature, nonce=NONCE, token=token)


@pytest.mark.parametrize("suspected", [False, True])
async def test_a_probe_is_admitted_for_seconds_and_may_do_nothing(key: KeyPair, suspected: bool) -> None:
    probe = request_of(key, build_probe_token(API, key.public))
    grant = await authorizer().decide(probe, NOW, suspected=suspected)
    assert (grant.account, grant.name, grant.expires_at) == (OPS, "probe", NOW + timedelta(seconds=5))
    assert grant.permissions.publish == grant.permissions.subscribe == ("$WARREN.probe",)


async def test_a_probe_that_the_api_server_did_not_sign_is_refused(key: KeyPair) -> None:
    other = KeyPair.generate(KeyKind.USER)
    right = build_probe_token(API, key.public)
    for token in (
        build_probe_token(API, other.public),  # of another connection
        build_probe_token(call_key(other), key.public),
        right.replace("probe1_", "probe1_A"),
        "probe1_",
        "probe1_!",
        "probe1_" + "A" * 88,
    ):
        with pytest.raises(AdmissionRefusedError, match="not signed by the API server"):
            await authorizer().decide(request_of(key, token), NOW)
    with pytest.raises(AdmissionRefusedError, match="not signed by the API server"):
        await authorizer(prober="").decide(request_of(key, right), NOW)
    with pytest.raises(AdmissionRefusedError, match="invalid signature over the nonce"):
        await authorizer().decide(replace(request_of(other, right), nkey=key.public), NOW)
