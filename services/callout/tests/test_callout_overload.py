"""A callout that cannot decide in time: it refuses nobody for that."""

import asyncio
import base64
import binascii
from typing import Any

import pytest
from structlog.testing import capture_logs

from warren_callout import handlers
from warren_callout.handlers import Callout
from warren_trust import jwt
from warren_trust.keys import KeyKind, KeyPair

NOW = 1_767_225_600.0
USER = KeyPair.generate(KeyKind.USER)


class ServerKey(KeyPair):
    """Of a nats-server: its kind is N."""

    @property
    def public(self) -> str:
        raw = bytes([13 << 3]) + bytes(self.signing_key.verify_key)
        return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


SERVER = ServerKey(KeyKind.USER, b"s" * 32)


class SlowAuthorizer:
    """Its database hangs."""

    async def decide(self, *_: object, **__: object) -> None:
        await asyncio.Event().wait()


def request() -> bytes:
    key = KeyPair.generate(KeyKind.USER)
    nats = {
        "server_id": {"id": SERVER.public},
        "user_nkey": USER.public,
        "connect_opts": {"nkey": key.public, "sig": base64.b64encode(key.sign(b"nonce")).decode()},
        "client_info": {"nonce": "nonce", "host": "192.0.2.1"},
    }
    claims = {"aud": "nats-authorization-request", "exp": int(NOW) + 5, "nats": nats}
    return jwt.encode(SERVER, claims, int(NOW)).encode()


async def test_what_waited_too_long_gets_no_answer_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends such a connection with "Authentication Timeout": the agent repeats it as one that found no server."""
    monkeypatch.setattr(handlers, "ANSWER_TIMEOUT", 0.01)
    unused: Any = None
    slow: Any = SlowAuthorizer()
    callout = Callout(unused, slow, KeyPair.generate(KeyKind.ACCOUNT), clock=lambda: NOW)
    with capture_logs() as logs:
        assert [await callout.answer(request()) for _ in range(3)] == [None] * 3
    assert [entry["event"] for entry in logs] == ["callout.overloaded"]
