"""Which connections the sweep closes."""

from datetime import UTC, datetime

from warren_callout.handlers import CONNECT_BURST, CONNECT_RATE
from warren_registry.peers.model import Peer
from warren_registry.presence.connections import ConnectionKey, PeerConnection
from warren_registry.presence.sweep import INTERVAL, MAX_CONNECTIONS, expired_operators, over_limit, revoked_users

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_the_sweep_finds_users_that_no_row_allows() -> None:
    peers = {
        "a": Peer("a", "UA", (), 1, "t", NOW),
        "b": Peer("b", "UB", (), 2, "t", NOW, revoked_at=NOW),
    }
    assert revoked_users(["a", "b", "UB", "UA", "unknown", "UNEW"], peers) == ("UB", "b", "unknown")


def test_the_sweep_finds_operators_without_a_valid_token() -> None:
    connected = ["op.ann", "op.gone", "op.gone", "op.bob", "strange"]
    assert expired_operators(connected, {"ann", "bob", "never-there"}) == ("op.gone", "strange")


def test_the_sweep_finds_keys_with_too_many_connections() -> None:
    held = [PeerConnection(user, ConnectionKey("N", cid)) for cid, user in enumerate(["a"] * 3 + ["b"] * 4)]
    assert over_limit(held, limit=3) == ("b",)


def test_a_user_within_the_callouts_rate_limit_is_never_over_the_limit() -> None:
    assert MAX_CONNECTIONS >= CONNECT_BURST + CONNECT_RATE * INTERVAL
