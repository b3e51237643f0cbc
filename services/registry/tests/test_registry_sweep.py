"""Which connections the sweep ends, and the pace at which one key may connect."""

from datetime import UTC, datetime

from warren_registry.domain.connections import Connection, ConnectionKey
from warren_registry.domain.pace import ConnectionRateLimiter
from warren_registry.domain.peers import Peer
from warren_registry.workers.connections import crowding, expelled, unwelcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_the_sweep_finds_who_may_not_be_there() -> None:
    peers = {
        "a": Peer("a", "UA", (), 1, "t", NOW),
        "b": Peer("b", "UB", (), 2, "t", NOW, revoked_at=NOW),
    }
    assert unwelcome(["a", "b", "UB", "UA", "stranger", "UNEW"], peers) == ("UB", "b", "stranger")


def test_the_sweep_finds_operators_without_a_valid_token() -> None:
    connected = ["op.ann", "op.gone", "op.gone", "op.bob", "strange"]
    assert expelled(connected, {"ann", "bob", "never-there"}) == ("op.gone", "strange")


def test_the_sweep_finds_keys_with_too_many_connections() -> None:
    held = [Connection(user, ConnectionKey("N", cid)) for cid, user in enumerate(["a"] * 3 + ["b"] * 4)]
    assert crowding(held, limit=3) == ("b",)


def test_one_key_connects_at_its_pace_and_takes_nothing_from_others() -> None:
    pace = ConnectionRateLimiter(burst=3, rate=0.5)
    assert [pace.take("a", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert pace.take("b", 100.0)
    assert [pace.take("a", 102.0) for _ in range(2)] == [True, False]
    assert [pace.take("a", 1_000.0) for _ in range(4)] == [True, True, True, False]
