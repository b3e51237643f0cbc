import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from warren_contracts.tokens import (
    JoinTokenRefusedError,
    PresentedToken,
    TrustAnchors,
    new_join_token,
    new_operator_token,
    parse_join_token,
    parse_operator_token,
    require_usable,
    trust_anchors,
    verify_join_token,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = bytes(range(32))


class Counting:
    """Randomness for tests: no two calls give the same bytes."""

    def __init__(self) -> None:
        self._next = count(1)

    def __call__(self, size: int) -> bytes:
        return hashlib.sha512(str(next(self._next)).encode()).digest()[:size]


@dataclass
class Stored:
    id: str
    digest: bytes
    uses: int = 1
    used: int = 0
    expires_at: datetime = NOW + timedelta(hours=1)


def row(token: PresentedToken, used: int = 0) -> Stored:
    return Stored(token.id, token.digest, used=used)


def test_a_new_join_token_is_verified_by_its_text() -> None:
    new = new_join_token(Counting(), ROOT)
    presented = parse_join_token(new.text)
    assert (presented.id, presented.digest) == (new.id, new.digest)
    assert verify_join_token(row(presented), presented).id == new.id


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


@pytest.mark.parametrize("authority", [None, bytes(range(32, 64))])
def test_a_token_names_by_what_a_host_verifies_its_fleet(authority: bytes | None) -> None:
    new = new_join_token(Counting(), ROOT, authority)
    assert trust_anchors(new.text) == TrustAnchors(ROOT, authority)
    assert parse_join_token(new.text).id == new.id


def test_any_mistyped_character_is_found_before_the_token_is_sent() -> None:
    text = new_join_token(Counting(), ROOT, ROOT).text
    for place in range(4, len(text)):
        if text[place] != "_":
            other = text[:place] + ("a" if text[place] != "a" else "b") + text[place + 1 :]
            with pytest.raises(JoinTokenRefusedError, match="mistyped"):
                trust_anchors(other)


def test_a_known_id_with_another_secret_is_unknown() -> None:
    random = Counting()
    known, other = (parse_join_token(new_join_token(random, ROOT).text) for _ in range(2))
    with pytest.raises(JoinTokenRefusedError, match="unknown"):
        verify_join_token(row(known), PresentedToken(known.id, other.digest))
    with pytest.raises(JoinTokenRefusedError, match="unknown"):
        verify_join_token(None, known)


def test_a_token_ends_by_time_and_by_uses() -> None:
    presented = parse_join_token(new_join_token(Counting(), ROOT).text)
    require_usable(row(presented), NOW)
    with pytest.raises(JoinTokenRefusedError, match="expired"):
        require_usable(row(presented), NOW + timedelta(hours=1))
    with pytest.raises(JoinTokenRefusedError, match="used up"):
        require_usable(row(presented, used=1), NOW)


def test_an_operator_token_is_found_by_the_sha256_of_its_text() -> None:
    new = new_operator_token(Counting(), "admin")
    assert parse_operator_token(new.text) == new.digest == hashlib.sha256(new.text.encode()).digest()
    assert parse_operator_token(new.text + "\n") is None
    assert parse_operator_token("wj1_x") is None
