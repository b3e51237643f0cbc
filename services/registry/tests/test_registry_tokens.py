import hashlib
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from warren_contracts.commands import Role
from warren_registry.domain.tokens import (
    JoinTokenRow,
    OperatorRow,
    PresentedToken,
    new_join_token,
    new_operator_token,
    parse_join_token,
    parse_operator_token,
    recognise,
    require_usable,
)
from warren_registry.errors import JoinTokenRefusedError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = bytes(range(32))


class Counting:
    """Randomness for tests: no two calls give the same bytes."""

    def __init__(self) -> None:
        self._next = count(1)

    def __call__(self, size: int) -> bytes:
        return hashlib.sha512(str(next(self._next)).encode()).digest()[:size]


def row(token: PresentedToken, **changes: object) -> JoinTokenRow:
    values: dict[str, object] = {
        "id": token.id, "digest": token.digest, "tags": ("branch",), "uses": 1, "used": 0, "created_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }  # fmt: skip
    return JoinTokenRow(**{**values, **changes})  # type: ignore[arg-type] - values of a test


def test_a_new_join_token_is_recognised_by_its_text_alone() -> None:
    new = new_join_token(Counting(), ROOT)
    shown = parse_join_token(new.text)
    assert (shown.id, shown.digest) == (new.id, new.digest)
    assert recognise(row(shown), shown).id == new.id


def test_the_row_does_not_hold_the_secret() -> None:
    new = new_join_token(Counting(), ROOT)
    secret = new.text.split("_")[2]
    assert secret not in repr(row(parse_join_token(new.text)))
    assert secret not in repr(new)


@pytest.mark.parametrize("text", ["", "wj1_aaaa", "WJ1_" + "a" * 16 + "_" + "a" * 52 + "_" + "a" * 52, "x" * 1_000_000])
def test_a_malformed_token_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(JoinTokenRefusedError, match="malformed") as refusal:
        parse_join_token(text)
    assert not text or text not in str(refusal.value)


def test_a_token_with_a_line_feed_at_its_end_is_malformed() -> None:
    with pytest.raises(JoinTokenRefusedError, match="malformed"):
        parse_join_token(new_join_token(Counting(), ROOT).text + "\n")


def test_a_known_id_with_another_secret_is_unknown() -> None:
    random = Counting()
    known, other = (parse_join_token(new_join_token(random, ROOT).text) for _ in range(2))
    with pytest.raises(JoinTokenRefusedError, match="unknown"):
        recognise(row(known), PresentedToken(known.id, other.digest))
    with pytest.raises(JoinTokenRefusedError, match="unknown"):
        recognise(None, known)


def test_a_token_ends_by_time_and_by_uses() -> None:
    shown = parse_join_token(new_join_token(Counting(), ROOT).text)
    require_usable(row(shown), NOW)
    with pytest.raises(JoinTokenRefusedError, match="expired"):
        require_usable(row(shown), NOW + timedelta(hours=1))
    with pytest.raises(JoinTokenRefusedError, match="used up"):
        require_usable(row(shown, used=1), NOW)


def test_an_operator_token_is_found_by_the_sha256_of_its_text() -> None:
    new = new_operator_token(Counting(), "admin")
    assert parse_operator_token(new.text) == new.digest == hashlib.sha256(new.text.encode()).digest()
    assert parse_operator_token(new.text + "\n") is None
    assert parse_operator_token("wj1_x") is None


def test_an_operator_token_ends_by_time() -> None:
    forever = OperatorRow("admin", Role.ADMIN, b"", NOW, None)
    assert forever.valid(NOW + timedelta(days=10_000))
    brief = OperatorRow("admin", Role.ADMIN, b"", NOW, NOW + timedelta(minutes=1))
    assert brief.valid(NOW)
    assert not brief.valid(NOW + timedelta(minutes=1))
